"""The videos of the ladder's study: to train on, to test on, and where in the test clips something moves.

Shapes: `I` test clips, `T` frames, `F` of them futures, `H W` pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.data.action_clips import evenly
from lib.data.actions import ActionList, list_jhmdb_actions, list_ucf101
from lib.data.folders import frames_in
from lib.data.frame_clips import EvenWindows, FrameReader, LabelledClips
from lib.data.images import read_mask
from lib.data.jhmdb import read_outlines
from lib.errors import UserError
from lib.presets.ladder import Ladder
from lib.runtime import dataset_root
from lib.tokens.masking import Mask, random_mask
from lib.toyworld.layers import list_studio
from lib.toyworld.studio import PUPPET

MOST = 300  # test clips, more than JHMDB has, for all are in memory
GIVEN, FUTURES = 5, 3  # of a test clip; who is given fewer is given the last ones
PATCH, MASK_RATIO = 8, 0.95  # of SiamMAE, which sees a few patches of the future: these count for nobody
WINDOW = 11  # of SSIM
Outlines = Callable[[Path], np.ndarray]  # a video -> what moves in it, bool (T, H, W)


@dataclass(frozen=True)
class LadderData:
    """One data set. outlines: None where they are not known."""

    train: LabelledClips
    test: LabelledClips
    fps: float
    size: tuple[int, int]
    outlines: Outlines | None
    frames: Path | None  # where videos lie decoded, if they are kept

    def windows(self, videos: LabelledClips, num_frames: int, **more) -> EvenWindows:
        """Clips of the videos at the last of the preset's rates."""
        return EvenWindows(videos, FrameReader(num_frames, self.size, self.frames), self.fps, **more)


class Held(NamedTuple):
    """Test clips, one of each video."""

    given: Tensor  # uint8 (I, T, 3, H, W)
    futures: Tensor  # uint8 (I, F, 3, H, W)
    moving: Tensor  # bool (I, F, H, W): of what moves, where it was last seen or is then; all where it is not known
    mask: Mask  # of all I * F futures: the few patches that SiamMAE sees

    def regions(self) -> dict[str, Tensor]:
        """Pixels to compare, bool (I, F, H, W) each: of those whose score holds nothing that SiamMAE sees, all, and
        those that move. SSIM looks WINDOW // 2 pixels around.
        """
        seen = (~self.mask.hidden).float().unflatten(-1, (1, -1, self.futures.shape[-1] // PATCH))
        seen = F.interpolate(seen, scale_factor=PATCH)
        hidden = F.max_pool2d(seen, WINDOW, stride=1, padding=WINDOW // 2).view_as(self.moving) == 0
        return {"whole": hidden, "moving": hidden & self.moving}


def list_videos(data: Path) -> tuple[ActionList, ActionList, Outlines | None]:
    """To train on, to test on, and the outlines, of the studio, JHMDB or UCF101 at `data` or in it."""
    root = dataset_root(data, ("studio", "jhmdb_actions", "ucf101", "jhmdb"))
    if (root / "layers").is_dir():
        return list_studio(root, "train"), list_studio(root, "val"), _studio_outlines
    if (root / "ReCompress_Videos").is_dir():
        return list_jhmdb_actions(root, "train"), list_jhmdb_actions(root, "test"), _jhmdb_outlines
    if (root / "UCF-101").is_dir():
        return list_ucf101(root, "train"), list_ucf101(root, "test"), None
    raise UserError(f"{root}: is no studio, JHMDB or UCF101; give a folder with ReCompress_Videos or UCF-101 in it")


def open_data(data: Path, settings: Ladder, frames: Path) -> LadderData:
    """The data set at `data`; frames: the folder of decoded videos."""
    train, test, outlines = list_videos(data)
    reader, slowest = FrameReader(settings.num_frames, settings.size), min(settings.fps)
    usable = [reader.usable(actions, slowest) for actions in (train, test)]
    kept = frames if settings.cache_frames else None
    return LadderData(*usable, settings.fps[-1], settings.size, outlines, kept)


def held_out(data: LadderData) -> Held:
    """One clip from the middle of every test video that is long enough for it, of MOST of them evenly."""
    reader = FrameReader(GIVEN + FUTURES, data.size)
    long = [clip.info.span_seconds >= (GIVEN + FUTURES - 1) / data.fps for clip in data.test.clips]
    kept = [list(compress(parts, long)) for parts in (data.test.clips, data.test.labels)]
    if len(kept[0]) > MOST:
        kept = [[part[place] for place in evenly(len(part) - 1, MOST)] for part in kept]
    windows = data.windows(LabelledClips(*kept, data.test.classes), GIVEN + FUTURES)
    frames = torch.stack([windows[number]["video"].transpose(0, 1) for number in range(len(windows))])
    given, futures = frames.split([GIVEN, FUTURES], dim=1)
    moving = torch.ones(*futures.shape[:2], *data.size, dtype=torch.bool)
    for number in range(len(windows)) if data.outlines else ():
        clip, start = windows.videos.clips[number], windows.place(number)[1]
        shown = torch.from_numpy(data.outlines(clip.path)[reader.frames_at(clip, start, data.fps)]).unsqueeze(1)
        shown = F.interpolate(shown.float(), data.size, mode="area").squeeze(1) > 0.25
        moving[number] = shown[GIVEN - 1] | shown[GIVEN:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mask = random_mask(len(frames) * FUTURES, data.size[0] * data.size[1] // PATCH**2, MASK_RATIO)
    return Held(given, futures, moving, mask)


def _studio_outlines(path: Path) -> np.ndarray:
    layers = frames_in(path.parents[1] / "layers" / path.stem, "layer")
    return np.stack([read_mask(layer) == PUPPET for layer in layers])


def _jhmdb_outlines(path: Path) -> np.ndarray:
    return read_outlines(path.parents[2] / "puppet_mask" / path.parent.name / path.stem / "puppet_mask.mat")
