"""Siamese Masked Autoencoder and its objective (Gupta et al. 2023, arXiv 2305.14344).

One encoder sees the whole past frame and, apart from it, the few visible patches of the future frame. The decoder fills
the future's hidden places: to predict what it cannot see, the model must find where things went. Shapes: `B` pairs,
`H W` pixels, `P` patch side, `h w` patch grid, `N` = h*w patches, `K` visible ones, `D` encoder, `E` decoder width.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from timm.layers import Mlp
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from lib.models.vit import LayerNorm, ViTEncoder, check_heads, initialize
from lib.tokens.masking import Mask, Masking, RandomMasking, masked_mean, restore_order
from lib.tokens.patches import check_size, normalize_images, sincos_positions, target_patches


class SiamMAE(nn.Module):
    """SiamMAE with asymmetric masking: `model({"past", "future": uint8 (B, 3, H, W)})`.

    Args:
        image_size, patch_size, embed_dim, depth, num_heads, mlp_ratio: the shared encoder (see ViTEncoder).
        decoder_embed_dim, decoder_depth, decoder_num_heads: the decoder. The material at hand does not state the
            paper's; 256, 4, 8 are CropMAE's for its SiamMAE.
        mask_ratio: fraction of the future frame's patches that are hidden; the past frame is never masked.
        norm_pix: per-patch normalised target.
        memory_positions: give the past's tokens the decoder's positions, too (CropMAE does not, the paper is silent).
            Without, the decoder can fetch by place as far as the encoder has written places into its output.
        masking: another strategy than random, with its own ratio, such as lib.models.adaptive_sampler.AdaptiveMasking.
    """

    def __init__(
        self, image_size: int = 224, patch_size: int = 16,
        embed_dim: int = 384, depth: int = 12, num_heads: int = 6, mlp_ratio: float = 4.0,
        decoder_embed_dim: int = 256, decoder_depth: int = 4, decoder_num_heads: int = 8,
        mask_ratio: float = 0.95, norm_pix: bool = True, memory_positions: bool = False, masking: Masking | None = None,
    ):  # fmt: skip
        super().__init__()
        self.architecture = {name: value for name, value in locals().items() if name not in {"self", "__class__"}}
        masking = masking or RandomMasking(mask_ratio)
        self.architecture |= {"mask_ratio": masking.mask_ratio, "masking": masking.architecture}
        self.patch_size, self.mask_ratio, self.norm_pix = patch_size, masking.mask_ratio, norm_pix
        self.encoder = ViTEncoder(image_size, patch_size, embed_dim, depth, num_heads, mlp_ratio)
        self.grid = (1, *self.encoder.grid)
        positions, values = sincos_positions(decoder_embed_dim, self.encoder.grid), patch_size**2 * 3
        self.decoder = CrossSelfDecoder(
            positions, embed_dim, values, decoder_depth, decoder_num_heads, mlp_ratio, memory_positions
        )
        self.masking = masking.prepare(self.encoder.pos_embed[0, 1:], self.grid)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """{"past", "future": uint8 (B, 3, H, W)} -> (loss, logs)."""
        past, future = normalize_images(batch["past"]), normalize_images(batch["future"])
        prediction, mask = self.predict(past, future)
        target = target_patches(future, self.patch_size, self.norm_pix)
        errors = (prediction.float() - target).square().mean(dim=-1)  # (B, N)
        return self.masking.objective(masked_mean(errors, mask.hidden), errors, mask)

    def predict(self, past: Tensor, future: Tensor, mask: Mask | None = None) -> tuple[Tensor, Mask]:
        """Predicted future patches (B, N, P*P*3) in the loss's target space, and the mask used (drawn when None).

        past, future: normalised, float (B, 3, H, W), of the size that the model was built for.
        """
        for images in (past, future):
            check_size(images, self.patch_size, self.encoder.grid)
        patches = self.encoder.patch_embed(future)  # (B, N, D), for mask and encoder
        mask = mask or self.masking(patches, self.grid)
        memory = self.encoder(past)  # (B, 1 + N, D), nothing hidden
        latent = self.encoder(future, mask.keep, patches=patches)  # (B, 1 + K, D)
        return self.decoder(latent, mask.restore, memory), mask

    def features(self, images: Tensor, block: int = -1) -> Tensor:
        """Feature grid (B, D, h, w) of unmasked, normalised frames (B, 3, H, W); see ViTEncoder.features."""
        return self.encoder.features(images, block)


class CrossSelfDecoder(nn.Module):
    """Predict the future frame's patches from its visible ones and the past frame (paper section 3, "cross-self").

    Each block looks at the past first, then at the future itself. Both streams share one projection to the decoder's
    width. `positions`: fixed table (N, E); `encoder_dim`, `values`: D, and the values of a patch.
    """

    def __init__(
        self, positions: Tensor, encoder_dim: int, values: int, depth: int, num_heads: int, mlp_ratio: float,
        memory_positions: bool,
    ):  # fmt: skip
        super().__init__()
        embed_dim, self.memory_positions = positions.shape[1], memory_positions
        check_heads(embed_dim, num_heads)
        self.embed = nn.Linear(encoder_dim, embed_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.register_buffer("pos_embed", torch.cat([torch.zeros(1, embed_dim), positions]).unsqueeze(0))
        self.blocks = nn.ModuleList(CrossSelfBlock(embed_dim, num_heads, mlp_ratio) for _ in range(depth))
        self.norm = LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, values)
        initialize(self)

    def forward(self, latent: Tensor, restore: Tensor, memory: Tensor) -> Tensor:
        """Future latent (B, 1 + K, D), restore int64 (B, N), past memory (B, 1 + N, D) -> pixels (B, N, values)."""
        return self.head(self.tokens(latent, restore, memory))

    def tokens(self, latent: Tensor, restore: Tensor, memory: Tensor) -> Tensor:
        """What the head reads, (B, N, E)."""
        tokens, memory = self.queries(latent, restore), self.embed(memory)
        if self.memory_positions:
            memory = memory + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens, memory)
        return self.norm(tokens[:, 1:])

    def queries(self, latent: Tensor, restore: Tensor) -> Tensor:
        """The future's class token and all its places, with positions: (B, 1 + N, E)."""
        latent = self.embed(latent)
        places = restore_order(latent[:, 1:], self.mask_token, restore)  # (B, N, E)
        return torch.cat([latent[:, :1], places], dim=1) + self.pos_embed


