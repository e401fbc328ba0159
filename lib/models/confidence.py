"""How sure a SiamMAE is of each place of each frame of a video, given the frame before: weights for label propagation.

The model predicts square frames of the size it was trained on. A larger frame is covered by windows of that size. Each
is predicted twice, under masks that show different patches, so that every patch is hidden at least once. Shapes: `W`
windows, `H W` pixels, `h w` patch grid of a whole frame.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.errors import UserError
from lib.models.siammae import SiamMAE
from lib.models.uncertainty import SingleModel, mix
from lib.tokens.masking import mask_from_noise, num_visible
from lib.tokens.patches import grid_of, normalize_images

NEXT = 1.0  # the gap between a frame and the next, in frames at 30 fps; nearer than any that training draws


@dataclass(frozen=True)
class FrameConfidence:
    """Called with frames (H, W, 3) uint8, yields a confidence (h, w) in (0, 1] for each: exp(-sharpness * variance).

    The variance is a patch's mean predicted one, in the loss's target space; `model` must state one. Frame 0, whose
    labels are given, has 1 everywhere. Frames are resized to `input_size` (H, W) first, as for the features; windows
    must fit in.
    """

    model: SiamMAE
    input_size: tuple[int, int]
    sharpness: float = 1.0

    def __call__(self, frames: Iterable[np.ndarray]) -> Iterator[Tensor]:
        """One confidence a frame, as frames come."""
        grid = grid_of(*self.input_size, self.model.patch_size)
        generator = torch.Generator().manual_seed(0)
        yield torch.ones(grid)
        for past, future in pairwise(map(self._image, frames)):
            yield torch.exp(-self.sharpness * predicted_variance(self.model, past, future, generator)).cpu()

    def _image(self, frame: np.ndarray) -> Tensor:
        device = next(self.model.parameters()).device
        image = torch.from_numpy(np.ascontiguousarray(frame)).to(device).permute(2, 0, 1)[None].float() / 255
        return normalize_images(F.interpolate(image, self.input_size, mode="bilinear", align_corners=False))


def predicted_variance(model: SiamMAE, past: Tensor, future: Tensor, generator: torch.Generator) -> Tensor:
    """Mean predicted variance of each patch of a frame: normalised frames float (1, 3, H, W) -> (h, w) float32.

    Windows that overlap are averaged. `generator` is of the CPU.
    """
    patch, side = model.patch_size, model.encoder.grid[0] * model.patch_size
    corners = [(top, left) for top in starts(past.shape[2], side, patch) for left in starts(past.shape[3], side, patch)]
    windows = [np.s_[..., y : y + side, x : x + side] for y, x in corners]
    pasts, futures = (torch.cat([frame[window] for window in windows]) for frame in (past, future))
    num_patches = math.prod(model.grid)
    noise = torch.rand(len(corners), num_patches, generator=generator).to(past.device)
    masks = [mask_from_noise(drawn, num_visible(num_patches, model.mask_ratio)) for drawn in (noise, -noise)]
    gap = torch.full((len(corners),), NEXT, device=past.device)
    predictions = [SingleModel(model).predict(pasts, futures, mask, gap) for mask in masks]
    variance = mix(predictions, [mask.hidden for mask in masks]).total.mean(dim=-1)  # (W, patches of a window)
    total = variance.new_zeros(grid_of(*past.shape[2:], patch))
    count = torch.zeros_like(total)
    for (top, left), window in zip(corners, variance.unflatten(1, model.encoder.grid), strict=True):
        place = np.s_[top // patch : (top + side) // patch, left // patch : (left + side) // patch]
        total[place] += window
        count[place] += 1
    return total / count


def starts(length: int, side: int, patch: int) -> list[int]:
    """Where windows of `side` pixels begin that cover `length` with as few as can be, evenly, on whole patches."""
    if length < side:
        raise UserError(f"frames have a side of {length} pixels, but the model predicts {side}: enlarge input_size")
    windows = math.ceil(length / side)
    return [round((length - side) * k / max(1, windows - 1) / patch) * patch for k in range(windows)]
