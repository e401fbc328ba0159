"""JHMDB as object masks: the outline of the person in every frame, in the common form of annotated videos.

Layout (Jhuang et al. 2013): `puppet_mask/{class}/{clip}/puppet_mask.mat` beside the clip, which is
`Rename_Images/{class}/{clip}/00001.png` or `ReCompress_Videos/{class}/{clip}.avi`. The outlines are of a puppet that
annotators laid over the person: coarse at hands and feet, so F means less than J.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lib.data.folders import check_root, frames_in
from lib.data.jhmdb import read_outlines, split_lists
from lib.data.sequences import MaskSequence, SequenceDataset, first_of
from lib.data.video import iter_frames, read_frames
from lib.errors import UserError, unknown

MARKS = {"train": "1", "test": "2"}
ACTIONS = (
    "brush_hair", "catch", "clap", "climb_stairs", "golf", "jump", "kick_ball", "pick", "pour", "pullup", "push", "run",
    "shoot_ball", "shoot_bow", "shoot_gun", "sit", "stand", "swing_baseball", "throw", "walk", "wave",
)  # fmt: skip
# HMDB's names of clips: the film, the action, what is visible, camera, people, view, quality, number
NAME = re.compile(rf"(.+)_(?:{'|'.join(ACTIONS)})_[a-z]_[a-z]+_np\d+_[a-z]+_[a-z]+_\d+")


def source_of(clip: str) -> str:
    """The film that a clip was cut out of, by its name: clips of one are often of the same people."""
    match = NAME.fullmatch(clip)
    return match[1] if match else clip


class OutlineDataset(SequenceDataset):
    """The clips of a split ("train" or "test") of fold 1, 2 or 3, in the official lists' order.

    names: of these alone. every: of each clip the first frame and each so many-th after it. absent: how many listed
    clips are not there; only where all are gone is it an error.
    """

    title = "JHMDB (one person's outline)"

    def __init__(
        self, root: str | Path, split: str = "test", fold: int = 1, names: Collection[str] | None = None, every: int = 1
    ) -> None:  # fmt: skip
        if split not in MARKS:
            raise unknown("split", split, MARKS)
        self.root = check_root(Path(root), "JHMDB outlines", "puppet_mask", "splits")
        listed = [(kind, clip) for kind, clip, mark in split_lists(self.root, fold) if mark == MARKS[split]]
        there = {name: frames for name in listed if (frames := _frames_of(self.root, *name)) is not None}
        self.absent = len(listed) - len(there)
        if not there:
            raise UserError(f"{root}: none of the {len(listed)} listed {split} clips is there with its outlines")
        wanted = [name for name in there if names is None or name[1] in names]
        found = (_sequence(self.root, *name, there[name], every) for name in wanted)
        super().__init__(found, f"{root}, {split} clips")


class Outline(NamedTuple):
    """The outline in frame `t` of a clip."""

    path: Path
    t: int

    def __str__(self) -> str:
        return f"{self.path}, frame {self.t}"


@dataclass(frozen=True, kw_only=True)
class VideoSequence(MaskSequence):
    """Masks of a video's frames 0, `every`, 2 * `every`, ...; `frame_paths` only name them, as JHMDB's images are."""

    video: Path
    every: int = 1

    @property
    def files(self) -> tuple[Path, ...]:
        """The video."""
        return (self.video,)

    def frame(self, t: int) -> np.ndarray:
        """Frame `t`, (H, W, 3) uint8 RGB."""
        return read_frames(self.video, [t * self.every])[0]

    def frame_size(self, t: int) -> tuple[int, int]:
        """Height and width of frame `t`."""
        return _frame_size(self.video, self.video.stat().st_mtime_ns)

    def iter_frames(self, max_frames: int | None = None) -> Iterator[np.ndarray]:
        """As every sequence's, decoded in one go."""
        number = len(first_of(self.frame_paths, max_frames))
        return iter_frames(self.video, range(0, number * self.every, self.every))


def _frames_of(root: Path, class_name: str, clip: str) -> Path | None:
    """The clip's folder of frames or, without one, its video; None where it or its outlines are absent."""
    images, video = root / "Rename_Images" / class_name / clip, root / "ReCompress_Videos" / class_name / f"{clip}.avi"
    frames = images if images.is_dir() else video
    return frames if _mask_path(root, class_name, clip).is_file() and frames.exists() else None


def _mask_path(root: Path, class_name: str, clip: str) -> Path:
    return root / "puppet_mask" / class_name / clip / "puppet_mask.mat"


def _sequence(root: Path, class_name: str, clip: str, frames: Path, every: int) -> MaskSequence:
    path = _mask_path(root, class_name, clip)
    number = len(read_outlines(path))
    sources = tuple(Outline(path, t) for t in range(0, number, every))
    if frames.is_file():
        names = tuple(frames.with_suffix("") / f"{t:05d}.png" for t in range(1, number + 1, every))  # as Rename_Images
        return VideoSequence(clip, names, sources, _read_outline, video=frames, every=every)
    images = frames_in(frames)
    if len(images) < number:
        raise UserError(f"{path}: outlines {number} frames, but {frames} holds {len(images)}; unpack them again")
    return MaskSequence(clip, tuple(images[:number:every]), sources, _read_outline)  # the last ones may have none


def _read_outline(source: Outline) -> np.ndarray:
    """(H, W) uint8: the person is object 1."""
    return _outlines(source.path, source.path.stat().st_mtime_ns)[source.t].astype(np.uint8)


@lru_cache(maxsize=16)  # a clip's frames are asked for one after the other, by as many threads as there are cores
def _outlines(path: Path, _changed: int) -> np.ndarray:
    return read_outlines(path)


@lru_cache(maxsize=16)
def _frame_size(video: Path, _changed: int) -> tuple[int, int]:
    return read_frames(video, [0]).shape[1:3]
