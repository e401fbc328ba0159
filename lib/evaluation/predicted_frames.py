"""How good a predicted frame is, as a whole or where something moves, and how much of it is grid or false detail.

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


def grid_peak(predicted: Tensor, truth: Tensor) -> Tensor:
    """A grid of single pixels: power at its frequency, the highest along rows or columns, less that just below, where
    no such grid is; as a part of the truth's just below. float64 (n,).

    Noise has 0, and so has blur; photographs are a little below. Frames as in `false_detail`.
    """
    one, other = (_waves(frames).abs().square().mean(dim=1) for frames in _checked(predicted, truth))  # (n, H, W)

    def lines(power: Tensor, below: int) -> Tensor:
        """Power of the waves along rows or columns, `below` cycles below the highest frequency."""
        height, width = power.shape[-2:]
        return power[:, height // 2 - below].sum(dim=-1) + power[:, :, width // 2 - below].sum(dim=-1)

    below, true_below = ((lines(power, 3) + lines(power, 4)) / 2 for power in (one, other))
    return (lines(one, 0) - below) / true_below.clamp(min=1e-12)


def false_detail(predicted: Tensor, truth: Tensor) -> Tensor:
    """What of the prediction's highest frequencies along rows or columns is at right angles to the truth's waves,
    twice, as a part of the truth's power there. float64 (n,).

    The truth has 0, and so has the truth blurred, which damps waves but moves none; blocks of 2 x 2 pixels have some,
    and so has detail at a wrong place; noise of the truth's power has 1. Frames float (n, C, H, W) in 0..1, what is
    beyond is clipped; they are weighted by a Hann window, lest borders count.
    """
    predicted, truth = _checked(predicted, truth)
    rows, columns = (torch.fft.fftfreq(side).abs() >= 3 / 8 for side in truth.shape[-2:])  # the highest is 1/2
    one, other = (_waves(frames)[..., rows[:, None] | columns].flatten(1) for frames in (predicted, truth))
    across = (one * other.conj()).imag / other.abs().clamp(min=1e-12)
    return 2 * across.square().sum(dim=1) / other.abs().square().sum(dim=1).clamp(min=1e-12)


def _checked(predicted: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    sides = truth.shape[-2:]
    if predicted.shape != truth.shape or min(sides) < 16 or any(side % 2 for side in sides):
        raise UserError(
            f"frames are {tuple(predicted.shape)} and {tuple(truth.shape)}; expected equal, even sides, 16 up"
        )
    return predicted, truth


def _waves(frames: Tensor) -> Tensor:
    """The spectrum (n, C, H, W), complex128, under a Hann window."""
    window = [torch.hann_window(side, periodic=True, dtype=torch.float64) for side in frames.shape[-2:]]
    frames = frames.double().clamp(0, 1)
    return torch.fft.fft2((frames - frames.mean(dim=(-2, -1), keepdim=True)) * window[0][:, None] * window[1])
