"""Which patches a model sees. Masking is index arithmetic: keep, hide, put back in order.

Follows MAE (arXiv 2111.06377, section 3, "simple implementation"); tubes and frames as VideoMAE (arXiv 2203.12602)
and AdaMAE (arXiv 2211.09120, Table 1a) compare them.

A strategy is called as `strategy(tokens, grid)` and returns a Mask. The fixed ones here look at the tokens' shape
alone; a learned one looks at the tokens (lib.models.adaptive_sampler.AdaptiveSampler).

Shapes: `B` batch, `N` patches, `K` kept (visible) patches, `D` token width. In a mask, True means hidden. A video's
patches are cubes on a grid (s, h, w): s times h*w places, numbered time by time; a single frame's grid is (1, h, w).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from lib.errors import UserError, unknown

Grid = tuple[int, int, int]


class Mask(NamedTuple):
    """A choice of visible patches for each sample.

    keep: int64 (B, K), the visible patches in the order in which the encoder sees them.
    restore: int64 (B, N), where each patch stands in [visible, hidden] order.
    hidden: bool (B, N), True where the patch is hidden.
    """

    keep: Tensor
    restore: Tensor
    hidden: Tensor


def num_visible(num_patches: int, mask_ratio: float, what: str = "patches", remedy: str = "smaller patches") -> int:
    """Visible patches at `mask_ratio`: int(N * (1 - ratio)), truncated as in MAE: 196 at 0.95 leave 9.

    UserError when the ratio is outside (0, 1), or leaves nothing visible; `what` and `remedy` are words for it.
    """
    if not 0 < mask_ratio < 1:
        raise UserError(f"mask_ratio {mask_ratio} is outside (0, 1): use for example 0.95 for SiamMAE, 0.75 for MAE")
    visible = int(num_patches * (1 - mask_ratio) + 1e-9)  # 20 * (1 - 0.95) is 0.99999... in floats
    if visible == 0:
        raise UserError(f"mask_ratio {mask_ratio} hides all {num_patches} {what}: lower it or use {remedy}")
    return visible


def mask_from_noise(noise: Tensor, visible: int) -> Mask:
    """Keep the `visible` patches with the smallest noise: (B, N) -> Mask. The random part stays with the caller."""
    order = noise.argsort(dim=1)
    restore = order.argsort(dim=1)
    return Mask(keep=order[:, :visible], restore=restore, hidden=restore >= visible)


def random_mask(batch: int, num_patches: int, mask_ratio: float, device: torch.device | str = "cpu") -> Mask:
    """A uniformly random mask, drawn for each sample apart, from PyTorch's global generator of `device`."""
    noise = torch.rand(batch, num_patches, device=device)
    return mask_from_noise(noise, num_visible(num_patches, mask_ratio))


def random_masking(tokens: Tensor, grid: Grid, mask_ratio: float) -> Mask:
    """`random_mask` as a strategy: int(N * (1 - ratio)) visible places anywhere, drawn for each sample apart."""
    return random_mask(len(tokens), tokens.shape[1], mask_ratio, tokens.device)


def tube_masking(tokens: Tensor, grid: Grid, mask_ratio: float) -> Mask:
    """The same random places visible at all times, drawn for each sample apart.

    Whole columns: s * int(h*w * (1 - ratio)) visible tokens. 8 x 14 x 14 at 0.95 keep 8 * 9 = 72, not 78. UserError
    when no column is left.
    """
    s, h, w = grid
    columns = num_visible(h * w, mask_ratio, "places")
    ranks = torch.rand(len(tokens), 1, h * w, device=tokens.device).argsort(dim=2).argsort(dim=2)
    return mask_from_noise(ranks.expand(-1, s, -1).flatten(1), s * columns)


def frame_masking(tokens: Tensor, grid: Grid, mask_ratio: float) -> Mask:
    """Random times wholly visible, all others wholly hidden, drawn for each sample apart.

    Whole times: int(s * (1 - ratio)) * h*w visible tokens. 8 x 14 x 14 at 0.875 keep one time of 196. UserError when
    none is left.
    """
    s, h, w = grid
    times = num_visible(s, mask_ratio, "times", "longer clips")
    # Ranks, not the noise itself: equal random numbers would split a time between visible and hidden.
    ranks = torch.rand(len(tokens), s, 1, device=tokens.device).argsort(dim=1).argsort(dim=1)
    return mask_from_noise(ranks.expand(-1, -1, h * w).flatten(1), times * h * w)


MASKINGS = {"random": random_masking, "tube": tube_masking, "frame": frame_masking}


def get_masking(name: str, mask_ratio: float) -> Callable[[Tensor, Grid], Mask]:
    """The fixed strategy `name` of MASKINGS at `mask_ratio`, to be called as strategy(tokens (B, N, D), grid).

    UserError with the near misses for an unknown name; for an impossible ratio when it is first called.
    """
    if name not in MASKINGS:
        raise unknown("masking", name, MASKINGS)
    return partial(MASKINGS[name], mask_ratio=mask_ratio)


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """Pick tokens by index for each sample: (B, N, D), int64 (B, K) -> (B, K, D)."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def restore_order(visible_tokens: Tensor, mask_token: Tensor, restore: Tensor) -> Tensor:
    """Visible tokens (B, K, D) back at their places, the mask token (1, 1, D) everywhere else -> (B, N, D)."""
    batch, kept, _ = visible_tokens.shape
    fill = mask_token.to(visible_tokens.dtype).expand(batch, restore.shape[1] - kept, -1)
    return take(torch.cat([visible_tokens, fill], dim=1), restore)


def masked_mean(values: Tensor, hidden: Tensor) -> Tensor:
    """Mean of `values` (B, N) over the hidden patches of the whole batch -> scalar."""
    weight = hidden.to(values.dtype)
    return (values * weight).sum() / weight.sum()
