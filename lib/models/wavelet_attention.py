"""Wave-ViT's wavelet attention (Yao et al. 2022, arXiv 2207.04978), for tokens of which some may be missing.

Keys and values come from a half as large map: the tokens' map is narrowed to a quarter of its channels, transformed,
which makes four of each, and filtered. Its inverse transform, back in full size, joins the result. Wave-ViT's map is
whole; ours may have holes, which are zero where it is transformed, and keys of cells that are all hole are left out.
Shapes: `B` samples, `K` tokens on the map, `h w` its places, both even, `D` width.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from lib.errors import UserError, unknown
from lib.models.vit import LayerNorm, check_heads
from lib.tokens.masking import take
from lib.tokens.wavelets import TRANSFORMS


class WaveletAttention(nn.Module):
    """tokens (B, 1 + K, D), the class token first, and where they stand -> (B, 1 + K, D).

    The class token attends like the others, but stands nowhere on the map. UserError for a width that is no multiple
    of 4 or of its heads.

    Args:
        transform: "haar", or "regroup", which has the same parameters and no wavelets.
        norm: behind narrowing and filter. "batch" as in Wave-ViT, where the filter's statistics are of empty cells,
            too, or "layer", over the channels of each place.
    """

    def __init__(self, dim: int, num_heads: int, transform: str = "haar", norm: str = "layer"):
        super().__init__()
        check_heads(dim, num_heads)
        if dim % 4:
            raise UserError(f"a width of {dim} does not divide into 4 sub-bands: choose a multiple of 4")
        if transform not in TRANSFORMS:
            raise unknown("transform", transform, TRANSFORMS)
        if norm not in NORMS:
            raise unknown("norm", norm, NORMS)
        self.num_heads, (self.split, self.join) = num_heads, TRANSFORMS[transform]
        self.q = nn.Linear(dim, dim)
        self.reduce, self.reduce_norm = nn.Linear(dim, dim // 4), NORMS[norm](dim // 4)
        self.filter = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1), NORMS[norm](dim), nn.ReLU())
        self.kv = nn.Sequential(LayerNorm(dim), nn.Linear(dim, 2 * dim))
        self.proj = nn.Linear(dim + dim // 4, dim)

    def forward(self, tokens: Tensor, places: Tensor, grid: tuple[int, int]) -> Tensor:
        """places: int64 (B, K), the number of each token's place on the map, row by row; grid: (h, w)."""
        reduced = self.reduce(tokens[:, 1:])  # of tokens alone, so that nothing is made of holes
        reduced = self.reduce_norm(reduced.mT.unsqueeze(-1)).squeeze(-1).mT.relu()  # (B, K, D/4)
        bands = self.filter(self.split(on_map(reduced, places, grid)))  # (B, D, h/2, w/2)
        keys, values = self.kv(bands.flatten(2).mT).chunk(2, dim=-1)
        heads = [rearrange(part, "b n (a d) -> b a n d", a=self.num_heads) for part in (self.q(tokens), keys, values)]
        known = None if places.shape[1] == math.prod(grid) else known_cells(places, grid)[:, None, None]
        attended = F.scaled_dot_product_attention(*heads, attn_mask=known)
        attended = rearrange(attended, "b a n d -> b n (a d)")
        own = take(self.join(bands).flatten(2).mT, places)  # (B, K, D/4)
        return self.proj(torch.cat([attended, F.pad(own, (0, 0, 1, 0))], dim=-1))  # nothing for the class token


def on_map(tokens: Tensor, places: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens (B, K, C) at their places, zeros elsewhere: (B, C, h, w)."""
    maps = tokens.new_zeros(len(tokens), math.prod(grid), tokens.shape[-1])
    return maps.scatter(1, places.unsqueeze(-1).expand_as(tokens), tokens).mT.unflatten(-1, grid)


def known_cells(places: Tensor, grid: tuple[int, int]) -> Tensor:
    """Which 2x2 cells of the map hold a token, bool (B, h/2 * w/2), of places int64 (B, K)."""
    h, w = grid
    cells = places // w // 2 * (w // 2) + places % w // 2
    return torch.zeros(len(places), h * w // 4, dtype=torch.bool, device=places.device).scatter(1, cells, True)


class PlaceNorm(nn.LayerNorm):
    """LayerNorm over the channels of each place of (B, C, h, w): a map's holes change nothing elsewhere."""

    def forward(self, maps: Tensor) -> Tensor:
        """The same shape."""
        return super().forward(maps.movedim(1, -1)).movedim(-1, 1)


NORMS = {"batch": nn.BatchNorm2d, "layer": PlaceNorm}
