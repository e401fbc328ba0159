"""Wave-ViT's wavelet attention (Yao et al. 2022, arXiv 2207.04978), for tokens of which some may be missing.

Keys and values come from a half as large map: the tokens' map is narrowed to a quarter of its channels, transformed,
which makes four of each, and filtered. Its inverse transform, back in full size, joins the result. Wave-ViT's map is
whole; ours may have holes, which are kept at zero, and keys of cells that are all hole are left out.
Shapes: `B` samples, `K` tokens on the map, `h w` its places, both even, `D` width.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from lib.errors import UserError, unknown
from lib.models.vit import LayerNorm, check_heads
from lib.tokens.wavelets import TRANSFORMS


class WaveletAttention(nn.Module):
    """tokens (B, 1 + K, D), the class token first, and where they stand -> (B, 1 + K, D).

    The class token attends like the others, but stands nowhere on the map. UserError for a width that is no multiple
    of 4 or of its heads.

    Args:
        transform: "haar", or "regroup", which has the same parameters and no wavelets.
        norm: of the two convolutions: "batch" as in Wave-ViT, whose statistics hold the holes' zeros, too; or "layer",
            over the channels of each place.
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
        self.reduce = nn.Sequential(nn.Conv2d(dim, dim // 4, 1), NORMS[norm](dim // 4), nn.ReLU())
        self.filter = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1), NORMS[norm](dim), nn.ReLU())
        self.kv = nn.Sequential(LayerNorm(dim), nn.Linear(dim, 2 * dim))
        self.proj = nn.Linear(dim + dim // 4, dim)

    def forward(self, tokens: Tensor, places: Tensor, grid: tuple[int, int]) -> Tensor:
        """places: int64 (B, K), the number of each token's place on the map, row by row; grid: (h, w)."""
        maps, seen = on_map(tokens[:, 1:], places, grid)
        bands = self.filter(self.split(self.reduce(maps) * seen))  # (B, D, h/2, w/2)
        keys, values = self.kv(bands.flatten(2).mT).chunk(2, dim=-1)
        cells = F.max_pool2d(seen, 2).flatten(1).bool()  # (B, h/2 * w/2)
        heads = [rearrange(part, "b n (a d) -> b a n d", a=self.num_heads) for part in (self.q(tokens), keys, values)]
        attended = F.scaled_dot_product_attention(*heads, attn_mask=cells[:, None, None])
        attended = rearrange(attended, "b a n d -> b n (a d)")
        back = self.join(bands).flatten(2).mT  # (B, h * w, D/4)
        own = back.gather(1, places.unsqueeze(-1).expand(-1, -1, back.shape[-1]))
        own = F.pad(own, (0, 0, 1, 0))  # nothing for the class token
        return self.proj(torch.cat([attended, own], dim=-1))


def on_map(tokens: Tensor, places: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Tokens (B, K, D) at their places, zeros elsewhere: (B, D, h, w); and 1 where a token is, else 0: (B, 1, h, w)."""
    h, w = grid
    maps = tokens.new_zeros(len(tokens), h * w, tokens.shape[-1])
    maps = maps.scatter(1, places.unsqueeze(-1).expand_as(tokens), tokens)
    seen = tokens.new_zeros(len(tokens), h * w).scatter(1, places, 1.0)
    return maps.mT.unflatten(-1, grid), seen.view(-1, 1, h, w)


class PlaceNorm(nn.LayerNorm):
    """LayerNorm over the channels of each place of (B, C, h, w): a map's holes change nothing elsewhere."""

    def forward(self, maps: Tensor) -> Tensor:
        """The same shape."""
        return super().forward(maps.movedim(1, -1)).movedim(-1, 1)


NORMS = {"batch": nn.BatchNorm2d, "layer": PlaceNorm}
