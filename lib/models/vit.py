"""The Vision Transformer that every system here encodes with (Dosovitskiy et al. 2021, arXiv 2010.11929).

Built from timm's blocks and named as timm names things, so that published weights load. Positions are MAE's fixed
sine-cosine table, added before patches are dropped. Shapes: `B` batch, `H W` pixels, `P` patch side, `h w` patch grid,
`N` = h*w patches, `K` visible patches, `D` width.
"""

from collections.abc import Callable
from functools import partial

import torch
from einops import rearrange
from timm.layers import PatchEmbed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from lib.errors import UserError
from lib.tokens.masking import take
from lib.tokens.patches import grid_of, resize_positions, sincos_positions

LayerNorm = partial(nn.LayerNorm, eps=1e-6)


class ViTEncoder(nn.Module):
    """A plain pre-norm ViT with class token and fixed positions; timm's VisionTransformer, given the same weights.

    Args:
        image_size: of the frames it is trained on, one side or (height, width); others run with resized positions.
        patch_size: P. embed_dim, depth, num_heads, mlp_ratio: as in timm.
        resize: how the position table is brought to another grid; other people's weights expect their own way.
    """

    has_cls = True  # for attention maps; other encoders may have none

    def __init__(
        self, image_size: int | tuple[int, int], patch_size: int, embed_dim: int, depth: int, num_heads: int,
        mlp_ratio: float = 4.0, resize: Callable[[Tensor, tuple[int, int], tuple[int, int]], Tensor] = resize_positions,
    ):  # fmt: skip
        super().__init__()
        self.patch_size, self.resize = patch_size, resize
        self.grid = grid_of(*(image_size if isinstance(image_size, tuple) else (image_size,) * 2), patch_size)
        self.patch_embed = PatchEmbed(None, patch_size, in_chans=3, embed_dim=embed_dim)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        positions = torch.cat([torch.zeros(1, embed_dim), sincos_positions(embed_dim, self.grid)])
        self.register_buffer("pos_embed", positions.unsqueeze(0))
        self.blocks = plain_blocks(embed_dim, depth, num_heads, mlp_ratio)
        self.norm = LayerNorm(embed_dim)
        initialize(self)

    def forward(
        self, images: Tensor, keep: Tensor | None = None, block: int = -1, patches: Tensor | None = None
    ) -> Tensor:
        """Encode the patches in `keep` (int64 (B, K); all when None): float (B, 3, H, W) -> (B, 1 + K, D).

        Token 0 is the class token. `block` counts from 1, -1 is the last; the final LayerNorm follows whichever is
        chosen, as protocols read the last one. patches (B, N, D): the images by `patch_embed`, where they are known.
        """
        tokens = self.embed(images, keep, patches)
        for layer in self.blocks[: block_number(block, len(self.blocks))]:
            tokens = layer(tokens)
        return self.norm(tokens)

    def embed(self, images: Tensor, keep: Tensor | None, patches: Tensor | None) -> Tensor:
        """What the first block sees, (B, 1 + K, D); arguments as in `forward`."""
        grid = grid_of(*images.shape[-2:], self.patch_size)
        tokens = self.patch_embed(images) if patches is None else patches
        tokens = tokens + self.resize(self.pos_embed[0, 1:], self.grid, grid)  # (B, N, D)
        if keep is not None:
            tokens = take(tokens, keep)
        cls = self.cls_token + self.pos_embed[:, :1]
        return torch.cat([cls.expand(len(tokens), -1, -1).to(tokens.dtype), tokens], dim=1)

    def features(self, images: Tensor, block: int = -1) -> Tensor:
        """Feature grid of unmasked frames: float (B, 3, H, W) -> (B, D, h, w); `block` as above."""
        tokens = self(images, block=block)[:, 1:]
        return rearrange(tokens, "b (h w) d -> b d h w", h=images.shape[-2] // self.patch_size)


def plain_blocks(embed_dim: int, depth: int, num_heads: int, mlp_ratio: float = 4.0) -> nn.ModuleList:
    """timm's pre-norm blocks, as ViTs have them."""
    check_heads(embed_dim, num_heads)
    return nn.ModuleList(
        Block(embed_dim, num_heads, mlp_ratio, qkv_bias=True, norm_layer=LayerNorm) for _ in range(depth)
    )


def check_heads(embed_dim: int, num_heads: int) -> None:
    """Refuse a width that its attention heads cannot share."""
    if embed_dim % num_heads:
        raise UserError(f"a width of {embed_dim} is no multiple of its {num_heads} heads: change one of them")


def block_number(block: int, depth: int) -> int:
    """The number from 1 to `depth` that `block` means, where -1 is the last."""
    number = depth if block == -1 else block
    if not 1 <= number <= depth:
        raise UserError(f"block {block} does not exist: choose 1 to {depth}, or -1 for the last")
    return number


def initialize(module: nn.Module) -> None:
    """MAE's initialisation of everything in `module`: Xavier-uniform matrices, zero biases, tokens N(0, 0.02)."""
    for child in module.modules():
        if isinstance(child, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(child.weight.data.flatten(1))  # the patch convolution is a matrix, too
            if child.bias is not None:
                nn.init.zeros_(child.bias)
    for name, parameter in module.named_parameters():
        if name.split(".")[-1] in {"cls_token", "mask_token"}:
            nn.init.normal_(parameter, std=0.02)
