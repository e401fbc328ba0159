"""Siamese Masked Autoencoder and its objective (Gupta et al. 2023, arXiv 2305.14344).

One encoder sees the whole past frame and, apart from it, the few visible patches of the future frame. The decoder
fills the future frame's hidden places: each block first looks at the past (cross-attention), then at the future
itself (self-attention). To predict what it cannot see, the model must find where things went.

Shapes: `B` pairs, `H W` pixels, `P` patch side, `h w` patch grid, `N` = h*w patches, `K` visible patches of the future
frame, `D` encoder width, `E` decoder width.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from timm.layers import Mlp
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from lib.errors import unknown
from lib.models.adaptive_sampler import OBJECTIVES, AdaptiveSampler
from lib.models.mae import check_size
from lib.models.vit import LayerNorm, ViTEncoder, initialize
from lib.tokens.masking import Mask, masked_mean, random_mask, restore_order
from lib.tokens.patches import normalize_images, normalize_patches, patchify, sincos_positions


class SiamMAE(nn.Module):
    """SiamMAE with asymmetric masking and a cross-self decoder.

    `model(batch)` takes {"past", "future": uint8 (B, 3, H, W)} and returns the loss and a dict of logs.

    Args:
        image_size, patch_size, embed_dim, depth, num_heads, mlp_ratio: the shared encoder (see ViTEncoder).
        decoder_embed_dim, decoder_depth, decoder_num_heads: the decoder. The material at hand does not state the
            paper's; 256, 4, 8 are CropMAE's for its SiamMAE.
        mask_ratio: share of hidden patches of the future frame; 0.95 in the paper. The past frame is never masked.
        norm_pix: per-patch normalised target, as in the paper.
        memory_positions: give the past's tokens the decoder's positions, too. The paper does not say; CropMAE does
            not. With them the decoder can fetch by place; without, only by what the encoder made of the content.
        masking: how the future frame's visible patches are chosen: "random", as in the paper, or adaptively, by the
            name of a sampling variant of lib.models.adaptive_sampler (OBJECTIVES), whose loss is then added and logged.
    """

    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 16,
        embed_dim: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        mlp_ratio: float = 4.0,
        decoder_embed_dim: int = 256,
        decoder_depth: int = 4,
        decoder_num_heads: int = 8,
        mask_ratio: float = 0.95,
        norm_pix: bool = True,
        memory_positions: bool = False,
        masking: str = "random",
    ):
        super().__init__()
        self.architecture = {name: value for name, value in locals().items() if name not in {"self", "__class__"}}
        if masking not in {"random", *OBJECTIVES}:
            raise unknown("masking", masking, {"random", *OBJECTIVES})
        if masking == "random":
            del self.architecture["masking"]  # checkpoints from before there was a choice stay as they are
        self.patch_size, self.mask_ratio, self.norm_pix = patch_size, mask_ratio, norm_pix
        self.encoder = ViTEncoder(image_size, patch_size, embed_dim, depth, num_heads, mlp_ratio)
        self.decoder = CrossSelfDecoder(
            self.encoder.grid,
            patch_size,
            embed_dim,
            decoder_embed_dim,
            decoder_depth,
            decoder_num_heads,
            mlp_ratio,
            memory_positions,
        )
        self.draw_mask(1, math.prod(self.encoder.grid), "cpu")  # an impossible ratio fails here
        num_patches = math.prod(self.encoder.grid)
        random = masking == "random"
        self.sampler = None if random else AdaptiveSampler(embed_dim, num_patches, mask_ratio, masking)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """{"past", "future": uint8 (B, 3, H, W)} -> (loss, {"loss": ...}); with adaptive masking its logs, too."""
        past, future = normalize_images(batch["past"]), normalize_images(batch["future"])
        prediction, mask = self.predict(past, future)
        target = patchify(future, self.patch_size)
        if self.norm_pix:
            target = normalize_patches(target)
        errors = (prediction.float() - target).square().mean(dim=-1)
        loss = masked_mean(errors, mask.hidden)
        if self.sampler is not None:
            return self.sampler.add_loss(loss, errors, mask)
        return loss, {"loss": loss.detach()}

    def predict(self, past: Tensor, future: Tensor, mask: Mask | None = None) -> tuple[Tensor, Mask]:
        """Predicted future patches (B, N, P*P*3) in the loss's target space, and the mask used (drawn when None).

        UserError when the frames (B, 3, H, W) are not of the size the model was built for.
        """
        for images in (past, future):
            check_size(images, self.patch_size, self.encoder.grid)
        mask = mask or self.choose_visible(future)
        memory = self.encoder(past)
        latent = self.encoder(future, mask.keep)
        return self.decoder(latent, mask.restore, memory), mask

    def choose_visible(self, future: Tensor) -> Mask:
        """A mask for normalised future frames (B, 3, H, W): random, or a SampledMask drawn from what they show."""
        if self.sampler is None:
            return self.draw_mask(len(future), math.prod(self.encoder.grid), future.device)
        bare = self.sampler.objective.own_positions
        tokens = self.encoder.patch_embed(future) if bare else self.encoder.embed(future)
        return self.sampler(tokens, (1, *self.encoder.grid))

    def draw_mask(self, batch: int, num_patches: int, device: torch.device | str) -> Mask:
        """A random mask for future frames at this model's ratio, drawn for each sample apart."""
        return random_mask(batch, num_patches, self.mask_ratio, device)

    def features(self, images: Tensor, block: int = -1) -> Tensor:
        """Feature grid (B, D, h, w) of unmasked, normalised frames (B, 3, H, W); see ViTEncoder.features."""
        return self.encoder.features(images, block)


