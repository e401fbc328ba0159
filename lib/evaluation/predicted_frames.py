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
    """Means over a region, bool (n, H, W), not empty, of each frame: "ssim", "error", "detail" and "true detail";
    float64 (n,). A blurred frame has less detail than the truth.
    """
    if region.shape != maps.error.shape:
        raise UserError(f"frames are {tuple(maps.error.shape)}, but the region is {tuple(region.shape)}")
    sizes = region.sum(dim=(1, 2))
    if not sizes.all():
        raise UserError(f"frame {int(sizes.argmin())} has an empty region: leave it out")
    means = ((values.double() * region).sum(dim=(1, 2)) / sizes for values in maps)
    return dict(zip(("ssim", "error", "detail", "true detail"), means, strict=True))


def _laplacian(frames: Tensor) -> Tensor:
    kernel = frames.new_tensor([[0, 1, 0], [1, -4, 1], [0, 1, 0]]).expand(frames.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(frames, (1, 1, 1, 1), mode="replicate"), kernel, groups=frames.shape[1])


def grid_power(predicted: Tensor, truth: Tensor) -> Tensor:
    """Power at the frequency of a grid of 2 pixels, the highest, as a part of the truth's just below: float64 (n,).

    Noise has 1, a blurred frame less. Frames float (n, C, H, W) in 0..1, what is beyond
    is clipped; they are weighted by a Hann window, lest their borders count; rows, columns or both may make the grid.
    """
    height, width = truth.shape[-2:]
    if predicted.shape != truth.shape or height % 2 or width % 2 or min(height, width) < 16:
        raise UserError(
            f"frames are {tuple(predicted.shape)} and {tuple(truth.shape)}; expected even sides of 16 or more"
        )
    window = [torch.hann_window(side, periodic=True, dtype=torch.float64) for side in (height, width)]

    def lines(frames: Tensor, below: int) -> Tensor:
        """Power of the waves along rows or columns, `below` cycles below the highest frequency."""
        frames = frames.double().clamp(0, 1)
        frames = frames - frames.mean(dim=(-2, -1), keepdim=True)
        power = torch.fft.fft2(frames * window[0][:, None] * window[1]).abs().square().mean(dim=1)  # (n, H, W)
        return power[:, height // 2 - below].sum(dim=-1) + power[:, :, width // 2 - below].sum(dim=-1)

    return lines(predicted, 0) / ((lines(truth, 3) + lines(truth, 4)) / 2).clamp(min=1e-12)