class CrossSelfBlock(nn.Module):
    """Pre-norm cross-attention, self-attention and MLP, each added to the stream."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float):
        super().__init__()
        self.norm1, self.norm_memory = LayerNorm(dim), LayerNorm(dim)
        self.cross_attn = CrossAttention(dim, num_heads)
        self.norm2, self.attn = LayerNorm(dim), Attention(dim, num_heads, qkv_bias=True)
        self.norm3, self.mlp = LayerNorm(dim), Mlp(dim, int(dim * mlp_ratio))

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """tokens (B, Q, E) attend to memory (B, M, E) and then to themselves -> (B, Q, E)."""
        tokens = tokens + self.cross_attn(self.norm1(tokens), self.norm_memory(memory))
        tokens = tokens + self.attn(self.norm2(tokens))
        return tokens + self.mlp(self.norm3(tokens))


class CrossAttention(nn.Module):
    """Multi-head attention of queries over a memory."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.q, self.kv, self.proj = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim), nn.Linear(dim, dim)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        """Queries (B, Q, E), memory (B, M, E) -> (B, Q, E)."""
        q = rearrange(self.q(queries), "b q (n d) -> b n q d", n=self.num_heads)
        k, v = rearrange(self.kv(memory), "b m (two n d) -> two b n m d", two=2, n=self.num_heads)
        return self.proj(rearrange(F.scaled_dot_product_attention(q, k, v), "b n q d -> b q (n d)"))
