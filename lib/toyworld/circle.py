"""The moving circle: a disc that crosses the picture at a steady pace, the report's first test of its video ladder.

Shapes: `H W` pixels, `T` frames.
"""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

FRAMES = 6


class Circles(Dataset):
    """Five sequences: {"video": uint8 (3, 6, H, W)}; dataset[i] is number i % 5, as for lib.data.clips.FramePairs.

    One sequence, and it moved up, down, on, and mirrored: the report's, as far as it tells. The disc is white with a
    soft edge, on black. `centres` float64 (5, 6, 2) are x and y of its middle in pixels.
    """

    def __init__(self, size: tuple[int, int] = (32, 32), radius: float = 4.0, pace: float = 2.0):
        height, width = size
        start, middle, shift = radius + 2 + np.arange(FRAMES) * pace, (height - 1) / 2, height / 5
        paths = [(start, middle - shift), (start, middle), (start, middle + shift)]
        paths += [(start + 2 * pace, middle), (width - 1 - start, middle)]
        centres = np.stack([np.stack(np.broadcast_arrays(x, y), axis=-1) for x, y in paths])
        y, x = np.mgrid[0:height, 0:width]
        distance = np.hypot(x - centres[..., 0, None, None], y - centres[..., 1, None, None])
        disc = np.clip(radius + 0.5 - distance, 0, 1)  # (5, 6, H, W)
        frames = torch.from_numpy((255 * disc).round().astype(np.uint8))
        self.videos = frames.unsqueeze(1).repeat(1, 3, 1, 1, 1)
        self.centres = torch.from_numpy(centres)
        self.identity = f"circles {size} {radius} {pace}"

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"video": self.videos[index % len(self)]}


def centroids(frames: Tensor) -> Tensor:
    """Middle of what is brighter than half in frames (..., 3, H, W): float64 (..., 2), x and y in pixels; NaN for none.

    Half, because a faint haze over the whole picture would draw the middle of all light to that of the picture.
    """
    light = (frames.double().clamp(0, 1).mean(dim=-3) - 0.5).clamp(min=0)
    y, x = (torch.arange(side, dtype=light.dtype) for side in light.shape[-2:])
    sums = (light.sum(dim=-2) * x).sum(dim=-1), (light.sum(dim=-1) * y).sum(dim=-1)
    return torch.stack(sums, dim=-1) / light.sum(dim=(-2, -1)).unsqueeze(-1)
