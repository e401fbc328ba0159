"""True optical flow of the toy world's DAVIS sequences, and flow over several frames.

Layout: `Flow/480p/{sequence}/00000.npz` beside the images and masks, one file for each frame but the last, with `flow`
(H, W, 2) float16: where the surface seen at a pixel lies in the next frame, minus the pixel, as (x, y) in pixels; and
`visible` (H, W) bool: the same surface is seen there, inside the picture and behind nothing.

Shape letters: `T` steps from a frame to the next, `H W` pixels.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from lib.errors import UserError

TIER = "480p"
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error)
SAME_SURFACE = 0.25  # pixels: where flow differs more between neighbours, they belong to surfaces that part


def read_flow(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """One file's flow (H, W, 2) float32 and visible (H, W) bool."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            flow, visible = arrays["flow"], arrays["visible"]
    except FileNotFoundError:
        raise UserError(f"{path}: no such flow file; make the toy world, or give another data root") from None
    except (OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, *ZIP_ERRORS) as error:
        raise UserError(
            f"{path}: not a readable flow file ({type(error).__name__}); make the toy world again"
        ) from None
    if flow.ndim != 3 or flow.shape[2] != 2 or flow.dtype.kind != "f":
        raise UserError(f"{path}: flow must be (H, W, 2) floating-point numbers, not {flow.dtype} {flow.shape}")
    if not np.isfinite(flow).all():
        raise UserError(f"{path}: flow holds NaN or infinity; make the toy world again")
    if visible.shape != flow.shape[:2] or visible.dtype != bool:
        raise UserError(f"{path}: visible must be bool {flow.shape[:2]}, not {visible.dtype} {visible.shape}")
    return flow.astype(np.float32), visible


def flow_path(root: str | Path, sequence: str, frame: int) -> Path:
    """The file with the flow of `sequence` from `frame` (counted from 0) to the next, below a DAVIS root."""
    return Path(root) / "Flow" / TIER / sequence / f"{frame:05d}.npz"


def read_chained_flow(root: str | Path, sequence: str, first: int, later: int) -> tuple[np.ndarray, np.ndarray]:
    """Flow from frame `first` to frame `later` of a sequence, chained: as `chain_flows` returns it."""
    if not 0 <= first < later:
        raise UserError(f"flow leads from a frame to a later one, not from {first} to {later}")
    paths = [flow_path(root, sequence, frame) for frame in range(first, later)]
    steps = [read_flow(path) for path in paths]
    for path, (flow, _) in zip(paths, steps, strict=True):
        if flow.shape != steps[0][0].shape:
            raise UserError(f"{path}: {flow.shape} (H, W, 2), but {paths[0].name} has {steps[0][0].shape}")
    return chain_flows(*(np.stack(arrays) for arrays in zip(*steps, strict=True)))


def chain_flows(flows: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flow over T steps: each pixel of the first frame is followed from frame to frame.

    `flows`: (T, H, W, 2) float, `visible`: (T, H, W) bool, one step each. Between pixels flow is read bilinearly.
    Returns flow (H, W, 2) float32 and visible (H, W) bool, true where the point is seen in every frame on the way.
    It is false, too, where a point comes between pixels that part (SAME_SURFACE): their mean would be the flow of
    neither. Flow means nothing where visible is false.
    """
    height, width = flows.shape[1:3]
    start = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    place, seen = start, np.ones((height, width), bool)
    for flow, shown in zip(flows.astype(np.float32), visible, strict=True):
        # the picture reaches half a pixel beyond its outermost pixels' centres
        inside = place.clip(0, (width - 1, height - 1))
        low = np.minimum(np.floor(inside).astype(int), (max(width - 2, 0), max(height - 2, 0)))
        step = np.zeros_like(place)
        least, most = np.full_like(place, np.inf), np.full_like(place, -np.inf)
        for dy, dx in ((0, 0), (0, 1), (1, 0), (1, 1)):
            column, row = np.minimum(low[..., 0] + dx, width - 1), np.minimum(low[..., 1] + dy, height - 1)
            weight = np.abs(1 - dx - (inside - low)[..., 0]) * np.abs(1 - dy - (inside - low)[..., 1])
            here, counts = flow[row, column], weight > 0
            step += weight[..., None] * here
            least = np.where(counts[..., None], np.minimum(least, here), least)
            most = np.where(counts[..., None], np.maximum(most, here), most)
            seen &= shown[row, column] | ~counts
        seen &= (most - least <= SAME_SURFACE).all(-1)
        place = place + step
        seen &= ((place > -0.5) & (place < (width - 0.5, height - 0.5))).all(-1)
    return place - start, seen