class CrossSelfDecoder(nn.Module):
    """Predict the future frame's patches from its visible ones and the past frame.

    latent (B, 1 + K, D) of the future, restore int64 (B, N), memory (B, 1 + N, D) of the past -> (B, N, P*P*3).
    Both streams share one projection to the decoder's width; the past's tokens get the decoder's positions only with
    `memory_positions`.
    """

    def __init__(
        self,
        grid: tuple[int, int],
        patch_size: int,
        encoder_dim: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
        memory_positions: bool,
    ):
        super().__init__()
        self.memory_positions = memory_positions
        self.embed = nn.Linear(encoder_dim, embed_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        positions = torch.cat([torch.zeros(1, embed_dim), sincos_positions(embed_dim, grid)])
        self.register_buffer("pos_embed", positions.unsqueeze(0))
        self.blocks = nn.ModuleList(CrossSelfBlock(embed_dim, num_heads, mlp_ratio) for _ in range(depth))
        self.norm = LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, patch_size**2 * 3)
        initialize(self)

    def forward(self, latent: Tensor, restore: Tensor, memory: Tensor) -> Tensor:
        """The head on `tokens`."""
        return self.head(self.tokens(latent, restore, memory))

    def tokens(self, latent: Tensor, restore: Tensor, memory: Tensor) -> Tensor:
        """What the head reads, (B, N, E): hidden places filled, positions added, past and future looked at in turn."""
        tokens = self.embed(latent)
        places = restore_order(tokens[:, 1:], self.mask_token, restore)
        tokens = torch.cat([tokens[:, :1], places], dim=1) + self.pos_embed
        memory = self.embed(memory)
        if self.memory_positions:
            memory = memory + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens, memory)
        return self.norm(tokens[:, 1:])


class CrossSelfBlock(nn.Module):
    """Pre-norm cross-attention, self-attention and MLP, each added to the stream (paper section 3, "cross-self")."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float):
        super().__init__()
        self.norm1, self.norm_memory = LayerNorm(dim), LayerNorm(dim)
        self.cross_attn = CrossAttention(dim, num_heads)
        self.norm2 = LayerNorm(dim)
        self.attn = Attention(dim, num_heads, qkv_bias=True)
        self.norm3 = LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """tokens (B, Q, E) attend to memory (B, M, E) and then to themselves -> (B, Q, E)."""
        tokens = tokens + self.cross_attn(self.norm1(tokens), self.norm_memory(memory))
        tokens = tokens + self.attn(self.norm2(tokens))
        return tokens + self.mlp(self.norm3(tokens))


class CrossAttention(nn.Module):
    """Multi-head attention of queries (B, Q, E) over a memory (B, M, E) -> (B, Q, E). Scaled by sqrt(head width)."""

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        """Attend over all of the memory."""
        q = rearrange(self.q(queries), "b n (h d) -> b h n d", h=self.num_heads)
        k, v = rearrange(self.kv(memory), "b n (two h d) -> two b h n d", two=2, h=self.num_heads)
        return self.proj(rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)"))
