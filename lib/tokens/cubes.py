"""Videos as sequences of space-time cubes: after VideoMAE (arXiv 2203.12602) and AdaMAE (arXiv 2211.09120, 3.1).

Shapes: `B` batch, `C` channels, `T` frames, `H W` pixels, `t` frames a cube, `P` patch side, grid (s, h, w) =
(T/t, H/P, W/P), `N` = s*h*w cubes, `D` token width. Cubes are numbered frame by frame, within one row by row; a cube's
vector is channel-last: (frame, row, column, channel).
"""

import torch
from einops import rearrange
from torch import Tensor

from lib.errors import UserError, unknown
from lib.tokens.masking import Grid
from lib.tokens.patches import normalize_images


def normalize_videos(videos: Tensor) -> Tensor:
    """`normalize_images` of every frame: RGB (B, 3, T, H, W), uint8 or float in 0..1 -> float32."""
    return normalize_images(videos.transpose(1, 2)).transpose(1, 2)


def cube_grid(frames: int, height: int, width: int, tubelet_size: int, patch_size: int) -> Grid:
    """The grid (s, h, w) of a video's cubes t x P x P, which must be whole."""
    sides = {"frames": (frames, tubelet_size), "height": (height, patch_size), "width": (width, patch_size)}
    for name, (size, cube) in sides.items():
        if size < cube or size % cube:
            fits = max(cube, round(size / cube) * cube)
            raise UserError(
                f"video {frames}x{height}x{width} (frames, height, width) is not whole cubes of "
                f"{tubelet_size}x{patch_size}x{patch_size}: {name} {size} must be a multiple of {cube}, such as {fits}"
            )
    return frames // tubelet_size, height // patch_size, width // patch_size


def cubify(videos: Tensor, tubelet_size: int, patch_size: int) -> Tensor:
    """(B, C, T, H, W) -> (B, N, t*P*P*C)."""
    cube_grid(*videos.shape[-3:], tubelet_size, patch_size)
    pattern = "b c (s t) (h p) (w q) -> b (s h w) (t p q c)"
    return rearrange(videos, pattern, t=tubelet_size, p=patch_size, q=patch_size)


def uncubify(cubes: Tensor, tubelet_size: int, patch_size: int, grid: Grid) -> Tensor:
    """(B, N, t*P*P*C) with the grid (s, h, w) -> (B, C, T, H, W). Inverse of `cubify`."""
    s, h, w = grid
    pattern = "b (s h w) (t p q c) -> b c (s t) (h p) (w q)"
    return rearrange(cubes, pattern, s=s, h=h, w=w, t=tubelet_size, p=patch_size, q=patch_size)


def cube_statistics(cubes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each RGB cube and what to divide by, each channel apart: (B, N, t*P*P*3) -> two of the same shape.

    VideoMAE's and AdaMAE's convention, unlike MAE's: the variance is unbiased and 1e-6 is added outside the root.
    """
    values = rearrange(cubes, "b n (v c) -> b n v c", c=3)
    mean, scale = values.mean(dim=2, keepdim=True), values.std(dim=2, keepdim=True) + 1e-6
    return tuple(statistic.expand_as(values).flatten(2) for statistic in (mean, scale))


def target_cubes(videos: Tensor, tubelet_size: int, patch_size: int, norm_pix: bool) -> Tensor:
    """What a prediction is compared with: RGB float in 0..1 (B, 3, T, H, W) -> (B, N, t*P*P*3)."""
    cubes = cubify(videos, tubelet_size, patch_size)
    if not norm_pix:
        return cubes
    mean, scale = cube_statistics(cubes)
    return (cubes - mean) / scale


def separable_positions(embed_dim: int, grid: Grid) -> Tensor:
    """Fixed space-time sine-cosine table (N, D), float32: a part of the channels for each of time, row and column.

    A third of the D/2 sine-cosine pairs each, the remainder for time. Each part is sines, then cosines, with
    wavelengths 2*pi*10000^(k / pairs).
    """
    _check_width(embed_dim, least=6)
    space = embed_dim // 2 // 3
    pairs = (embed_dim // 2 - 2 * space, space, space)
    axes = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) for side in grid), indexing="ij")
    parts = []
    for axis, count in zip(axes, pairs, strict=True):
        angles = axis.reshape(-1, 1) * 10000.0 ** -(torch.arange(count, dtype=torch.float64) / count)
        parts += [angles.sin(), angles.cos()]
    return torch.cat(parts, dim=1).float()


def flattened_positions(embed_dim: int, grid: Grid) -> Tensor:
    """AdaMAE's released table (N, D), float32, blind to the grid: sines and cosines of the cube's running number.

    The text speaks of a three-dimensional table; the code, as VideoMAE's, numbers the cubes 0..N-1. Channels 2k and
    2k + 1 are sine and cosine of wavelength 2*pi*10000^(2k / D).
    """
    _check_width(embed_dim, least=2)
    s, h, w = grid
    frequencies = 10000.0 ** -(torch.arange(0, embed_dim, 2, dtype=torch.float64) / embed_dim)
    angles = torch.arange(s * h * w, dtype=torch.float64).unsqueeze(1) * frequencies
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1).float()


POSITIONS = {"separable": separable_positions, "flattened": flattened_positions}


def position_table(name: str, embed_dim: int, grid: Grid) -> Tensor:
    """The table (N, D) that POSITIONS knows by `name`."""
    if name not in POSITIONS:
        raise unknown("positions", name, POSITIONS)
    return POSITIONS[name](embed_dim, grid)


def _check_width(embed_dim: int, least: int) -> None:
    if embed_dim % 2 or embed_dim < least:
        raise UserError(f"embed_dim {embed_dim} cannot hold these positions: use an even number of at least {least}")


def paint_cubes(
    videos: Tensor, prediction: Tensor, hidden: Tensor, tubelet_size: int, patch_size: int, norm_pix: bool
) -> Tensor:
    """A viewable reconstruction: predicted pixels where hidden, true pixels elsewhere.

    videos float in 0..1 (B, 3, T, H, W), prediction (B, N, t*P*P*3), hidden bool (B, N) -> (B, 3, T, H, W) in 0..1.
    With `norm_pix` the mean and contrast of each cube are the truth's, which flatters the picture: say so beside it.
    """
    cubes = cubify(videos, tubelet_size, patch_size)
    if norm_pix:
        mean, scale = cube_statistics(cubes)
        prediction = prediction * scale + mean
    painted = torch.where(hidden.unsqueeze(-1), prediction.clamp(0, 1), cubes)
    return uncubify(painted, tubelet_size, patch_size, cube_grid(*videos.shape[-3:], tubelet_size, patch_size))


def paint_hidden(videos: Tensor, hidden: Tensor, tubelet_size: int, patch_size: int) -> Tensor:
    """The videos with their hidden cubes grey: float in 0..1 (B, 3, T, H, W), hidden bool (B, N) -> same shape."""
    cubes = cubify(videos, tubelet_size, patch_size).masked_fill(hidden.unsqueeze(-1), 0.5)
    return uncubify(cubes, tubelet_size, patch_size, cube_grid(*videos.shape[-3:], tubelet_size, patch_size))
