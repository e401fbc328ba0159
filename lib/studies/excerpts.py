"""What the pictures of an evaluation show: frames with truth and prediction, and where an encoder looks.

Shapes: `H W` pixels, `h w` patch grid.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lib.data.images import read_mask
from lib.data.jhmdb import JhmdbDataset
from lib.data.sequences import SequenceDataset
from lib.evaluation.protocols import Protocol, input_size
from lib.models.attention import attention_maps, query_map
from lib.score.jhmdb import read_joints
from lib.tokens.patches import normalize_images

FRAMES = 6


def excerpt(
    dataset: SequenceDataset, index: int, folder: Path, max_frames: int | None = None
) -> tuple[np.ndarray, Sequence[np.ndarray], Sequence[np.ndarray]]:
    """FRAMES of one video from its first to its last scored one, with the truth and the prediction in `folder`.

    Masks (H, W) have the ids 0, 1, ... in the order of those in frame 0, 0 for any other; joints are (15, 2) pixels.
    """
    video = dataset.sequences[index]
    is_joints = isinstance(dataset, JhmdbDataset)
    scored = len(video.joints(max_frames) if is_joints else video.stems[:max_frames])
    times = np.linspace(0, scored - 1, FRAMES).round().astype(int)
    if is_joints:
        predicted = read_joints(folder / f"{index % len(dataset)}.dat", video.frame(0).shape[:2])
        return times, video.joints()[times], predicted[times]
    known = np.unique(video.first_mask())

    def numbered(ids: np.ndarray) -> np.ndarray:
        return np.where(np.isin(ids, known), np.searchsorted(known, ids), 0)

    written = [read_mask(folder / video.name / f"{video.stems[t]}.png") for t in times]
    return times, [numbered(video.mask(t)) for t in times], [numbered(ids) for ids in written]


def head_maps(
    encoder: nn.Module, frame: np.ndarray, protocol: Protocol, query: str | tuple[float, float]
) -> np.ndarray:
    """Attention of the last block among a frame's patches, in multiples of uniform attention: (heads, h, w).

    `frame`: (H, W, 3) uint8. `query`: "cls", or the patch at a place (y, x), fractions of the frame.
    """
    size = input_size(frame.shape[:2], encoder.patch_size, protocol)
    grid = tuple(side // encoder.patch_size for side in size)
    image = torch.from_numpy(frame).permute(2, 0, 1)[None].float().to(next(encoder.parameters()).device) / 255
    image = normalize_images(F.interpolate(image, size, mode="bilinear"))
    patch = query if query == "cls" else tuple(int(part * side) for part, side in zip(query, grid, strict=True))
    return query_map(attention_maps(encoder, image), grid, patch)[0].cpu().numpy() * grid[0] * grid[1]
