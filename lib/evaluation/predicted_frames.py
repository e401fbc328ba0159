"""How good a predicted frame is, as a whole or where something moves, and how much of a grid it shows.

SSIM (Wang et al. 2004) is torchmetrics': Gaussian window of 11 pixels and deviation 1.5, values in 0..1.
Shapes: `n` frames, `H W` pixels.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from lib.errors import UserError


class FrameMaps(NamedTuple):
    """What is measured at each pixel, channels averaged: float32 (n, H, W)."""

    similarity: Tensor  # SSIM
    error: Tensor  # absolute
    detail: Tensor  # squared Laplacian of the prediction
    true_detail: Tensor


def frame_maps(predicted: Tensor, truth: Tensor) -> FrameMaps:
    """Of frames float (n, 3, H, W) in 0..1; what is beyond is clipped."""
    if predicted.shape != truth.shape or truth.ndim != 4:
        raise UserError(f"frames are {tuple(predicted.shape)} and {tuple(truth.shape)}; expected (n, 3, H, W) twice")
    one, other = predicted.float().clamp(0, 1), truth.float().clamp(0, 1)
    _, similarity = structural_similarity_index_measure(
        one, other, data_range=1.0, reduction="none", return_full_image=True
    )
    maps = similarity, (one - other).abs(), _laplacian(one).square(), _laplacian(other).square()
    return FrameMaps(*(values.mean(dim=1) for values in maps))


def region_scores(maps: FrameMaps, region: Tensor) -> dict[str, Tensor]:
    """Means over a region, bool (n, H, W), not empty, of each frame: "ssim", "error", and "detail", as a part of the
    truth's, below 1 for a blurred frame; float64 (n,).
    """
    if region.shape != maps.error.shape:
        raise UserError(f"frames are {tuple(maps.error.shape)}, but the region is {tuple(region.shape)}")
    sizes = region.sum(dim=(1, 2))
    if not sizes.all():
        raise UserError(f"frame {int(sizes.argmin())} has an empty region: leave it out")
    means = FrameMaps(*((values.double() * region).sum(dim=(1, 2)) / sizes for values in maps))
    detail = means.detail / means.true_detail.clamp(min=1e-9)  # of a region of one colour
    return {"ssim": means.similarity, "error": means.error, "detail": detail}


def _laplacian(frames: Tensor) -> Tensor:
    kernel = frames.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]]).expand(frames.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(frames, (1, 1, 1, 1), mode="replicate"), kernel, groups=frames.shape[1])


def grid_power(frames: Tensor, period: int = 2) -> Tensor:
    """Power at the frequencies of a grid of `period` pixels, as a part of that just below them: float64 (n,).

    About 1 for a frame without a grid, which has no reason to prefer 1 / period. Frames float (n, C, H, W) are
    weighted by a Hann window, lest their borders count; a grid of rows, of columns, or of both counts.
    """
    height, width = frames.shape[-2:]
    if height % period or width % period or min(height, width) < 8 * period:
        raise UserError(f"frames of {height}x{width} are no 8 or more whole periods of {period} pixels: resize them")
    frames = frames.double() - frames.double().mean(dim=(-2, -1), keepdim=True)
    window = [torch.hann_window(side, periodic=True, dtype=torch.float64) for side in (height, width)]
    power = torch.fft.fft2(frames * window[0][:, None] * window[1]).abs().square().mean(dim=1)  # (n, H, W)
    rows, columns = height // period, width // period
    at = power[:, rows].sum(dim=-1) + power[:, :, columns].sum(dim=-1)
    below = [power[:, rows - k].sum(dim=-1) + power[:, :, columns - k].sum(dim=-1) for k in (3, 4)]
    return at / torch.stack(below).mean(dim=0)
