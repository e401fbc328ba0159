"""Does a higher uncertainty mean a larger error? Sparsification, AUSE, rank correlation, AUROC.

Sparsification (Ilg et al. 2018) removes the most uncertain values first and looks at the mean error of the rest; an
oracle removes the largest errors first. AUSE is the area between the two. A random order leaves the mean error as it
is, in expectation, so its AUSE is known, and a ratio to it tells what the uncertainty is worth: 0 for the oracle, 1 for
no knowledge, above 1 for worse than none. Errors are squared or absolute, as the caller chooses: say which.

Only the order of uncertainties counts: standard deviations and variances give the same. Equal uncertainties count as
their mean over all orders, so that a constant gives a random order's result exactly: AUSE ratio 1, Spearman 0, AUROC
0.5.

Shapes: `I` images, `n` values an image (patches or pixels), `B` batch, `N` patches, `...` any. Values of one image are
not independent: a row is an image, and intervals resample rows (`intervals.bootstrap`).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lib.errors import UserError
from lib.evaluation.proper_scores import checked


def of_hidden(values: Tensor, hidden: Tensor) -> Tensor:
    """The values of each sample's hidden patches, in their order: (B, N, ...), bool (B, N) -> (B, n, ...).

    Raises UserError when the shapes do not fit, nothing is hidden, or samples hide different numbers of patches.
    """
    if hidden.dtype != torch.bool or hidden.ndim != 2 or values.shape[:2] != hidden.shape:
        raise UserError(
            f"values are {tuple(values.shape)}, hidden {hidden.dtype} {tuple(hidden.shape)}; "
            "expected (B, N, ...) and bool (B, N)"
        )
    counts = hidden.sum(dim=1).unique().tolist()
    if counts == [0] or not counts:
        raise UserError("nothing is hidden: there is no prediction to judge")
    if len(counts) > 1:
        raise UserError(f"samples hide {counts[0]} to {counts[-1]} patches: take those with equal masks together")
    return values[hidden].reshape(len(values), counts[0], *values.shape[2:])


class Sparsification(NamedTuple):
    """Mean remaining error of each image, relative to its mean over all values."""

    removed: Tensor
    """(n,) float64, share of values removed, from 0 to 1 - 1 / n."""
    curve: Tensor
    """(I, n) float64, most uncertain removed first."""
    oracle: Tensor
    """(I, n) float64, largest error removed first: no curve is below it."""

    @property
    def ause(self) -> Tensor:
        """(I,) float64, area between curve and oracle; 0 for an order as good as the oracle's."""
        return (self.curve - self.oracle).mean(dim=1)

    @property
    def random_ause(self) -> Tensor:
        """(I,) float64, the expected AUSE of a random order, whose curve is 1 throughout."""
        return (1 - self.oracle).mean(dim=1)

    @property
    def ratio(self) -> float:
        """Mean AUSE of the images over that of a random order; NaN if all errors of every image are equal."""
        return float(self.ause.mean() / self.random_ause.mean())


def sparsification(error: Tensor, uncertainty: Tensor) -> Sparsification:
    """Both curves for each image: error >= 0 and uncertainty (I, n) each. One row of everything pools the images.

    Raises UserError for shapes that differ or are not (I, n), values that are not finite, errors below 0, and an image
    without any error, whose curve is undefined.
    """
    error, uncertainty = checked(error=error, uncertainty=uncertainty)
    if error.ndim != 2:
        raise UserError(f"error is {tuple(error.shape)}; expected (images, values)")
    if error.min() < 0:
        raise UserError(f"an error is {error.min():g}: give squared or absolute errors")
    mean = error.mean(dim=1, keepdim=True)
    if (mean == 0).any():
        raise UserError(f"image {int((mean == 0).flatten().int().argmax())} has no error at all: leave it out")
    n = error.shape[1]
    curves = [_mean_of_the_rest(error / mean, key) for key in (uncertainty, error)]
    return Sparsification(torch.arange(n, dtype=torch.float64) / n, *curves)


def _mean_of_the_rest(error: Tensor, key: Tensor) -> Tensor:
    """Mean error after 0, 1, ... n - 1 values of largest key are removed: (I, n) twice -> (I, n)."""
    ordered, order = key.sort(dim=1)
    kept = _mean_of_equals(ordered, error.gather(1, order)).cumsum(dim=1)
    return (kept / torch.arange(1, error.shape[1] + 1)).flip(1)


def _mean_of_equals(ordered: Tensor, values: Tensor) -> Tensor:
    """Each value replaced by the mean over its row's equal keys: ordered keys and values (I, n) -> (I, n)."""
    starts = torch.nn.functional.pad(ordered[:, 1:] != ordered[:, :-1], (1, 0))
    group = starts.cumsum(dim=1)
    sums = torch.zeros_like(values).scatter_add(1, group, values)
    sizes = torch.zeros_like(values).scatter_add(1, group, torch.ones_like(values))
    return sums.gather(1, group) / sizes.gather(1, group)


def average_ranks(values: Tensor) -> Tensor:
    """Ranks from 0 within each row, equal values sharing their mean rank: (I, n) -> float64 (I, n)."""
    ordered, order = values.sort(dim=1)
    places = torch.arange(values.shape[1], dtype=torch.float64).expand_as(order)
    return torch.empty_like(places).scatter(1, order, _mean_of_equals(ordered, places))


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Rank correlation over the last dimension: (..., n) twice -> float64 (...), -1 to 1.

    (I, n) gives one an image, whose mean says whether uncertainty finds the errors within an image; flattened, images
    are pooled, and knowing which image is hard counts too. Where one side is constant the result is 0, not NaN.
    Raises UserError for shapes that differ, values that are not finite, or fewer than 2 in a row.
    """
    first, second = checked(first=first, second=second)
    if not first.ndim or first.shape[-1] < 2:
        raise UserError(f"values are {tuple(first.shape)}: a rank correlation needs 2 or more in the last dimension")
    n = first.shape[-1]
    x, y = (average_ranks(values.reshape(-1, n)) - (n - 1) / 2 for values in (first, second))
    spread = (x.square().sum(dim=1) * y.square().sum(dim=1)).sqrt()
    correlation = torch.where(spread > 0, (x * y).sum(dim=1) / spread.clamp(min=0.25), 0.0)
    return correlation.reshape(first.shape[:-1])


def auroc(score: Tensor, positive: Tensor) -> float:
    """Probability that a positive has a higher score than a negative, equal scores counting half: (...), bool (...).

    All values are pooled. Raises UserError for shapes that differ, scores that are not finite, or when positives or
    negatives are missing.
    """
    if positive.dtype != torch.bool:
        raise UserError(f"positive is {positive.dtype}: give bool, True where the score should be high")
    score, positive = (values.flatten() for values in checked(score=score, positive=positive))
    positives, total = int(positive.sum()), len(positive)
    if not 0 < positives < total:
        raise UserError(f"{positives} of {total} values are positive: AUROC compares positives with negatives")
    rank_sum = (average_ranks(score[None])[0] * positive).sum()
    wins = rank_sum - positives * (positives - 1) / 2
    return float(wins / positives / (total - positives))
