"""Proper scores of predicted distributions, and where the truth falls in them (probability integral transform).

The negative log-likelihood (NLL) and the continuous ranked probability score (CRPS) are least, in expectation, for the
true distribution (Gneiting and Raftery 2007). All measures of uncertainty compute in float64 on the CPU: single
precision loses far tails and long sums. Nothing is broadcast: all arguments have one shape.
"""

import math

import torch
from torch import Tensor

from lib.errors import UserError


def checked(**named: Tensor) -> list[Tensor]:
    """The tensors in float64 on the CPU, detached; they must have one shape, a value, and finite values alone."""
    shapes = {name: tuple(values.shape) for name, values in named.items()}
    if len(set(shapes.values())) > 1:
        raise UserError(f"shapes differ: {', '.join(f'{name} {shape}' for name, shape in shapes.items())}; give one")
    if not next(iter(named.values())).numel():
        raise UserError(f"{' and '.join(named)} are empty: nothing is hidden, or nothing was chosen")
    for name, values in named.items():
        if not values.isfinite().all():
            raise UserError(f"{name} holds NaN or infinity: look at the model or its precision")
    return [values.detach().cpu().double() for values in named.values()]


def check_positive(name: str, values: Tensor) -> None:
    """Every value must be above 0."""
    if (values <= 0).any():
        raise UserError(f"{name} must be above 0, the smallest is {values.min():g}: use a floor such as 1e-6")


def _standardised(target: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Standard score and standard deviation."""
    target, mean, variance = checked(target=target, mean=mean, variance=variance)
    check_positive("variance", variance)
    sigma = variance.sqrt()
    return (target - mean) / sigma, sigma


def gaussian_nll(target: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """-log N(target; mean, variance) in nats, with its constant: (...) three times -> float64 (...)."""
    z, sigma = _standardised(target, mean, variance)
    return 0.5 * z.square() + sigma.log() + 0.5 * math.log(2 * math.pi)


def gaussian_crps(target: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """CRPS of N(mean, variance) in the target's units (Gneiting et al. 2005): (...) three times -> float64 (...)."""
    z, sigma = _standardised(target, mean, variance)
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    return sigma * (2 * density + z * torch.special.erf(z / math.sqrt(2)) - 1 / math.sqrt(math.pi))


def gaussian_pit(target: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Phi((target - mean) / sigma), 0 to 1: (...) three times -> float64 (...)."""
    return torch.special.ndtr(_standardised(target, mean, variance)[0])
