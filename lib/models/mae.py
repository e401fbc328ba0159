"""Masked Autoencoder and its objective (He et al. 2022, arXiv 2111.06377).

Encode the visible patches of one image, fill the hidden places with a mask token, decode all, and compare the hidden
patches' pixels. Shapes: `B` batch, `H W` pixels, `P` patch side, `h w` patch grid, `N` = h*w patches, `K` visible ones,
`D` encoder width.
"""

from torch import Tensor, nn

from lib.models.decoder import Decoder
from lib.models.vit import ViTEncoder
from lib.tokens.masking import Mask, Masking, RandomMasking, masked_mean
from lib.tokens.patches import check_size, normalize_images, sincos_positions, target_patches


class MAE(nn.Module):
    """MAE on single frames: `model({"image": uint8 (B, 3, H, W)})`.

    Args:
        image_size, patch_size, embed_dim, depth, num_heads, mlp_ratio: the encoder (see ViTEncoder).
        decoder_embed_dim, decoder_depth, decoder_num_heads: the decoder; the paper's is 512, 8, 16.
        mask_ratio: fraction of hidden patches; 0.75 in the paper.
        norm_pix: per-patch normalised target; the paper's best setting.
        masking: another strategy than random, with its own ratio.
    """

    def __init__(
        self, image_size: int = 224, patch_size: int = 16,
        embed_dim: int = 768, depth: int = 12, num_heads: int = 12, mlp_ratio: float = 4.0,
        decoder_embed_dim: int = 512, decoder_depth: int = 8, decoder_num_heads: int = 16,
        mask_ratio: float = 0.75, norm_pix: bool = True, masking: Masking | None = None,
    ):  # fmt: skip
        super().__init__()
        self.architecture = {name: value for name, value in locals().items() if name not in {"self", "__class__"}}
        masking = masking or RandomMasking(mask_ratio)
        self.architecture |= {"mask_ratio": masking.mask_ratio, "masking": masking.architecture}
        self.patch_size, self.mask_ratio, self.norm_pix = patch_size, masking.mask_ratio, norm_pix
        self.encoder = ViTEncoder(image_size, patch_size, embed_dim, depth, num_heads, mlp_ratio)
        self.grid = (1, *self.encoder.grid)
        positions, values = sincos_positions(decoder_embed_dim, self.encoder.grid), patch_size**2 * 3
        self.decoder = Decoder(positions, embed_dim, values, decoder_depth, decoder_num_heads, mlp_ratio, cls_tokens=1)
        self.masking = masking.prepare(self.encoder.pos_embed[0, 1:], self.grid)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """{"image": uint8 (B, 3, H, W)} -> (loss, logs)."""
        images = normalize_images(batch["image"])
        prediction, mask = self.predict(images)
        target = target_patches(images, self.patch_size, self.norm_pix)
        errors = (prediction.float() - target).square().mean(dim=-1)  # (B, N)
        return self.masking.objective(masked_mean(errors, mask.hidden), errors, mask)

    def predict(self, images: Tensor, mask: Mask | None = None) -> tuple[Tensor, Mask]:
        """Predicted patches (B, N, P*P*3) in the loss's target space, and the mask used (drawn when None).

        images: normalised, float (B, 3, H, W), of the size that the model was built for.
        """
        check_size(images, self.patch_size, self.encoder.grid)
        patches = self.encoder.patch_embed(images)  # (B, N, D), for mask and encoder
        mask = mask or self.masking(patches, self.grid)
        latent = self.encoder(images, mask.keep, patches=patches)  # (B, 1 + K, D)
        return self.decoder(latent, mask.restore), mask

    def features(self, images: Tensor, block: int = -1) -> Tensor:
        """Feature grid (B, D, h, w) of unmasked, normalised frames (B, 3, H, W); see ViTEncoder.features."""
        return self.encoder.features(images, block)
