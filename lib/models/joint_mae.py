"""SiamMAE and MAE at once, with one encoder: the future is predicted from the past, and from its own part alone.

RSP (Jang et al. 2024, arXiv 2406.07398) adds MAE's loss to its prediction of the future, too. Two decoders, two masks,
each with its own ratio; the loss is the mean of both.
"""

from torch import Tensor

from lib.models.decoder import Decoder
from lib.models.siammae import SiamMAE
from lib.tokens.masking import masked_mean, random_mask
from lib.tokens.patches import normalize_images, sincos_positions, target_patches


class JointMAE(SiamMAE):
    """`model({"past", "future": uint8 (B, 3, H, W)})`; logs `siam` and `alone`, the two losses.

    Args:
        alone_ratio, alone_depth: mask ratio and depth of MAE's part, whose decoder is as wide as SiamMAE's.
        Others: SiamMAE's.
    """

    def __init__(self, alone_ratio: float = 0.75, alone_depth: int = 2, **siammae):
        super().__init__(**siammae)
        self.architecture |= {"alone_ratio": alone_ratio, "alone_depth": alone_depth}
        width, heads, ratio = (
            self.architecture[name] for name in ("decoder_embed_dim", "decoder_num_heads", "mlp_ratio")
        )
        positions, values = sincos_positions(width, self.encoder.grid), self.patch_size**2 * 3
        dim = self.architecture["embed_dim"]
        self.alone = Decoder(positions, dim, values, alone_depth, heads, ratio, cls_tokens=1)
        self.alone_ratio = alone_ratio

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """{"past", "future": uint8 (B, 3, H, W)} -> (loss, logs)."""
        siam, logs = super().forward(batch)
        images = normalize_images(batch["future"])
        patches = self.encoder.patch_embed(images)
        mask = random_mask(len(images), patches.shape[1], self.alone_ratio, images.device)
        prediction = self.alone(self.encoder(images, mask.keep, patches=patches), mask.restore)
        target = target_patches(images, self.patch_size, self.norm_pix)
        alone = masked_mean((prediction.float() - target).square().mean(dim=-1), mask.hidden)
        return (siam + alone) / 2, {**logs, "siam": siam.detach(), "alone": alone.detach()}
