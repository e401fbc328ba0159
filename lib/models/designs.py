"""SiamMAE's relatives: other ways to encode two frames, to decode the future, and to mask the past (paper section 3).

The paper compares a joint with a siamese encoder, and joint, cross and cross-self decoders; joint and joint is its
"FrameMAE". No design has a temporal embedding in the encoder. In all the loss is that of the future's hidden patches.
Shapes: `B` pairs, `N` patches, `K` visible ones of the future, `M` of the past, `D` encoder, `E` decoder width.
"""

import torch
from timm.layers import Mlp
from torch import Tensor, nn

from lib.errors import UserError, unknown
from lib.models.siammae import CrossAttention, CrossSelfDecoder, SiamMAE
from lib.models.vit import LayerNorm, ViTEncoder, initialize, plain_blocks
from lib.tokens.masking import Mask, RandomMasking, take
from lib.tokens.patches import check_size

ENCODERS, DECODERS = ("siamese", "joint"), ("cross-self", "cross", "joint")


class DesignedSiamMAE(SiamMAE):
    """SiamMAE with a choice of designs; the defaults are SiamMAE itself. Other arguments are SiamMAE's.

    UserError for unknown designs, and where `memory_positions` meets a masked past or a joint decoder.

    Args:
        encoder_design: "siamese" encodes the frames apart, "joint" their visible patches together.
        decoder_design: what a block does: "cross-self"; "cross", without self-attention; or "joint", self-attention
            over the tokens of both frames.
        past_mask_ratio: fraction of the past's patches that are hidden, too: at mask_ratio, symmetric masking.
    """

    def __init__(
        self, encoder_design: str = "siamese", decoder_design: str = "cross-self", past_mask_ratio: float = 0.0,
        **siammae,
    ):  # fmt: skip
        super().__init__(**siammae)
        for what, name, known in (("encoder", encoder_design, ENCODERS), ("decoder", decoder_design, DECODERS)):
            if name not in known:
                raise unknown(f"{what} design", name, known)
        if self.decoder.memory_positions and (past_mask_ratio or decoder_design == "joint"):
            raise UserError("memory_positions needs the whole past and a decoder that looks at it: leave it False")
        designs = {"encoder_design": encoder_design, "decoder_design": decoder_design}
        self.architecture |= designs | {"past_mask_ratio": past_mask_ratio}
        self.joint_encoder, self.joint_decoder = encoder_design == "joint", decoder_design == "joint"
        positions = self.encoder.pos_embed[0, 1:]
        self.past_masking = RandomMasking(past_mask_ratio).prepare(positions, self.grid) if past_mask_ratio else None
        shape = [self.architecture[name] for name in ("decoder_depth", "decoder_num_heads", "mlp_ratio")]
        if decoder_design == "cross":
            width = self.architecture["decoder_embed_dim"]
            self.decoder.blocks = nn.ModuleList(CrossBlock(width, *shape[1:]) for _ in range(shape[0]))
            initialize(self.decoder)
        elif self.joint_decoder:
            values = self.patch_size**2 * 3
            self.decoder = JointDecoder(self.decoder.pos_embed[0, 1:], self.encoder.pos_embed.shape[-1], values, *shape)

    def predict(self, past: Tensor, future: Tensor, mask: Mask | None = None) -> tuple[Tensor, Mask]:
        """As SiamMAE.predict; what the past hides is drawn anew each time."""
        for images in (past, future):
            check_size(images, self.patch_size, self.encoder.grid)
        patches = self.encoder.patch_embed(future)  # (B, N, D), for mask and encoder
        mask = mask or self.masking(patches, self.grid)
        places = torch.arange(patches.shape[1], device=past.device).expand(len(past), -1)
        seen = self.past_masking(patches, self.grid).keep if self.past_masking else places  # (B, M)
        if self.joint_encoder:
            latent, memory = encode_together(self.encoder, patches, mask.keep, self.encoder.patch_embed(past), seen)
        else:
            memory = self.encoder(past, seen)  # (B, 1 + M, D)
            latent = self.encoder(future, mask.keep, patches=patches)  # (B, 1 + K, D)
        given = (seen,) if self.joint_decoder else ()
        return self.decoder(latent, mask.restore, memory, *given), mask


def encode_together(
    encoder: ViTEncoder, future: Tensor, keep: Tensor, past: Tensor, seen: Tensor
) -> tuple[Tensor, Tensor]:
    """Patches (B, N, D) of two frames, of which int64 (B, K) and (B, M) are visible, as one sequence with one class
    token -> (B, 1 + K, D) and (B, 1 + M, D), the class token before both.
    """
    positions = encoder.pos_embed[:, 1:]
    tokens = torch.cat([take(future + positions, keep), take(past + positions, seen)], dim=1)
    tokens = torch.cat([encoder.cls_token.expand(len(tokens), -1, -1).to(tokens.dtype), tokens], dim=1)
    for block in encoder.blocks:
        tokens = block(tokens)
    cls, latent, memory = encoder.norm(tokens).split([1, keep.shape[1], seen.shape[1]], dim=1)
    return torch.cat([cls, latent], dim=1), torch.cat([cls, memory], dim=1)


class CrossBlock(nn.Module):
    """Pre-norm cross-attention and MLP: a place of the future sees the past and itself."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float):
        super().__init__()
        self.norm1, self.norm_memory, self.norm2 = LayerNorm(dim), LayerNorm(dim), LayerNorm(dim)
        self.cross_attn, self.mlp = CrossAttention(dim, num_heads), Mlp(dim, int(dim * mlp_ratio))

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        """tokens (B, Q, E) attend to memory (B, M, E) -> (B, Q, E)."""
        tokens = tokens + self.cross_attn(self.norm1(tokens), self.norm_memory(memory))
        return tokens + self.mlp(self.norm2(tokens))


class JointDecoder(CrossSelfDecoder):
    """Plain blocks over the tokens of both frames. A learned vector, at first 0, is added to the past's and tells the
    frames apart: here two tokens lie at one place.
    """

    def __init__(
        self, positions: Tensor, encoder_dim: int, values: int, depth: int, num_heads: int, mlp_ratio: float
    ):  # fmt: skip
        super().__init__(positions, encoder_dim, values, 0, num_heads, mlp_ratio, memory_positions=False)
        self.blocks = plain_blocks(positions.shape[1], depth, num_heads, mlp_ratio)
        self.past_token = nn.Parameter(torch.zeros(1, 1, positions.shape[1]))
        initialize(self)

    def forward(self, latent: Tensor, restore: Tensor, memory: Tensor, seen: Tensor) -> Tensor:
        """As CrossSelfDecoder's; memory (B, 1 + M, D), of the past's patches `seen`, int64 (B, M)."""
        return self.head(self.tokens(latent, restore, memory, seen))

    def tokens(self, latent: Tensor, restore: Tensor, memory: Tensor, seen: Tensor) -> Tensor:
        """What the head reads, (B, N, E)."""
        tokens, past = self.queries(latent, restore), self.embed(memory[:, 1:])
        past = past + take(self.pos_embed[:, 1:].expand(len(past), -1, -1), seen) + self.past_token
        length, tokens = tokens.shape[1], torch.cat([tokens, past], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens[:, 1:length])
