"""True optical flow of the toy world's DAVIS sequences, and flow over several frames.

Layout: `Flow/480p/{sequence}/00000.npz` beside the images and masks, one file for each frame but the last, with `flow`
(H, W, 2) float16: where the surface seen at a pixel lies in the next frame, minus the pixel, as (x, y) in pixels; and
`visible` (H, W) bool: the same surface is seen there, inside the picture and behind nothing. `T` steps, `H W` pixels.
"""

from pathlib import Path

import numpy as np

from lib.errors import UserError

SAME_SURFACE = 0.25  # pixels: where flow differs more between neighbours, they belong to surfaces that part


def read_flow(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """One file's flow (H, W, 2) float32 and visible (H, W) bool."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            flow, visible = arrays["flow"], arrays["visible"]
    except FileNotFoundError:
        raise UserError(f"{path}: no such flow file; make the toy world, or give another data root") from None
    except Exception as error:  # what numpy raises depends on which byte is damaged
        raise UserError(f"{path}: no readable flow file ({type(error).__name__}); make the toy world again") from None
    shapes = flow.ndim == 3 and flow.shape == (*visible.shape, 2)
    if not shapes or flow.dtype.kind != "f" or visible.dtype != bool or not np.isfinite(flow).all():
        raise UserError(f"{path}: must hold finite flow (H, W, 2) and visible (H, W) bool; make the toy world again")
    return flow.astype(np.float32), visible


def flow_path(root: str | Path, sequence: str, frame: int) -> Path:
    """The file with the flow of `sequence` from `frame` (counted from 0) to the next, below a DAVIS root."""
    return Path(root) / "Flow" / "480p" / sequence / f"{frame:05d}.npz"


def read_chained_flow(root: str | Path, sequence: str, first: int, later: int) -> tuple[np.ndarray, np.ndarray]:
    """Flow from frame `first` to frame `later` of a sequence, chained: as `chain_flows` returns it."""
    if not 0 <= first < later:
        raise UserError(f"flow leads from a frame to a later one, not from {first} to {later}")
    steps = [read_flow(flow_path(root, sequence, frame)) for frame in range(first, later)]
    return chain_flows(*(np.stack(arrays) for arrays in zip(*steps, strict=True)))


def chain_flows(flows: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flow over T steps: each pixel of the first frame is followed from frame to frame.

    `flows` (T, H, W, 2) float, `visible` (T, H, W) bool -> flow (H, W, 2) float32, visible (H, W) bool, true where the
    point is seen in every frame on the way; elsewhere flow means nothing. Between pixels flow is read bilinearly; where
    they part (SAME_SURFACE), the mean would be the flow of neither: not visible.
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
