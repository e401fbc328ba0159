"""Proper scores of predicted distributions, and where the truth falls in them (probability integral transform).

Gneiting and Raftery 2007: the negative log-likelihood (NLL) and the continuous ranked probability score (CRPS) are
least, in expectation, for the true distribution. NLL is in nats and punishes far misses without bound; CRPS is in the
target's units, and is the absolute error when there is no spread. Mixtures are what ensembles predict; Student's t is
what evidential regression predicts.

Each function is elementwise. All measures of uncertainty compute in float64 on the CPU, whatever they are given: single
precision loses far tails and long sums.

Shapes: `...` any, one shape for all arguments (nothing is broadcast); `M` members of a mixture, all of weight 1 / M.
"""

import math

import torch
from scipy.special import stdtr
from torch import Tensor

from lib.errors import UserError


def checked(**named: Tensor) -> list[Tensor]:
    """The tensors in float64 on the CPU, detached, in the order given.

    Raises UserError when their shapes differ, they are empty, or a value is not finite.
    """
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
    """Raises UserError unless every value is above 0."""
    if (values <= 0).any():
        raise UserError(f"{name} must be above 0, the smallest is {values.min():g}: use a floor such as 1e-6")


def _standardised(target: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Standard score and standard deviation; checks all three."""
    target, mean, variance = checked(target=target, mean=mean, variance=variance)
    check_positive("variance", variance)
    sigma = variance.sqrt()
    return (target - mean) / sigma, sigma


def _members(target: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """The target once for each member, (M, ...); UserError when there is no member or the shapes do not fit."""
    if means.ndim != target.ndim + 1 or not len(means) or means.shape[1:] != target.shape:
        raise UserError(f"means of members are {tuple(means.shape)}, target {tuple(target.shape)}; expected (M, ...)")
    return target.expand_as(means)


def gaussian_nll(target: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """-log N(target; mean, variance) in nats, with its constant: (...) three times -> float64 (...).

    Raises UserError for shapes that differ, nothing at all, values that are not finite, and variances not above 0.
    """
    z, sigma = _standardised(target, mean, variance)
    return 0.5 * z.square() + sigma.log() + 0.5 * math.log(2 * math.pi)


def gaussian_crps(target: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """CRPS of N(mean, variance), in the target's units: (...) three times -> float64 (...).

    sigma * (z * (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)) (Gneiting et al. 2005). Errors as `gaussian_nll`.
    """
    z, sigma = _standardised(target, mean, variance)
    return sigma * (_mean_distance(z, torch.ones_like(z)) - 1 / math.sqrt(math.pi))


def gaussian_pit(target: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Phi((target - mean) / sigma), 0 to 1: (...) three times -> float64 (...). Errors as `gaussian_nll`."""
    return torch.special.ndtr(_standardised(target, mean, variance)[0])


def mixture_nll(target: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """-log of the mean density of M Gaussians: target (...), means and variances (M, ...) -> float64 (...).

    Raises UserError as `gaussian_nll`, and when there is no member.
    """
    members = gaussian_nll(_members(target, means, variances), means, variances)
    return math.log(len(members)) - torch.logsumexp(-members, dim=0)


def mixture_crps(target: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """CRPS of a mixture of M Gaussians: target (...), means and variances (M, ...) -> float64 (...).

    E|X - target| - E|X - X'| / 2, each in closed form for Gaussians (Grimit et al. 2006); M^2 / 2 passes over the
    data. Errors as `mixture_nll`.
    """
    names = {"target": _members(target, means, variances), "means": means, "variances": variances}
    targets, means, variances = checked(**names)
    check_positive("variances", variances)
    members = len(means)
    score = _mean_distance(targets - means, variances.sqrt()).mean(dim=0)
    for i in range(members):
        for j in range(i + 1):  # each pair of different members stands for two
            between = _mean_distance(means[i] - means[j], (variances[i] + variances[j]).sqrt())
            score -= between * (0.5 if i == j else 1.0) / members**2
    return score


def mixture_pit(target: Tensor, means: Tensor, variances: Tensor) -> Tensor:
    """The mixture's distribution function at the target: (...), (M, ...) twice -> float64 (...), 0 to 1.

    Errors as `mixture_nll`.
    """
    return gaussian_pit(_members(target, means, variances), means, variances).mean(dim=0)


def _mean_distance(offset: Tensor, sigma: Tensor) -> Tensor:
    """E|offset + sigma * Z| for standard normal Z."""
    z = offset / sigma
    density = torch.exp(-0.5 * z.square()) / math.sqrt(2 * math.pi)
    return 2 * sigma * density + offset * torch.special.erf(z / math.sqrt(2))


def student_t_nll(target: Tensor, location: Tensor, squared_scale: Tensor, degrees: Tensor) -> Tensor:
    """-log of Student's t density in nats: (...) four times -> float64 (...).

    Evidential regression (Amini et al. 2020) with gamma, nu, alpha, beta predicts location gamma, squared scale
    beta * (1 + nu) / (nu * alpha) and 2 * alpha degrees of freedom. The variance, squared scale * degrees /
    (degrees - 2), is larger than the squared scale. Errors as `gaussian_nll`, degrees must be above 0 too.
    """
    z, scale, degrees = _student_t(target, location, squared_scale, degrees)
    constant = torch.lgamma(degrees / 2) - torch.lgamma((degrees + 1) / 2) + 0.5 * (degrees * math.pi).log()
    return constant + scale.log() + (degrees + 1) / 2 * torch.log1p(z.square() / degrees)


def student_t_pit(target: Tensor, location: Tensor, squared_scale: Tensor, degrees: Tensor) -> Tensor:
    """Student's t distribution function at the target: (...) four times -> float64 (...), 0 to 1.

    Arguments and errors as `student_t_nll`.
    """
    z, _, degrees = _student_t(target, location, squared_scale, degrees)
    return torch.as_tensor(stdtr(degrees.numpy(), z.numpy()))


def _student_t(target: Tensor, location: Tensor, squared_scale: Tensor, degrees: Tensor) -> tuple[Tensor, ...]:
    target, location, squared_scale, degrees = checked(
        target=target, location=location, squared_scale=squared_scale, degrees=degrees
    )
    check_positive("squared_scale", squared_scale)
    check_positive("degrees", degrees)
    scale = squared_scale.sqrt()
    return (target - location) / scale, scale, degrees
