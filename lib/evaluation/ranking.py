"""Does a higher uncertainty mean a larger error? Sparsification, AUSE, rank correlation, AUROC.

Only the order of uncertainties counts. Equal ones count as their mean over all orders, so that a constant gives just a
random order's result: AUSE ratio 1, Spearman 0, AUROC 0.5. Shapes: `I` images, `n` values an image (patches or pixels),
`B` batch, `N` patches, `D` values a patch.
"""

from typing import NamedTuple

import torch
from scipy.stats import rankdata
from torch import Tensor

from lib.errors import UserError
from lib.evaluation.proper_scores import checked


def of_hidden(values: Tensor, hidden: Tensor) -> Tensor:
    """The values of each sample's hidden patches, in their order: (B, N, ...), bool (B, N) -> (B, n, ...)."""
    if hidden.dtype != torch.bool or hidden.ndim != 2 or values.shape[:2] != hidden.shape:
        shapes = f"values are {tuple(values.shape)}, hidden {hidden.dtype} {tuple(hidden.shape)}"
        raise UserError(f"{shapes}; expected (B, N, ...) and bool (B, N)")
    counts = hidden.sum(dim=1).unique().tolist()
    if counts == [0] or not counts:
        raise UserError("nothing is hidden: there is no prediction to evaluate")
    if len(counts) > 1:
        raise UserError(f"samples hide {counts[0]} to {counts[-1]} patches: take those with equal masks together")
    return values[hidden].reshape(len(values), counts[0], *values.shape[2:])


class PatchRanks(NamedTuple):
    """What patches are ranked by, (I, n) float64 each: root of the mean variance, and mean errors."""

    sigma: Tensor
    squared_error: Tensor
    absolute_error: Tensor


def patch_ranks(target: Tensor, mean: Tensor, variance: Tensor) -> PatchRanks:
    """Sigma and errors of patches, the unit that is masked, from their values: (I, n, D) three times."""
    target, mean, variance = checked(target=target, mean=mean, variance=variance)
    if target.ndim != 3:
        raise UserError(f"target is {tuple(target.shape)}; expected (images, patches, values)")
    if variance.min() < 0:
        raise UserError(f"a variance is {variance.min():g}, below 0")
    error = target - mean
    return PatchRanks(variance.mean(dim=2).sqrt(), error.square().mean(dim=2), error.abs().mean(dim=2))


class Sparsification(NamedTuple):
    """Mean remaining error of each image, relative to its mean over all values (Ilg et al. 2018)."""

    removed: Tensor  # (n,) float64, fraction of values removed, from 0 to 1 - 1 / n
    curve: Tensor  # (I, n) float64, most uncertain removed first
    oracle: Tensor  # (I, n) float64, largest error removed first: no curve is below it

    @property
    def ause(self) -> Tensor:
        """(I,), area between curve and oracle: 0 is the oracle's order."""
        return (self.curve - self.oracle).mean(dim=1)

    @property
    def random_ause(self) -> Tensor:
        """(I,), the expected AUSE of a random order, whose curve is 1 throughout."""
        return (1 - self.oracle).mean(dim=1)


def sparsification(error: Tensor, uncertainty: Tensor) -> Sparsification:
    """Both curves for each image: error >= 0 and uncertainty (I, n) each. One row of everything pools the images."""
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
    # each error is replaced by the mean over its row's equal keys
    group = torch.nn.functional.pad(ordered[:, 1:] != ordered[:, :-1], (1, 0)).cumsum(dim=1)
    sums = torch.zeros_like(error).scatter_add(1, group, error.gather(1, order))
    sizes = torch.zeros_like(error).scatter_add(1, group, torch.ones_like(error))
    rest = (sums.gather(1, group) / sizes.gather(1, group)).cumsum(dim=1)
    return (rest / torch.arange(1, error.shape[1] + 1)).flip(1)


def spearman(first: Tensor, second: Tensor) -> Tensor:
    """Rank correlation over the last dimension: (..., n) twice -> float64 (...); 0, not NaN, where one is constant."""
    first, second = checked(first=first, second=second)
    if not first.ndim or first.shape[-1] < 2:
        raise UserError(f"values are {tuple(first.shape)}: a rank correlation needs 2 or more in the last dimension")
    middle = (first.shape[-1] + 1) / 2
    x, y = (torch.from_numpy(rankdata(values.numpy(), axis=-1)) - middle for values in (first, second))
    spread = (x.square().sum(dim=-1) * y.square().sum(dim=-1)).sqrt()
    return torch.where(spread > 0, (x * y).sum(dim=-1) / spread.clamp(min=0.25), 0.0)


def auroc(score: Tensor, positive: Tensor) -> float:
    """Probability that a positive has a higher score than a negative, equal scores counting half: (...), bool (...)."""
    if positive.dtype != torch.bool:
        raise UserError(f"positive is {positive.dtype}: give bool, True where the score should be high")
    score, positive = (values.flatten() for values in checked(score=score, positive=positive))
    positives, total = int(positive.sum()), len(positive)
    if not 0 < positives < total:
        raise UserError(f"{positives} of {total} values are positive: AUROC compares positives with negatives")
    rank_sum = float(rankdata(score.numpy()) @ positive.numpy())
    wins = rank_sum - positives * (positives + 1) / 2
    return wins / positives / (total - positives)
