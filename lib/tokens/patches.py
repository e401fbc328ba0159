"""Images as sequences of patches, what a prediction of them is compared with, and where each patch lies.

After MAE (He et al. 2022, arXiv 2111.06377, section 3) and its release. Shapes: `B` batch, `C` channels, `H W` pixels,
`P` patch side, `h w` patch grid (H/P, W/P), `N` = h*w patches, `D` token width. Patches are numbered row by row; a
patch vector is channel-last: (row, column, channel).
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from lib.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalize_images(images: Tensor) -> Tensor:
    """RGB (..., 3, H, W), uint8 or float in 0..1 -> float32, ImageNet mean 0 and standard deviation 1 per channel."""
    mean, std = (torch.tensor(rgb, device=images.device).view(3, 1, 1) for rgb in (IMAGENET_MEAN, IMAGENET_STD))
    scaled = images if images.is_floating_point() else images.float() / 255
    return (scaled - mean) / std


def denormalize_images(images: Tensor) -> Tensor:
    """Inverse of `normalize_images`, clipped to 0..1, for display: float (..., 3, H, W) -> same shape."""
    mean, std = (torch.tensor(rgb, device=images.device).view(3, 1, 1) for rgb in (IMAGENET_MEAN, IMAGENET_STD))
    return (images * std + mean).clamp(0, 1)


def grid_of(height: int, width: int, patch_size: int) -> tuple[int, int]:
    """The patch grid (h, w) of an image of `height` x `width` pixels, which must be whole patches."""
    if height % patch_size or width % patch_size:
        fits = "x".join(str(max(1, round(side / patch_size)) * patch_size) for side in (height, width))
        raise UserError(f"frame size {height}x{width} is no multiple of the patch size {patch_size}: use {fits}")
    return height // patch_size, width // patch_size


def check_size(images: Tensor, patch_size: int, grid: tuple[int, int]) -> None:
    """Refuse images (B, C, H, W) that are not of the patch grid (h, w) that a decoder predicts."""
    if grid_of(*images.shape[-2:], patch_size) != grid:
        sizes = [f"{h}x{w}" for h, w in (images.shape[-2:], [side * patch_size for side in grid])]
        raise UserError(f"frames are {sizes[0]}, but this model predicts frames of {sizes[1]}: resize or crop them")


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """(B, C, H, W) -> (B, N, P*P*C)."""
    grid_of(*images.shape[-2:], patch_size)
    return rearrange(images, "b c (h p) (w q) -> b (h w) (p q c)", p=patch_size, q=patch_size)


def unpatchify(patches: Tensor, patch_size: int, grid: tuple[int, int]) -> Tensor:
    """(B, N, P*P*C) with the patch grid (h, w) -> (B, C, H, W). Inverse of `patchify`."""
    h, w = grid
    return rearrange(patches, "b (h w) (p q c) -> b c (h p) (w q)", h=h, w=w, p=patch_size, q=patch_size)


def patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over a patch's pixels and channels jointly: (B, N, P*P*C) -> two of (B, N, 1)."""
    variance = patches.var(dim=-1, keepdim=True)  # unbiased, as in MAE's release; the epsilon stands inside the root
    return patches.mean(dim=-1, keepdim=True), (variance + 1e-6).sqrt()


def normalize_patches(patches: Tensor) -> Tensor:
    """MAE's per-patch normalised target (section 4.1, "w/ norm"): (B, N, P*P*C) -> same shape."""
    mean, std = patch_statistics(patches)
    return (patches - mean) / std


def target_patches(images: Tensor, patch_size: int, norm_pix: bool) -> Tensor:
    """What a prediction is compared with: normalised images float (B, 3, H, W) -> (B, N, P*P*3)."""
    patches = patchify(images, patch_size)
    return normalize_patches(patches) if norm_pix else patches


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
    positions: Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int], nudge: float = 0.0, antialias: bool = False
) -> Tensor:
    """Bicubic interpolation of a position table (N, D) from `old_grid` to `new_grid` -> (h*w, D).

    For frames of another size than a model was trained on; a new sine-cosine table would show it positions that it has
    never seen. `nudge` is added to the new sides when the scale is computed (0.1 in DINO and CropMAE); `antialias` is
    timm's way, which also takes another cubic kernel.
    """
    if old_grid == new_grid:
        return positions
    table = rearrange(positions, "(h w) d -> 1 d h w", h=old_grid[0])
    scale = tuple((new + nudge) / old for new, old in zip(new_grid, old_grid, strict=True))
    target = {"scale_factor": scale} if nudge else {"size": new_grid}
    table = F.interpolate(table, **target, mode="bicubic", align_corners=False, antialias=antialias)
    return rearrange(table, "1 d h w -> (h w) d")
