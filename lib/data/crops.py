"""Random crops of frames: their law, and how they are cut out. Shapes: `H W` pixels, `S` side of the square crop."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

CROP_RATIO = (3 / 4, 4 / 3)  # width / height
Box = tuple[int, int, int, int]  # of a crop: top, left, height, width


def draw_crop(height: int, width: int, rng: np.random.Generator, scale: tuple[float, float] = (0.5, 1.0)) -> Box:
    """A crop with the law of torchvision's RandomResizedCrop.

    Its area is uniform in `scale` of the frame's, width / height log-uniform in CROP_RATIO; after ten boxes that do not
    fit, the largest central one whose ratio is allowed.
    """
    low, high = CROP_RATIO
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(low), math.log(high)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    w, h = min(width, round(height * high)), min(height, round(width / low))
    return (height - h) // 2, (width - w) // 2, h, w


def crop_frames(frames: Sequence[np.ndarray], box: Box, side: int, mode: str = "bicubic") -> torch.Tensor:
    """n frames (H, W, 3) -> their crops at `side`, antialiased: (n, 3, S, S), both uint8."""
    top, left, h, w = box
    crops = np.stack([frame[top : top + h, left : left + w] for frame in frames])
    views = torch.from_numpy(crops).permute(0, 3, 1, 2)  # channels stay last in memory: PyTorch's quick path
    return F.interpolate(views, size=(side, side), mode=mode, antialias=True)


class Cut(NamedTuple):
    """Where a pair was cut out of its clip."""

    first: int  # the past's frame
    second: int  # the future's
    box: Box  # in the frame as it was read
    flip: bool  # mirrored, left for right, after the crop
