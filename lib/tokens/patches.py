"""Images as sequences of patches, and where each patch lies.

Follows MAE (He et al. 2022, arXiv 2111.06377, section 3) and its released conventions.

Shapes: `B` batch, `C` channels, `H W` pixels, `P` patch side, `h w` patch grid (H/P, W/P), `N` = h*w patches,
`D` token width. Patches are numbered row by row; a patch vector is channel-last: (row, column, channel).
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from lib.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize_images(images: Tensor) -> Tensor:
    """RGB (..., 3, H, W) -> float32, ImageNet mean 0 and standard deviation 1 per channel.

    uint8 counts from 0 to 255; floats are taken to be in 0..1 already.
    """
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=images.device).view(3, 1, 1)
    scaled = images if images.is_floating_point() else images.float() / 255
    return (scaled - mean) / std


def denormalize_images(images: Tensor) -> Tensor:
    """Inverse of `normalize_images` up to rounding: float (..., 3, H, W) -> float in 0..1, clipped, for display."""
    mean = torch.tensor(IMAGENET_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=images.device).view(3, 1, 1)
    return (images * std + mean).clamp(0, 1)


def grid_of(height: int, width: int, patch_size: int) -> tuple[int, int]:
    """The patch grid (h, w) of an image of `height` x `width` pixels; UserError unless both are whole patches."""
    if height % patch_size or width % patch_size:
        fits = tuple(max(patch_size, round(side / patch_size) * patch_size) for side in (height, width))
        raise UserError(
            f"frame size {height}x{width} is no multiple of the patch size {patch_size}: use {fits[0]}x{fits[1]}"
        )
    return height // patch_size, width // patch_size


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """(B, C, H, W) -> (B, N, P*P*C). UserError when H or W is no multiple of P."""
    grid_of(*images.shape[-2:], patch_size)
    return rearrange(images, "b c (h p) (w q) -> b (h w) (p q c)", p=patch_size, q=patch_size)


def unpatchify(patches: Tensor, patch_size: int, grid: tuple[int, int]) -> Tensor:
    """(B, N, P*P*C) with the patch grid (h, w) -> (B, C, H, W). Inverse of `patchify`."""
    h, w = grid
    return rearrange(patches, "b (h w) (p q c) -> b c (h p) (w q)", h=h, w=w, p=patch_size, q=patch_size)


def patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch over its pixels and channels jointly.

    (B, N, P*P*C) -> two of (B, N, 1). The variance is unbiased and 1e-6 is added inside the root, as in MAE's release;
    VideoMAE and AdaMAE differ (per channel, epsilon outside the root).
    """
    mean = patches.mean(dim=-1, keepdim=True)
    variance = patches.var(dim=-1, keepdim=True)
    return mean, (variance + 1e-6).sqrt()


def normalize_patches(patches: Tensor) -> Tensor:
    """MAE's per-patch normalised target (section 4.1, "w/ norm"): (B, N, P*P*C) -> same shape."""
    mean, std = patch_statistics(patches)
    return (patches - mean) / std


def sincos_positions(embed_dim: int, grid: tuple[int, int]) -> Tensor:
    """Fixed two-dimensional sine-cosine table (N, D), float32, for the patch grid (h, w).

    The first half of the channels encodes the column and the second the row, as in MAE's released weights (whose
    comments say otherwise). Within each half: sines, then cosines, with wavelengths 2*pi*10000^(k / (D/4)).
    """
    if embed_dim % 4:
        raise UserError(f"embed_dim {embed_dim} is no multiple of 4, which two-dimensional positions need")
    frequencies = 10000.0 ** -(torch.arange(embed_dim // 4, dtype=torch.float64) / (embed_dim // 4))
    rows, columns = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) for side in grid), indexing="ij")
    angles = [axis.reshape(-1, 1) * frequencies for axis in (columns, rows)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1).float()


def resize_positions(
    positions: Tensor,
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    nudge: float = 0.0,
    antialias: bool = False,
) -> Tensor:
    """Bicubic interpolation of a position table (N, D) from `old_grid` to `new_grid` -> (h*w, D).

    What DINO and CropMAE do to run on frames of another size than they were trained on. The alternative, a new
    sine-cosine table, shows the encoder positions it has never seen. `nudge` is added to the new sides when the scale
    is computed, which moves the samples a little: DINO and CropMAE use 0.1. `antialias` as timm does, which also
    takes another cubic kernel.
    """
    if old_grid == new_grid:
        return positions
    table = rearrange(positions, "(h w) d -> 1 d h w", h=old_grid[0])
    scale = tuple((new + nudge) / old for new, old in zip(new_grid, old_grid, strict=True))
    target = {"scale_factor": scale} if nudge else {"size": new_grid}
    table = F.interpolate(table, **target, mode="bicubic", align_corners=False, antialias=antialias)
    return rearrange(table, "1 d h w -> (h w) d")


def model_free_predictions(past: Tensor, future: Tensor, patch_size: int, norm_pix: bool) -> dict[str, Tensor]:
    """What a painted future must be held against: predictions (B, N, P*P*C) in the loss's target space, of no model.

    past, future: float (B, C, H, W). "copy of the past" moves nothing. "faded copy" is what differs in it from the
    patch means, times the one factor that fits these futures best: an oracle's. "true patch means alone" knows no more
    than `norm_pix` tells every picture.
    """
    copied, truth = patchify(past, patch_size), patchify(future, patch_size)
    means = patch_statistics(truth)[0].expand_as(truth)
    if norm_pix:
        copied, truth, means = normalize_patches(copied), normalize_patches(truth), torch.zeros_like(truth)
    level = 0 if norm_pix else means
    factor = ((copied - level) * (truth - level)).sum() / (copied - level).square().sum()
    faded = level + factor * (copied - level)
    return {"copy of the past": copied, "faded copy": faded, "true patch means alone": means}


def paint_prediction(images: Tensor, prediction: Tensor, hidden: Tensor, patch_size: int, norm_pix: bool) -> Tensor:
    """A viewable reconstruction: predicted pixels where hidden, true pixels elsewhere.

    images float (B, C, H, W), prediction (B, N, P*P*C), hidden bool (B, N) -> (B, C, H, W). With `norm_pix` the model
    predicts each patch up to its mean and contrast; those are taken from the true patch, which flatters the picture
    (every method's alike): say so beside it.
    """
    grid = grid_of(*images.shape[-2:], patch_size)
    patches = patchify(images, patch_size)
    if norm_pix:
        mean, std = patch_statistics(patches)
        prediction = prediction * std + mean
    return unpatchify(torch.where(hidden.unsqueeze(-1), prediction, patches), patch_size, grid)


def paint_mask(images: Tensor, hidden: Tensor, patch_size: int, grey: float = 0.0) -> Tensor:
    """The images with their hidden patches grey: float (B, C, H, W), hidden bool (B, N) -> (B, C, H, W)."""
    grid = grid_of(*images.shape[-2:], patch_size)
    patches = patchify(images, patch_size)
    return unpatchify(patches.masked_fill(hidden.unsqueeze(-1), grey), patch_size, grid)
