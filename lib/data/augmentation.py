"""What else may be done to the frames of a pair: turns, colours, a crop in the crop (for SiamMAE's Table 3a).

Shapes: `n` frames, `H W` pixels, `S` side of the square crop in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from lib.data.clips import Box, crop_frames, draw_crop
from lib.errors import UserError


@dataclass(frozen=True)
class Augmentation:
    """The defaults do nothing.

    rotation: degrees; a crop is turned about its centre by an
    angle uniform in -rotation..rotation. color_jitter: brightness, contrast and saturation times a number uniform in
    1 - it..1 + it, the hue turned by up to a quarter of it (of a full turn). future_alone: the past is neither turned
    nor coloured; else both frames are, alike. second_crop: the future shows a crop of the pair's crop, its area a part
    uniform in this range, as in CropMAE (arXiv 2403.17823).
    """

    rotation: float = 0.0
    color_jitter: float = 0.0
    future_alone: bool = False
    second_crop: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.rotation <= 180:
            raise UserError(f"rotation {self.rotation} is outside 0..180 degrees")
        if not 0 <= self.color_jitter <= 1:
            raise UserError(f"color_jitter {self.color_jitter} is outside 0..1: use for example 0.4")
        if self.second_crop and not 0 < self.second_crop[0] <= self.second_crop[1] <= 1:
            raise UserError(f"second_crop {self.second_crop}: must be (smallest, largest), parts of the first crop")

    def views(self, frames: Sequence[np.ndarray], box: Box, side: int, rng: np.random.Generator) -> Tensor:
        """Past and future (H, W, 3), cut out at `box` -> uint8 (2, 3, S, S)."""
        inner = draw_inner(box, rng, self.second_crop) if self.second_crop else box
        angle = rng.uniform(-self.rotation, self.rotation) if self.rotation else 0.0
        if inner == box and not angle:
            views = crop_frames(frames, box, side)
        else:
            angles = (0.0 if self.future_alone else angle, angle)
            parts = zip(frames, (box, inner), angles, strict=True)
            views = torch.cat([turned_crop(frame, place, turn, side) for frame, place, turn in parts])
        if self.color_jitter:
            first = int(self.future_alone)  # view 0 is the past
            views[first:] = jitter_colors(views[first:], self.color_jitter, rng)
        return views


def draw_inner(box: Box, rng: np.random.Generator, scale: tuple[float, float]) -> Box:
    """A crop with the law of `draw_crop` inside a crop."""
    top, left, height, width = draw_crop(box[2], box[3], rng, scale)
    return box[0] + top, box[1] + left, height, width


def turned_crop(frame: np.ndarray, box: Box, angle: float, side: int) -> Tensor:
    """A frame (H, W, 3) turned by `angle` degrees, counter-clockwise, about the box's centre, cropped: (1, 3, S, S).

    Beyond its edges the frame is continued by its mirror image, lest black corners tell the angle.
    """
    top, left, height, width = box
    if not angle:
        return crop_frames([frame], box, side)
    reach = int(np.ceil((np.hypot(height, width) - min(height, width)) / 2)) + 1
    rows, columns = (
        mirrored(np.arange(start - reach, start + length + reach), size)
        for start, length, size in zip((top, left), (height, width), frame.shape, strict=False)
    )
    around = torch.from_numpy(frame[np.ix_(rows, columns)]).permute(2, 0, 1)
    turned = tv.rotate(around, angle, tv.InterpolationMode.BILINEAR)
    inside = turned[:, reach : reach + height, reach : reach + width]
    return crop_frames([inside.permute(1, 2, 0).numpy()], (0, 0, height, width), side)


def mirrored(places: np.ndarray, size: int) -> np.ndarray:
    """Places beyond 0..size-1 as an endless row of mirror images has them."""
    places = places % (2 * size)
    return np.minimum(places, 2 * size - 1 - places)


def jitter_colors(views: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Brightness, contrast, saturation and hue of uint8 (n, 3, S, S), all n alike."""
    brightness, contrast, saturation = 1 + rng.uniform(-strength, strength, 3)
    views = tv.adjust_brightness(views, brightness)
    views = tv.adjust_contrast(views, contrast)
    views = tv.adjust_saturation(views, saturation)
    return tv.adjust_hue(views, rng.uniform(-strength, strength) / 4)
