"""Masked Autoencoder and its objective (He et al. 2022, arXiv 2111.06377).

Encode the visible patches of one image, fill the hidden places with a mask token, decode all, and compare the hidden
patches' pixels, each patch normalised by its own mean and deviation.

Shapes: `B` batch, `H W` pixels, `P` patch side, `h w` patch grid, `N` = h*w patches, `K` visible patches,
`D` encoder width, `E` decoder width.
"""

import math

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from lib.errors import UserError
from lib.models.vit import LayerNorm, ViTEncoder, initialize
from lib.tokens.masking import Mask, masked_mean, random_mask, restore_order
from lib.tokens.patches import grid_of, normalize_images, normalize_patches, patchify, sincos_positions


def masked_pixel_loss(prediction: Tensor, images: Tensor, hidden: Tensor, patch_size: int, norm_pix: bool) -> Tensor:
    """Mean squared error over the hidden patches' pixels -> scalar (MAE section 3, "reconstruction target").

    prediction (B, N, P*P*3), images float (B, 3, H, W), hidden bool (B, N). With `norm_pix` the target patches are
    normalised by their own mean and standard deviation.
    """
    target = patchify(images, patch_size)
    if norm_pix:
        target = normalize_patches(target)
    return masked_mean((prediction.float() - target).square().mean(dim=-1), hidden)


def check_size(images: Tensor, patch_size: int, grid: tuple[int, int]) -> None:
    """UserError unless images (B, 3, H, W) fill the decoder's patch grid (h, w), whose positions are fixed."""
    if grid_of(*images.shape[-2:], patch_size) != grid:
        sizes = [f"{h}x{w}" for h, w in (images.shape[-2:], [side * patch_size for side in grid])]
        raise UserError(f"frames are {sizes[0]}, but this model predicts frames of {sizes[1]}: resize or crop them")


class MAE(nn.Module):
    """MAE on single frames.

    `model(batch)` takes {"image": uint8 (B, 3, H, W)} and returns the loss and a dict of logs.

    Args:
        image_size, patch_size, embed_dim, depth, num_heads, mlp_ratio: the encoder (see ViTEncoder).
        decoder_embed_dim, decoder_depth, decoder_num_heads: the decoder; the paper's is 512, 8, 16.
        mask_ratio: share of hidden patches; 0.75 in the paper.
        norm_pix: per-patch normalised target; the paper's best setting.
    """

    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        decoder_embed_dim: int = 512,
        decoder_depth: int = 8,
        decoder_num_heads: int = 16,
        mask_ratio: float = 0.75,
        norm_pix: bool = True,
    ):
        super().__init__()
        self.architecture = {name: value for name, value in locals().items() if name not in {"self", "__class__"}}
        self.patch_size, self.mask_ratio, self.norm_pix = patch_size, mask_ratio, norm_pix
        self.encoder = ViTEncoder(image_size, patch_size, embed_dim, depth, num_heads, mlp_ratio)
        self.decoder = MAEDecoder(
            self.encoder.grid, patch_size, embed_dim, decoder_embed_dim, decoder_depth, decoder_num_heads, mlp_ratio
        )
        self.draw_mask(1, math.prod(self.encoder.grid), "cpu")  # an impossible ratio fails here

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """{"image": uint8 (B, 3, H, W)} -> (loss, {"loss": ...})."""
        images = normalize_images(batch["image"])
        prediction, mask = self.predict(images)
        loss = masked_pixel_loss(prediction, images, mask.hidden, self.patch_size, self.norm_pix)
        return loss, {"loss": loss.detach()}

    def predict(self, images: Tensor, mask: Mask | None = None) -> tuple[Tensor, Mask]:
        """Predicted patches (B, N, P*P*3) in the loss's target space, and the mask used (drawn when None).

        UserError when the images (B, 3, H, W) are not of the size the model was built for.
        """
        check_size(images, self.patch_size, self.encoder.grid)
        mask = mask or self.draw_mask(len(images), math.prod(self.encoder.grid), images.device)
        latent = self.encoder(images, mask.keep)
        return self.decoder(latent, mask.restore), mask

    def draw_mask(self, batch: int, num_patches: int, device: torch.device | str) -> Mask:
        """A random mask at this model's ratio."""
        return random_mask(batch, num_patches, self.mask_ratio, device)

    def features(self, images: Tensor, block: int = -1) -> Tensor:
        """Feature grid (B, D, h, w) of unmasked, normalised frames (B, 3, H, W); see ViTEncoder.features."""
        return self.encoder.features(images, block)


class MAEDecoder(nn.Module):
    """Plain transformer over all places: latent (B, 1 + K, D), restore int64 (B, N) -> pixels (B, N, P*P*3)."""

    def __init__(
        self,
        grid: tuple[int, int],
        patch_size: int,
        encoder_dim: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
    ):
        super().__init__()
        self.embed = nn.Linear(encoder_dim, embed_dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.register_buffer("pos_embed", sincos_positions(embed_dim, grid).unsqueeze(0))
        self.blocks = nn.ModuleList(
            Block(embed_dim, num_heads, mlp_ratio, qkv_bias=True, norm_layer=LayerNorm) for _ in range(depth)
        )
        self.norm = LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, patch_size**2 * 3)
        initialize(self)

    def forward(self, latent: Tensor, restore: Tensor) -> Tensor:
        """Fill the hidden places, add positions, decode."""
        tokens = self.embed(latent)
        cls, visible = tokens[:, :1], tokens[:, 1:]
        places = restore_order(visible, self.mask_token, restore) + self.pos_embed
        tokens = torch.cat([cls, places], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens[:, 1:]))
