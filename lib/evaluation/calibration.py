"""Is a predicted spread as large as the errors? Reliability curve, calibration errors, sharpness, recalibration.

Reliability is **quantile coverage** (Kuleshov et al. 2018, section 3.2): of the truths, a share p should lie below
the predicted p-quantile, that is, have a probability integral transform (PIT) of at most p. `central` turns PITs into
levels of central intervals, for the same functions: a share p should lie inside the central interval of level p. A
spread that is wrong by one factor costs twice as much there, a shifted mean little. Say which one a number is.

ENCE follows Levi et al. 2022. A constant spread can be perfectly calibrated: look at the ranking and sharpness too.
Recalibration is fitted on images that the measured ones do not contain; nothing here can check that.

Shapes: `I` images, `L` levels, `b` bins, `...` any. PITs come from `proper_scores`.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lib.errors import UserError
from lib.evaluation.proper_scores import check_positive, checked

LEVELS = torch.arange(1, 100, dtype=torch.float64) / 100


def central(pit: Tensor) -> Tensor:
    """Level of the smallest central interval that holds the truth, |2 * pit - 1|: (...) -> float64 (...)."""
    return (2 * _checked_pit(pit) - 1).abs()


def coverage(pit: Tensor, levels: Tensor = LEVELS) -> Tensor:
    """Share of each image's values whose PIT is at most the level: (I, ...) -> float64 (I, L).

    The mean over images is the reliability curve, observed against nominal `levels`; images are kept apart so that
    they can be resampled. `levels`: (L,) rising, inside (0, 1).
    Raises UserError for PITs outside 0..1, none at all, or levels that are not as said.
    """
    levels = levels.double()
    if not len(levels) or levels[0] <= 0 or levels[-1] >= 1 or (levels.diff() <= 0).any():
        raise UserError("levels must rise and lie between 0 and 1, without both: for example 0.05, 0.10, ... 0.95")
    rows = _checked_pit(pit).reshape(len(pit), -1)
    first = torch.bucketize(rows, levels)  # the first level that is at least the PIT; L where there is none
    slots = len(levels) + 1
    first += torch.arange(len(rows))[:, None] * slots
    counts = torch.bincount(first.flatten(), minlength=len(rows) * slots).reshape(len(rows), slots)
    return counts[:, :-1].cumsum(dim=1).double() / rows.shape[1]


def expected_calibration_error(pit: Tensor, levels: Tensor = LEVELS) -> float:
    """Mean over the levels of |observed - nominal| coverage, all values pooled: (...) -> 0 to about 0.5.

    Normal truth and a spread s times too large or small: (|arctan s - pi / 4|) / pi, 0.102 for 2; twice that for
    `central(pit)`. Errors as `coverage`.
    """
    observed = coverage(pit.reshape(1, -1), levels)[0]
    return float((observed - levels.double()).abs().mean())


def _checked_pit(pit: Tensor) -> Tensor:
    (pit,) = checked(pit=pit)
    if pit.min() < 0 or pit.max() > 1:
        raise UserError(f"PITs are {pit.min():g} to {pit.max():g}, outside 0..1: give a distribution function's values")
    return pit


class BinnedError(NamedTuple):
    """Predicted and true spread of the values in each bin, least uncertain first."""

    sigma: Tensor
    """(b,) float64, root of the mean variance."""
    rmse: Tensor
    """(b,) float64, root of the mean squared error."""
    count: Tensor
    """(b,) int64, values in the bin."""


def binned_error(error: Tensor, variance: Tensor, bins: int = 10) -> BinnedError:
    """Predicted spread against true error in bins of about equally many values, by predicted variance.

    error (target - mean) and variance: (...) each, pooled. Equal variances share a bin, so that the order of the input
    does not matter; bins left without a value are dropped, and a constant variance makes one.
    Raises UserError as `proper_scores.gaussian_nll`, and for bins below 1.
    """
    error, variance = (values.flatten() for values in checked(error=error, variance=variance))
    check_positive("variance", variance)
    if bins < 1:
        raise UserError(f"bins must be 1 or more, not {bins}")
    _, group, size = variance.unique(return_inverse=True, return_counts=True)
    middle = size.cumsum(0) - (size.double() + 1) / 2  # mean rank of equal values, from 0
    place = (middle * bins / len(variance)).long()[group]
    count = torch.bincount(place, minlength=bins)
    means = [torch.bincount(place, values, bins) / count for values in (variance, error.square())]
    sigma, rmse = (values[count > 0].sqrt() for values in means)
    return BinnedError(sigma, rmse, count[count > 0])


def expected_normalised_calibration_error(error: Tensor, variance: Tensor, bins: int = 10) -> float:
    """ENCE: mean over bins of |rmse - sigma| / sigma, 0 when calibrated; a spread s times too large: 1 - 1 / s.

    Arguments and errors as `binned_error`.
    """
    binned = binned_error(error, variance, bins)
    return float(((binned.rmse - binned.sigma).abs() / binned.sigma).mean())


def sharpness(variance: Tensor) -> float:
    """Root of the mean predicted variance, in the target's units: (...) -> above 0. Compare at equal calibration.

    Raises UserError for none, values that are not finite, and variances not above 0.
    """
    (variance,) = checked(variance=variance)
    check_positive("variance", variance)
    return math.sqrt(variance.mean())


def fit_scale(error: Tensor, variance: Tensor) -> float:
    """The factor s on sigma that is best for the held-out Gaussian NLL: use `s**2 * variance` from then on.

    In closed form s^2 = mean(error^2 / variance). error (target - mean) and variance: (...) each.
    Raises UserError as `proper_scores.gaussian_nll`, and when every error is 0, which no spread above 0 fits.
    """
    error, variance = checked(error=error, variance=variance)
    check_positive("variance", variance)
    scale = math.sqrt((error.square() / variance).mean())
    if scale == 0:
        raise UserError("every held-out error is 0: no spread fits that; look at what is compared")
    return scale


class IsotonicRecalibration:
    """Kuleshov's recalibration: a rising map of PITs to the share of held-out PITs that were at most as large.

    Algorithm 1 fits isotonic regression to the pairs (PIT, empirical distribution function of the PITs). Those rise
    already, so the fit passes through them all; between them, and to (0, 0) and (1, 1), it is linear. It changes the
    shape of the distributions as well as their width, but cannot reorder uncertainties.

    Raises UserError for PITs outside 0..1 or none at all.
    """

    def __init__(self, held_out_pit: Tensor):
        """`held_out_pit`: (...) of the predictions before recalibration, on held-out images."""
        levels, counts = _checked_pit(held_out_pit).unique(return_counts=True)
        shares = counts.cumsum(0).double() / counts.sum()
        lower, upper = levels[:1] > 0, levels[-1:] < 1  # ends that no PIT occupies
        zero, one = levels.new_zeros(1), levels.new_ones(1)
        self._levels = torch.cat([zero[lower], levels, one[upper]]).numpy()
        self._shares = torch.cat([zero[lower], shares, one[upper]]).numpy()

    def __call__(self, pit: Tensor) -> Tensor:
        """Recalibrated PITs: (...) -> float64 (...), 0 to 1. Errors as the constructor."""
        return torch.as_tensor(np.interp(_checked_pit(pit).numpy(), self._levels, self._shares))
