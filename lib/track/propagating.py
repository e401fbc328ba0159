"""Masks and points of a stream of frames, in one pass: the same neighbours carry both.

As lib.evaluation's, save that frames are made small without aliasing, the first mask is averaged over each cell,
classes are decided at the frame's own size (a 1080p frame has 20 times the pixels that the network sees), and a point
keeps its place within its cell, so that what stands still stays. Shapes: `H W` pixels of the frames, `P` points, `h w`
cells.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lib.errors import UserError
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
    """Mask and points of each frame (H, W, 3), those of the first as given; either may be None.

    UserError for an object that is too small for the cells that the network sees.
    """
    height, width = protocol.input_size
    small = (np.array(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR)) for frame in frames)
    features = FrameFeatures(small, feature_fn, patch_size, protocol, device)
    classes = None if mask is None else np.unique(mask)
    pixels_per_cell = np.array(size[::-1]) / features.grid[::-1]
    labels, channels = [], 0
    if mask is not None:
        labels, channels = [labels_to_cells(mask, classes, features.grid, protocol)], len(classes)
        _check_sizes(mask, classes[cells_to_classes(labels[0], size, protocol).numpy()], pixels_per_cell, protocol)
    if points is not None:
        labels.append(joints_to_cells(points - pixels_per_cell / 2, size, features.grid))
        within = points - cells_to_joints(labels[-1], protocol.joint_cells) * pixels_per_cell
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
            inside = np.clip(cells * pixels_per_cell + within, 0, np.array(size[::-1]) - 1)
            places = np.where(cells < 0, LOST, inside)
        yield ids, places


def _check_sizes(mask: np.ndarray, seen: np.ndarray, pixels_per_cell: np.ndarray, protocol: Protocol) -> None:
    """UserError if an id of the mask is lost as soon as it is put into cells."""
    for number in np.setdiff1d(mask, seen):
        rows, columns = np.nonzero(mask == number)
        sides = np.array([np.ptp(columns), np.ptp(rows)]) + 1
        enough = math.ceil(min(protocol.input_size) * 1.5 * float((pixels_per_cell / sides).max()))
        cell = "x".join(f"{side:.0f}" for side in pixels_per_cell)
        raise UserError(
            f"object {number}, {sides[0]}x{sides[1]} pixels, is lost in cells of {cell} pixels: try --size {enough}"
        )
