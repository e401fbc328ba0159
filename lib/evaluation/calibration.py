"""Is a predicted spread as large as the errors? Reliability curve, calibration error, sharpness, recalibration.

Reliability is quantile coverage (Kuleshov et al. 2018, section 3.2): a fraction p of the truths should lie below the
predicted p-quantile, that is, have a PIT (see `proper_scores`) of at most p. A constant spread can be perfectly
calibrated. Recalibration must be fitted on other images than the measured ones. Shapes: `I` images, `L` levels.
"""

import math

import numpy as np
import torch
from torch import Tensor

from lib.errors import UserError
from lib.evaluation.proper_scores import check_positive, checked

LEVELS = torch.arange(1, 100, dtype=torch.float64) / 100


def coverage(pit: Tensor) -> Tensor:
    """Fraction of each image's PITs at most each of LEVELS, (I, ...) -> float64 (I, L); their mean is the curve."""
    rows = _checked_pit(pit).reshape(len(pit), -1).sort(dim=1).values
    counts = torch.searchsorted(rows, LEVELS.expand(len(rows), -1).contiguous(), right=True)
    return counts.double() / rows.shape[1]


def expected_calibration_error(observed: Tensor) -> Tensor:
    """Mean over LEVELS of |observed - nominal| coverage, a mean over images: (I, L) -> (), 0 to about 0.5.

    Normal truth and a spread s times too large or small: |arctan s - pi / 4| / pi, 0.102 for 2.
    """
    return (observed.mean(dim=0) - LEVELS).abs().mean()


def _checked_pit(pit: Tensor) -> Tensor:
    (pit,) = checked(pit=pit)
    if pit.min() < 0 or pit.max() > 1:
        raise UserError(f"PITs are {pit.min():g} to {pit.max():g}, outside 0..1: give a distribution function's values")
    return pit


def sharpness(variance: Tensor) -> float:
    """Root of the mean predicted variance, in the target's units: (...) -> above 0. Compare at equal calibration."""
    (variance,) = checked(variance=variance)
    check_positive("variance", variance)
    return math.sqrt(variance.mean())


def fit_scale(error: Tensor, variance: Tensor) -> float:
    """The factor s on sigma with the least Gaussian NLL on held-out (...) errors: s^2 = mean(error^2 / variance)."""
    error, variance = checked(error=error, variance=variance)
    check_positive("variance", variance)
    scale = math.sqrt((error.square() / variance).mean())
    if scale == 0:
        raise UserError("every held-out error is 0: no spread fits that; look at what is compared")
    return scale


def isotonic_recalibration(held_out: Tensor, pit: Tensor) -> Tensor:
    """PITs (...) mapped to the fraction of held-out PITs (...) that were at most as large: float64, 0 to 1.

    Algorithm 1 of Kuleshov et al. fits isotonic regression to the pairs (PIT, empirical distribution function of the
    PITs). Those rise already, so the fit passes through them all; in between it is linear.
    """
    levels, counts = _checked_pit(held_out).unique(return_counts=True)
    fractions = counts.cumsum(0).double() / counts.sum()
    # it starts at (0, 0) and ends at (1, 1), unless a PIT lies there
    zero, one = levels.new_zeros(1)[levels[:1] > 0], levels.new_ones(1)[levels[-1:] < 1]
    levels, fractions = (torch.cat([zero, values, one]) for values in (levels, fractions))
    return torch.as_tensor(np.interp(_checked_pit(pit).numpy(), levels.numpy(), fractions.numpy()))
