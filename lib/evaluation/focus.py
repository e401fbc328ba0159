"""Where a sampler looks: how often its tokens meet a region, against chance.

Regions are the fraction of each token's cube that they cover, so that a token half on an object counts half. Shapes:
`B` clips, `N` tokens, `R` regions.
"""

import torch
from scipy.stats import spearmanr
from torch import Tensor

from lib.errors import UserError

LEAST_AREA = 0.01  # a region that covers less of a clip is not counted there: the ratio would be noise


def times_chance(weights: Tensor, cover: Tensor) -> Tensor:
    """How much more often than uniform draws do draws with `weights` meet each region: (B, N), (B, N, R) -> (B, R).

    weights: probabilities or counts in any scale. 1 is chance; 1 / area is the most there can be. NaN where a region
    covers less than LEAST_AREA of the clip, or where a clip has no weight at all.
    """
    if weights.shape != cover.shape[:2] or cover.ndim != 3:
        raise UserError(f"weights {tuple(weights.shape)} and cover {tuple(cover.shape)} must be (B, N) and (B, N, R)")
    if weights.min() < 0:
        raise UserError(f"a weight is {weights.min():g}: weights must not be negative")
    weights, cover = weights.double(), cover.double()
    area = cover.mean(dim=1)
    met = torch.einsum("bn,bnr->br", weights, cover) / weights.sum(dim=1, keepdim=True)
    return torch.where(area >= LEAST_AREA, met / area, torch.nan).float()


def rank_agreement(first: Tensor, second: Tensor, where: Tensor) -> Tensor:
    """Spearman correlation of two values per token where bool (B, N) says so: (B, N) three times -> (B,).

    NaN where a value does not vary.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise UserError(f"shapes {tuple(first.shape)} and {tuple(second.shape)} must both be (B, N)")
    rows = []
    for a, b, chosen in zip(first.cpu(), second.cpu(), where.cpu(), strict=True):
        a, b = a[chosen].numpy(), b[chosen].numpy()
        varied = len(a) > 1 and a.min() < a.max() and b.min() < b.max()
        rows.append(float(spearmanr(a, b).statistic) if varied else float("nan"))
    return torch.tensor(rows)
