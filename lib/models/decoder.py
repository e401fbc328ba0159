"""The decoder of MAE and of the video MAE: a plain transformer over all places (arXiv 2111.06377, section 3).

Shapes: `B` batch, `N` places, `K` visible ones, `D` encoder width, `E` decoder width.
"""

import torch
from torch import Tensor, nn

from lib.models.vit import LayerNorm, initialize, plain_blocks
from lib.tokens.masking import restore_order


class Decoder(nn.Module):
    """Predict the pixels of every place from the visible ones.

    `positions`: fixed table (N, E); `encoder_dim`, `values`: D, and the values of a place; `cls_tokens`: how many
    tokens without a place stand before the visible ones, one in MAE.
    """

    def __init__(
        self, positions: Tensor, encoder_dim: int, values: int, depth: int, num_heads: int, mlp_ratio: float,
        cls_tokens: int = 0,
    ):  # fmt: skip
        super().__init__()
        embed_dim, self.cls_tokens = positions.shape[1], cls_tokens
        self.embed = nn.Linear(encoder_dim, embed_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.register_buffer("pos_embed", positions.unsqueeze(0))
        self.blocks = plain_blocks(embed_dim, depth, num_heads, mlp_ratio)
        self.norm = LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, values)
        initialize(self)

    def forward(self, latent: Tensor, restore: Tensor) -> Tensor:
        """latent (B, cls_tokens + K, D), restore int64 (B, N) -> pixels (B, N, values)."""
        cls, visible = self.embed(latent).tensor_split([self.cls_tokens], dim=1)
        places = restore_order(visible, self.mask_token, restore) + self.pos_embed  # (B, N, E)
        tokens = torch.cat([cls, places], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens[:, self.cls_tokens :]))
