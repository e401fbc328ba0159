"""Frame pairs of the toy world with what is true of them: what was hidden in the past, and what moved.

`toy_futures` renders clips that no data set on disk holds, for measuring. `MovingPairs` adds true motion to the
training pairs of the Kinetics clips, for a masking that knows it (an oracle). Shapes: `R` pairs drawn from one clip,
`N` patches of a crop.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from lib.data.clips import Box, Cut, FramePairs, crop_frames, draw_crop
from lib.data.futures import Futures, checked_gaps
from lib.errors import UserError
from lib.toyworld.actions import ACTIONS
from lib.toyworld.layouts import plan
from lib.toyworld.options import ToyWorldOptions
from lib.toyworld.render import flow_truth, moves, part_map, render_frame
from lib.toyworld.scene import Scene, build_scene
from lib.toyworld.staging import find_scene

POINTS = 3  # a side: places of a patch at which its motion is looked up


def toy_futures(
    clips: int, gaps: Sequence[int], image_size: int, patch_size: int, crop_scale: tuple[float, float], seed: int = 0,
    ages: Sequence[int] = (),
) -> Futures:  # fmt: skip
    """One past from each of `clips` new clips at 30 frames a second, its futures, and what of them the past hid.

    A function of (seed, number of the clip); crops as in training, not mirrored. Frames are as painted, where those of
    the data sets have gone through a video codec.
    """
    gaps, ages, side = checked_gaps(gaps), checked_gaps(ages) if ages else (), image_size // patch_size
    lead, pasts, futures, earlier, occluded, outside = max(ages, default=0), [], [], [], [], []
    for number in range(clips):
        rng = np.random.default_rng([seed, number])
        seconds = np.arange(lead + gaps[-1] + 12) / 30
        scene = build_scene(rng, ToyWorldOptions(), action=ACTIONS[number % len(ACTIONS)], seconds=seconds)
        first = lead + int(rng.integers(len(seconds) - lead - gaps[-1]))
        box = draw_crop(scene.height, scene.width, rng, crop_scale)
        times = [first, *(first + gap for gap in gaps)]
        before = [first - age for age in ages]
        views = crop_frames([render_frame(scene, t) for t in (*times, *before)], box, image_size)
        hidden, absent = zip(*(unseen(scene, first, later, box, side) for later in times[1:]), strict=True)
        pasts.append(views[0])
        futures.append(views[1 : len(times)])
        earlier.append(views[len(times) :])
        occluded.append(torch.stack(hidden))
        outside.append(torch.stack(absent))
    past, future, earlier, occluded, outside = map(torch.stack, (pasts, futures, earlier, occluded, outside))
    return Futures(past, future, gaps, clips, occluded, outside, earlier, ages)


def unseen(scene: Scene, past: int, future: int, box: Box, side: int) -> tuple[Tensor, Tensor]:
    """Why the past crop lacks what the future crop shows: two parts of each of side*side patches, float32 (N,).

    First: the surface lay inside the crop but something hid it. Second: it lay outside the crop.
    """
    flow, visible = flow_truth(scene, future, part_map(scene, future), past)
    top, left, height, width = box
    y, x = np.mgrid[0 : scene.height, 0 : scene.width]
    row, column = y + flow[..., 1], x + flow[..., 0]
    inside = (row > top - 0.5) & (row < top + height - 0.5) & (column > left - 0.5) & (column < left + width - 0.5)
    planes = np.stack([inside & ~visible, ~inside])[:, top : top + height, left : left + width]
    hidden, absent = F.interpolate(torch.from_numpy(planes).float()[None], (side, side), mode="area")[0]
    return hidden.flatten(), absent.flatten()


def stage_motion(scene: Scene, past: int, future: int, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """How far what is seen at places of frame `future` moved since `past`, against the backdrop: pixels, float64.

    rows, columns: int, one shape, inside the frame. The camera's motion is taken off: what stands still has exactly 0.
    """
    back = moves(scene, future, past)
    move = back[part_map(scene, future)[rows, columns]] - back[-1]
    shift = [move[..., axis, 0] * columns + move[..., axis, 1] * rows + move[..., axis, 2] for axis in (0, 1)]
    return np.hypot(*shift)


def patch_motion(scene: Scene, cut: Cut, side: int) -> Tensor:
    """How far each of the side*side patches of a pair's future truly moved: (N,) float32, in pixels of the frame.

    The mean of `stage_motion` over POINTS x POINTS places of a patch.
    """
    top, left, height, width = cut.box
    places = (np.arange(side * POINTS) + 0.5) / (side * POINTS)
    rows, columns = (top + places * height).astype(int), (left + places * width).astype(int)
    if cut.flip:
        columns = columns[::-1]
    motion = stage_motion(scene, cut.first, cut.second, *np.meshgrid(rows, columns, indexing="ij"))
    return torch.from_numpy(motion.reshape(side, POINTS, side, POINTS).mean(axis=(1, 3)).ravel()).float()


class MovingPairs(Dataset):
    """FramePairs of a toy world's Kinetics clips with "score", float32 (R, N): `patch_motion`.

    Indices and pairs are those of `pairs`, whose clips must be of the world at `root` and read at its own size.
    """

    def __init__(self, pairs: FramePairs, root: str | Path, patch_size: int) -> None:
        self.pairs, self.side = pairs, pairs.image_size // patch_size
        self.options = read_options(root)
        plans = {planned.name: planned for planned in plan(self.options) if planned.dataset == "kinetics400"}
        others = [clip.path for clip in pairs.clips if clip.path.stem not in plans]
        if others:
            raise UserError(f"{others[0]}: is no clip of the toy world at {root}; its true motion is not known")
        if pairs.augment:
            raise UserError("true motion is known of unaltered pairs alone: leave rotation and the like off")
        size = min(self.options.height, self.options.width)
        if pairs.frame_size not in (None, size):
            raise UserError(f"frame_size {pairs.frame_size}: true motion is known at the world's own size, {size}")
        self.plans = [plans[clip.path.stem] for clip in pairs.clips]
        self.scenes: dict[int, Scene] = {}

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        views, cuts = self.pairs.sample(index)
        number = index % len(self.pairs)
        if number not in self.scenes:
            self.scenes[number] = find_scene(self.plans[number], self.options)
        return views | {"score": torch.stack([patch_motion(self.scenes[number], cut, self.side) for cut in cuts])}


def read_options(root: str | Path) -> ToyWorldOptions:
    """The options of the toy world at `root`."""
    try:
        made = json.loads((Path(root) / "manifest.json").read_text())["options"]
        return ToyWorldOptions(**{**made, "datasets": tuple(made["datasets"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{root}: is no toy world ({error}); make it, or choose another root") from None
