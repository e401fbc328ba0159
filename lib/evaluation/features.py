"""Frames to features, a batch at a time, whoever the encoder is.

A `feature_fn` takes float32 (B, 3, H, W), normalised by ImageNet's statistics, and returns (B, D, h, w). Shapes: `B`
batch, `D` feature width, `h w` feature grid (cells), `H W` pixels, `P` patch side.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.errors import UserError
from lib.evaluation.protocols import Protocol, input_size
from lib.tokens.patches import normalize_images

FRAMES_AT_ONCE = 4  # bounds the memory of a batch


class FrameFeatures:
    """The features (D, h, w) of a video's frames, encoded when they are needed, once.

    `frames`: (H, W, 3) uint8 each, resized bilinearly without antialiasing, as the reference evaluations do; the first
    is read at once. Attributes: `size` (H, W) of the frames, `input_size` (H, W) as encoded, `grid` (h, w).
    """

    def __init__(
        self, frames: Iterable[np.ndarray], feature_fn: Callable[[Tensor], Tensor], patch_size: int,
        protocol: Protocol, device: torch.device | str = "cpu",
    ):  # fmt: skip
        frames = iter(frames)
        first = next(frames, None)
        if first is None:
            raise UserError("a video without frames has no labels; give at least one frame")
        self.size = first.shape[:2]
        self.input_size = input_size(self.size, patch_size, protocol)
        self.grid = (self.input_size[0] // patch_size, self.input_size[1] // patch_size)
        self.frames, self.feature_fn, self.device = chain([first], frames), feature_fn, device

    def __iter__(self) -> Iterator[Tensor]:
        while batch := list(islice(self.frames, FRAMES_AT_ONCE)):
            images = torch.from_numpy(np.stack(batch)).to(self.device).permute(0, 3, 1, 2).float() / 255
            images = F.interpolate(images, self.input_size, mode="bilinear", align_corners=False)
            features = self.feature_fn(normalize_images(images))
            if features.ndim != 4 or tuple(features.shape[2:]) != self.grid:
                raise UserError(f"feature_fn returned {tuple(features.shape)}; expected (B, D, *{self.grid})")
            yield from features


def rgb_patch_features(patch_size: int) -> Callable[[Tensor], Tensor]:
    """A baseline's `feature_fn`: each cell's feature is its patch of pixels, (B, 3 * P * P, H / P, W / P)."""
    return lambda images: F.pixel_unshuffle(images, patch_size)


def place_share(features: Iterable[Tensor]) -> tuple[float, Tensor]:
    """How much of the variance of features (D, h, w) of many frames the place alone explains, 0 to 1.

    Also the mean over the frames, (D, h, w): what a feature says of its place, whatever is there. Frames of one still
    camera are alike: of features that know no place it is about 1 over the number of videos.
    """
    count, total, squares = 0, 0, 0
    for one in features:
        count, total, squares = count + 1, total + one.double(), squares + one.double().square()
    mean, square = total / count, squares / count
    overall = mean.mean(dim=(1, 2), keepdim=True)
    variance = (square.mean(dim=(1, 2), keepdim=True) - overall.square()).sum()
    return float((mean - overall).square().mean(dim=(1, 2)).sum() / variance), mean.float()
