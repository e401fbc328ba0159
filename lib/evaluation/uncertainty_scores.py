"""All measures of one uncertainty estimate, as a row of a table.

Elementwise measures (NLL, CRPS, calibration, sharpness) look at every predicted value. Ranking looks at patches, the
unit that is masked: a patch's error is the mean of its values' squared or absolute errors, its sigma the root of its
values' mean variance.

Shapes: `I` images, `n` hidden patches an image, `D` = P*P*C values a patch.
"""

from typing import NamedTuple

from torch import Tensor

from lib.errors import UserError
from lib.evaluation import calibration, proper_scores, ranking


class PatchRanks(NamedTuple):
    """What ranking is computed from, (I, n) float64 each."""

    sigma: Tensor
    squared_error: Tensor
    absolute_error: Tensor


def patch_ranks(target: Tensor, mean: Tensor, variance: Tensor) -> PatchRanks:
    """Sigma and errors of patches from their values: (I, n, D) three times.

    Raises UserError for shapes that differ or are not (I, n, D), none at all, values that are not finite, and variances
    below 0 (0 ranks lowest).
    """
    target, mean, variance = proper_scores.checked(target=target, mean=mean, variance=variance)
    if target.ndim != 3:
        raise UserError(f"target is {tuple(target.shape)}; expected (images, patches, values)")
    if variance.min() < 0:
        raise UserError(f"a variance is {variance.min():g}, below 0")
    error = target - mean
    return PatchRanks(variance.mean(dim=2).sqrt(), error.square().mean(dim=2), error.abs().mean(dim=2))


def uncertainty_scores(target: Tensor, mean: Tensor, variance: Tensor) -> dict[str, float]:
    """Every measure of a Gaussian prediction: target, mean and variance (I, n, D) each, of hidden patches.

    `nll` (nats a value), `crps`, `sharpness`, `rmse` (target's units); `ece` (quantile coverage), `ece_central`,
    `ence`; `spearman` of sigma and absolute error, per image, then averaged, `spearman_squared` with the squared error,
    `spearman_pooled` (absolute, over all images' patches at once); `ause` and `ause_ratio` for squared errors,
    `ause_absolute` and `ause_absolute_ratio`, per image. The ratio is to a random order's AUSE.
    Raises UserError as the measures do.
    """
    nll = proper_scores.gaussian_nll(target, mean, variance)
    pit = proper_scores.gaussian_pit(target, mean, variance)
    ranks = patch_ranks(target, mean, variance)
    squared = ranking.sparsification(ranks.squared_error, ranks.sigma)
    absolute = ranking.sparsification(ranks.absolute_error, ranks.sigma)
    error = target - mean
    return {
        "nll": float(nll.mean()),
        "crps": float(proper_scores.gaussian_crps(target, mean, variance).mean()),
        "sharpness": calibration.sharpness(variance),
        "rmse": float(ranks.squared_error.mean().sqrt()),
        "ece": calibration.expected_calibration_error(pit),
        "ece_central": calibration.expected_calibration_error(calibration.central(pit)),
        "ence": calibration.expected_normalised_calibration_error(error, variance),
        "spearman": float(ranking.spearman(ranks.sigma, ranks.absolute_error).mean()),
        "spearman_squared": float(ranking.spearman(ranks.sigma, ranks.squared_error).mean()),
        "spearman_pooled": float(ranking.spearman(ranks.sigma.flatten(), ranks.absolute_error.flatten())),
        "ause": float(squared.ause.mean()),
        "ause_ratio": squared.ratio,
        "ause_absolute": float(absolute.ause.mean()),
        "ause_absolute_ratio": absolute.ratio,
    }
