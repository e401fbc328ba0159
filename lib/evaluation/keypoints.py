"""Keypoints, propagated: joints to soft labels on cells, and back to places in the frame.

As videowalk (Jabri et al. 2020) and CropMAE (Eymael et al. 2024) do it on JHMDB, down to the borders. A pixel x of a
frame W wide lies at x * w / W cells, and a cell back at its number times W / w: no half-cell offset, either way.
Shapes: `h w` feature grid (cells), `H W` pixels, `J` joints (15).
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from lib.errors import UserError
from lib.evaluation.features import FrameFeatures
from lib.evaluation.propagation import propagate
from lib.evaluation.protocols import Protocol

SIGMA = 0.5  # cells
LOST = -1.0


def joints_to_cells(joints: np.ndarray, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Joints (J, 2) in pixels x, y of a frame of `size` (H, W) as soft labels (J + 1, h, w) float32, background first.

    Each joint is a Gaussian on a stamp of 4 x 4 cells, 1 at the nearest cell (halves up), cut off at the border: a
    joint somewhat outside the frame leaves a trace, one farther away an empty channel.
    """
    joints = _checked(joints)
    columns, rows = (
        _stamps(joints[:, axis] * length / pixels, length)
        for axis, length, pixels in ((0, grid[1], size[1]), (1, grid[0], size[0]))
    )
    maps = rows[:, :, None] * columns[:, None, :]
    background = (maps.sum(axis=0) == 0)[None]
    return torch.from_numpy(np.concatenate([background, maps]).astype(np.float32))


def _stamps(places: np.ndarray, length: int) -> np.ndarray:
    """One side of the stamps at `places` (J,), in cells: (J, length)."""
    # as published, the corner is truncated towards zero: within 1.5 cells of the left and upper border it lies one
    # cell too far in
    start, stop = (np.trunc(places + shift)[:, None] for shift in (-3 * SIGMA, 3 * SIGMA + 1))
    cell = np.arange(length)
    gaussian = np.exp(-((cell - (start + 2)) ** 2) / (2 * SIGMA**2))
    return np.where((start <= cell) & (cell < stop), gaussian, 0.0)


def cells_to_joints(soft: Tensor, top_cells: int) -> np.ndarray:
    """Where the joints are: soft labels (J + 1, h, w) -> (J, 2) float64 cell coordinates x, y.

    The mean place of a joint's `top_cells` strongest cells, weighted by their values; (-1, -1) for an empty channel.
    """
    maps = soft[1:].flatten(1).double().cpu()
    values, cells = maps.topk(min(top_cells, maps.shape[1]), dim=1)
    weights = values / values.sum(dim=1, keepdim=True)
    width = soft.shape[2]
    places = torch.stack([(weights * (cells % width)).sum(dim=1), (weights * (cells // width)).sum(dim=1)], dim=1)
    places[maps.sum(dim=1) == 0] = LOST
    return places.numpy()


@torch.inference_mode()
def propagate_joints(
    frames: Iterable[np.ndarray], first_joints: np.ndarray, feature_fn: Callable[[Tensor], Tensor], patch_size: int,
    protocol: Protocol, device: torch.device | str = "cpu",
) -> Iterator[np.ndarray]:  # fmt: skip
    """Joints of a video from those of its first frame: (J, 2) float64 pixels x, y a frame, (-1, -1) where lost.

    Arguments as in FrameFeatures. Frame 0 yields its joints as the cells hold them, as published result files do; it is
    never scored. A joint far outside frame 0 is lost in every frame.
    """
    features = FrameFeatures(frames, feature_fn, patch_size, protocol, device)
    labels = joints_to_cells(first_joints, features.size, features.grid)
    pixels_per_cell = np.array(features.size[::-1]) / features.grid[::-1]
    for soft in propagate(features, labels, protocol):
        cells = cells_to_joints(soft, protocol.joint_cells)
        yield np.where(cells < 0, LOST, cells * pixels_per_cell)


def copy_first_joints(frames: Iterable[np.ndarray], first_joints: np.ndarray) -> Iterator[np.ndarray]:
    """A baseline that does not look: the first joints, (J, 2) pixels, once per frame; (-1, -1) outside of it."""
    first_joints = _checked(first_joints)
    for frame in frames:
        inside = ((first_joints >= 0) & (first_joints < frame.shape[1::-1])).all(axis=1, keepdims=True)
        yield np.where(inside, first_joints, LOST)


def _checked(joints: np.ndarray) -> np.ndarray:
    joints = np.asarray(joints, dtype=np.float64)
    if joints.ndim != 2 or joints.shape[1] != 2 or not np.isfinite(joints).all():
        raise UserError(f"first joints: {joints.shape}; expected (J, 2) finite pixel coordinates x, y")
    return joints
