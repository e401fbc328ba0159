"""Evidential regression on the SiamMAE decoder (Amini et al. 2020, arXiv 1910.02600), the contested one.

Each value's Gaussian has an unknown mean and variance; the model gives their joint distribution, a normal-inverse-gamma
with gamma (the prediction), nu and alpha (how many samples, so to speak, stand behind the mean and the variance) and
beta. Contested, because the likelihood, a Student-t, has three numbers for the model's four: every nu with the same
beta * (1 + nu) / nu and alpha fits alike. The regulariser and the start of training split the total variance, not the
data (Meinert et al. 2023, arXiv 2205.10060; Bengs et al. 2022, arXiv 2203.06102): trust the total more than the parts.
"""

import math

import torch.nn.functional as F
from torch import Tensor

from lib.errors import UserError
from lib.models.variance_heads import DistributionSiamMAE

FLOOR = 1e-4  # softplus can underflow; alpha - 1 and nu are divisors


def nig_nll(error: Tensor, nu: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """Minus log-likelihood of a value at `error` from gamma, in nats; shapes broadcast.

    It is that of a Student-t with 2 alpha degrees of freedom and squared scale beta (1 + nu) / (nu alpha).
    """
    omega = 2 * beta * (1 + nu)
    return (
        0.5 * (math.pi / nu).log()
        - alpha * omega.log()
        + (alpha + 0.5) * (nu * error.square() + omega).log()
        + alpha.lgamma()
        - (alpha + 0.5).lgamma()
    )


def nig_regularizer(error: Tensor, nu: Tensor, alpha: Tensor) -> Tensor:
    """Absolute error times the evidence: being sure and wrong costs."""
    return error.abs() * (2 * nu + alpha)


class EvidentialSiamMAE(DistributionSiamMAE):
    """SiamMAE with a normal-inverse-gamma for each value; nu, alpha, beta are shared by a pixel's three colours.

    Logged besides: nll (the Student-t's, in nats a value) and regularizer, over hidden patches. It starts with an
    aleatoric variance of 1. `evidential_weight`, of the regulariser, is the authors' for small regression problems.
    """

    maps = 3

    def __init__(self, evidential_weight: float = 0.01, **distribution):
        super().__init__(**distribution)
        if evidential_weight < 0:
            raise UserError(f"evidential weight {evidential_weight} is negative: use for example 0.01")
        self.architecture["evidential_weight"] = self.evidential_weight = evidential_weight

    def value_losses(self, mean: Tensor, maps: tuple[Tensor, ...], target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Likelihood and regulariser; logs nll and regularizer."""
        nu, excess, beta = evidence(maps)
        error = target - mean
        nll, regularizer = nig_nll(error, nu, 1 + excess, beta), nig_regularizer(error, nu, 1 + excess)
        return nll + self.evidential_weight * regularizer, {"nll": nll.detach(), "regularizer": regularizer.detach()}

    def variances(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """beta / (alpha - 1) and beta / (nu (alpha - 1))."""
        nu, excess, beta = evidence(maps)
        aleatoric = beta / excess
        return aleatoric, aleatoric / nu


def evidence(maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """nu, alpha - 1 and beta of three raw maps of any shape: softplus, and at least FLOOR.

    alpha - 1 rather than alpha, because it is a divisor and 1 + 1e-4 keeps few of its digits.
    """
    return tuple(F.softplus(raw) + FLOOR for raw in maps)
