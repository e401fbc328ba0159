"""Where a sampler looks: how often its tokens meet a region, against chance.

Regions are given as the share of each token's cube that they cover, so that a token half on an object counts half.
Shapes: `B` clips, `N` tokens, `R` regions.
"""

import torch
from scipy.stats import spearmanr
from torch import Tensor

from lib.errors import UserError

LEAST_AREA = 0.01  # a region that covers less of a clip is not counted there: the ratio would be noise


def times_chance(weights: Tensor, shares: Tensor, least_area: float = LEAST_AREA) -> Tensor:
    """How much more often than uniform draws do draws with `weights` meet each region: (B, N), (B, N, R) -> (B, R).

    weights: probabilities or counts, not negative, in any scale. 1 is chance; 1 / area is the most there can be. NaN
    where a region covers less than `least_area` of the clip, or where a clip has no weight at all.
    Raises UserError for shapes that do not fit and negative weights.
    """
    if weights.shape != shares.shape[:2] or shares.ndim != 3:
        raise UserError(f"weights {tuple(weights.shape)} and shares {tuple(shares.shape)} must be (B, N) and (B, N, R)")
    if weights.min() < 0:
        raise UserError(f"a weight is {weights.min():g}: weights must not be negative")
    weights, shares = weights.double(), shares.double()
    area = shares.mean(dim=1)
    met = torch.einsum("bn,bnr->br", weights, shares) / weights.sum(dim=1, keepdim=True)
    return torch.where(area >= least_area, met / area, torch.nan).float()


def rank_agreement(first: Tensor, second: Tensor, where: Tensor | None = None) -> Tensor:
    """Spearman correlation of two values per token, clip by clip: (B, N) twice -> (B,).

    where: bool (B, N), the tokens that count. NaN where a value does not vary. UserError for unequal shapes.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise UserError(f"shapes {tuple(first.shape)} and {tuple(second.shape)} must both be (B, N)")
    where = torch.ones_like(first, dtype=torch.bool) if where is None else where
    rows = []
    for a, b, chosen in zip(first.cpu(), second.cpu(), where.cpu(), strict=True):
        a, b = a[chosen].numpy(), b[chosen].numpy()
        varied = len(a) > 1 and a.min() < a.max() and b.min() < b.max()
        rows.append(float(spearmanr(a, b).statistic) if varied else float("nan"))
    return torch.tensor(rows)
