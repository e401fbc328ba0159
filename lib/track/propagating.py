"""Masks and points of a stream of frames, in one pass: the same neighbours carry both.

As lib.evaluation's, save that frames are made small without aliasing, the first mask is averaged over each cell, and
classes are decided at the frame's own size: a 1080p frame has 20 times the pixels that the network sees. Shapes: `H W`
pixels of the frames, `P` points, `h w` cells.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lib.evaluation.features import FrameFeatures
from lib.evaluation.keypoints import LOST, cells_to_joints, joints_to_cells
from lib.evaluation.masks import cells_to_classes, labels_to_cells
from lib.evaluation.propagation import propagate
from lib.evaluation.protocols import Protocol, get_protocol

Tracked = tuple[np.ndarray | None, np.ndarray | None]  # mask (H, W) uint8 ids, points (P, 2) pixels, LOST where lost


def protocol_for(size: tuple[int, int], short_side: int, patch_size: int) -> Protocol:
    """Videowalk's protocol for frames of `size` (H, W) whose short side the network shall see with so many pixels."""
    scale = short_side / min(size)
    seen = tuple(max(1, round(side * scale / patch_size)) * patch_size for side in size)
    return replace(get_protocol("crw"), input_size=seen, label_resize="area")


@torch.inference_mode()
def track(
    frames: Iterable[np.ndarray], size: tuple[int, int], mask: np.ndarray | None, points: np.ndarray | None,
    feature_fn: Callable[[Tensor], Tensor], patch_size: int, protocol: Protocol, device: str = "cpu",
) -> Iterator[Tracked]:  # fmt: skip
    """Mask and points of each frame (H, W, 3), those of the first as given; either may be None."""
    height, width = protocol.input_size
    small = (np.array(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR)) for frame in frames)
    features = FrameFeatures(small, feature_fn, patch_size, protocol, device)
    classes = None if mask is None else np.unique(mask)
    labels = [] if mask is None else [labels_to_cells(mask, classes, features.grid, protocol)]
    labels += [] if points is None else [joints_to_cells(points, size, features.grid)]
    channels = 0 if mask is None else len(classes)
    pixels_per_cell = np.array(size[::-1]) / features.grid[::-1]
    given = (mask, points)
    for soft in propagate(features, torch.cat(labels), protocol):
        if given is not None:
            yield given
            given = None
            continue
        ids, places = None, None
        if mask is not None:
            ids = classes[cells_to_classes(soft[:channels], size, protocol).cpu().numpy()].astype(np.uint8)
        if points is not None:
            cells = cells_to_joints(soft[channels:], protocol.joint_cells)
            places = np.where(cells < 0, LOST, cells * pixels_per_cell)
        yield ids, places
