"""MAE whose encoder has Wave-ViT's wavelet attention: a course project's model, made to fit tokens that are dropped.

The wavelets need a map, the encoder has a quarter of its tokens. `token_layout` says how the two meet; all layouts have
the same weights. Shapes: `B` batch, `H W` pixels, `N` patches, `K` visible ones, `D` width.
"""

import math

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from lib.errors import UserError, unknown
from lib.models.mae import MAE
from lib.models.vit import LayerNorm, ViTEncoder, block_number, initialize
from lib.models.wavelet_attention import WaveletAttention
from lib.tokens.maskings import CellMasking
from lib.tokens.patches import grid_of

LAYOUTS = ("pseudo_grid", "scatter", "cell")


class WaveletMAE(MAE):
    """MAE with wavelet attention in every block of the encoder. Other arguments are MAE's.

    Args:
        token_layout: where the visible tokens stand while they are masked. "scatter": at their own places, zeros
            elsewhere. "cell": so, too, and cells of 2x2 patches are masked as a whole, so that a transformed cell has
            no hole. "pseudo_grid": side by side in the random order in which they are drawn, on a square of their
            number; only whole pictures, as in fine-tuning, have their own places.
        transform, norm: of WaveletAttention.
        beside: plain attention stays and the other is added to it, from the same normalised tokens; else it is
            replaced.
    """

    def __init__(
        self, token_layout: str = "scatter", transform: str = "haar", norm: str = "layer", beside: bool = False, **mae
    ):  # fmt: skip
        if token_layout not in LAYOUTS:
            raise unknown("token_layout", token_layout, LAYOUTS)
        super().__init__(**mae)
        shape = {name: self.architecture[name] for name in ("image_size", "patch_size", "embed_dim", "depth")}
        shape |= {name: self.architecture[name] for name in ("num_heads", "mlp_ratio")}
        self.encoder = WaveletEncoder(token_layout == "pseudo_grid", transform, norm, beside, **shape)
        if token_layout == "cell":
            self.masking = CellMasking(self.mask_ratio).prepare(self.encoder.pos_embed[0, 1:], self.grid)
        if token_layout == "pseudo_grid":
            square(self.masking(torch.empty(1, math.prod(self.grid), 0), self.grid).keep.shape[1])
        given = {"token_layout": token_layout, "transform": transform, "norm": norm, "beside": beside}
        self.architecture |= given | {"masking": self.masking.architecture}


class WaveletEncoder(ViTEncoder):
    """The plain encoder with wavelet blocks; `shuffled`: visible tokens stand as WaveletMAE's "pseudo_grid" says."""

    def __init__(self, shuffled: bool, transform: str, norm: str, beside: bool, **vit):
        super().__init__(**vit)
        self.shuffled, width = shuffled, vit["embed_dim"]
        grid_of(*self.grid, 2)  # it must divide into cells
        self.blocks = nn.ModuleList(
            WaveletBlock(width, vit["num_heads"], vit["mlp_ratio"], transform, norm, beside) for _ in self.blocks
        )
        initialize(self.blocks)

    def forward(
        self, images: Tensor, keep: Tensor | None = None, block: int = -1, patches: Tensor | None = None
    ) -> Tensor:
        """As ViTEncoder's; the patch grid must have even sides."""
        tokens, grid = self.embed(images, keep, patches), grid_of(*images.shape[-2:], self.patch_size)
        places = keep
        if keep is None or self.shuffled:
            places = torch.arange(tokens.shape[1] - 1, device=images.device).expand(len(tokens), -1)
            grid = grid if keep is None else square(keep.shape[1])
        for layer in self.blocks[: block_number(block, len(self.blocks))]:
            tokens = layer(tokens, places, grid)
        return self.norm(tokens)


class WaveletBlock(Block):
    """timm's pre-norm block with wavelet attention instead of its own, or beside it."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, transform: str, norm: str, beside: bool):
        super().__init__(dim, num_heads, mlp_ratio, qkv_bias=True, norm_layer=LayerNorm)
        self.wavelets = WaveletAttention(dim, num_heads, transform, norm)
        if not beside:
            self.attn = None

    def forward(self, tokens: Tensor, places: Tensor, grid: tuple[int, int]) -> Tensor:
        """As WaveletAttention's."""
        normed = self.norm1(tokens)
        mixed = self.wavelets(normed, places, grid)
        if self.attn is not None:
            mixed = mixed + self.attn(normed)
        tokens = tokens + self.drop_path1(mixed)
        return tokens + self.drop_path2(self.mlp(self.norm2(tokens)))


def square(number: int) -> tuple[int, int]:
    """The sides of a square of so many tokens, which must be even."""
    side = math.isqrt(number)
    if side**2 != number or side % 2:
        raise UserError(f"{number} visible tokens make no square of even sides: change mask_ratio, or the token_layout")
    return side, side
