"""Clips of whole frames at a frame rate of one's own: what the video ladder learns from, predicts and is asked about.

Frames are read by time, the nearest of the file's own; every frame is shown whole, squeezed to one size, as the report
did (240x320 to 128x160). Shapes: `T` frames, `H W` pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from lib.data.action_clips import evenly
from lib.data.actions import ActionList
from lib.data.clips import read_clip
from lib.data.kinetics import scan_videos, too_slow
from lib.data.video import ROUNDED, Clip
from lib.errors import UserError
from lib.runtime import digest


@dataclass(frozen=True)
class FrameReader:
    """How clips are read: `num_frames` frames of `size` (H, W) pixels.

    frame_cache: folder where each video is stored once as decoded frames; None: they are decoded for each clip.
    """

    num_frames: int = 6
    size: tuple[int, int] = (128, 160)
    frame_cache: str | Path | None = None

    def usable(self, actions: ActionList, fps: float, max_bad_fraction: float = 0.5) -> "LabelledClips":
        """The videos that give a clip at `fps`; others with a reason, as scan_videos finds them."""
        paths = [video.path for video in actions.videos]
        scan = scan_videos(paths, (self.num_frames - 1) / fps, max_bad_fraction, min_fps=fps)
        labels = {video.path: video.label for video in actions.videos}
        own = [labels[clip.path] for clip in scan.clips]
        return LabelledClips(scan.clips, own, actions.classes, scan.skipped, actions.absent)

    def frames_at(self, clip: Clip, start: int, fps: float) -> np.ndarray:
        """The frames of a clip from frame `start` on: int64 (T,), none before another."""
        info, steps = clip.info, np.arange(self.num_frames)
        if info.times:
            return info.nearest(info.times[start] + steps / fps)
        return start + np.floor(steps * info.fps / fps + 0.5).astype(np.int64)

    def starts(self, clip: Clip, fps: float) -> int:
        """At how many frames of the video a clip may start: 1 where it is just long enough."""
        info, seconds = clip.info, (self.num_frames - 1) / fps
        if too_slow(info, fps):
            raise UserError(f"{clip.path}: has {info.fps:g} frames a second, not {fps:g}: lower the fps")
        if info.times:
            room = int(np.searchsorted(info.times, info.span_seconds - seconds + ROUNDED))
        else:
            room = info.num_frames - int(self.frames_at(clip, 0, fps)[-1])
        if room < 1:
            words = f"a clip of {self.num_frames} at {fps:g} fps needs {seconds:.2f} s"
            raise UserError(f"{clip.path}: spans {info.span_seconds:.2f} s, {words}: leave it out or raise the fps")
        return room

    def read(self, clip: Clip, start: int, fps: float) -> Tensor:
        """The clip from frame `start` on: uint8 (3, T, H, W)."""
        sides = clip.info.height, clip.info.width
        short = math.ceil(max(ours / theirs for ours, theirs in zip(self.size, sides, strict=True)) * min(sides))
        frames = read_clip(clip, self.frames_at(clip, start, fps), short, self.frame_cache)
        pictures = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
        return F.interpolate(pictures, self.size, mode="bilinear", antialias=True).transpose(0, 1).contiguous()


@dataclass(frozen=True)
class LabelledClips:
    """Videos that can be read, the class of each (or UNLABELLED), the classes' names, why others cannot, and how many
    of the list are not there.
    """

    clips: list[Clip]
    labels: list[int]
    classes: tuple[str, ...]
    skipped: dict[Path, str] = field(default_factory=dict)
    absent: int = 0

    @property
    def identity(self) -> str:
        """A hash of what the samples depend on."""
        return digest([(clip.path.name, clip.info, label) for clip, label in zip(self.clips, self.labels, strict=True)])


class FrameClips(Dataset):
    """Random clips; the index carries the randomness.

    dataset[i] is {"video": uint8 (3, T, H, W)}, drawn from video i % len(dataset) by a generator
    seeded with (seed, i) alone; any i >= 0 is valid, as for lib.data.clips.FramePairs. Every place is alike likely, and
    half of the clips are mirrored.

    fps: one rate after the other, each for `fps_epochs` epochs, the last for good. The report's 25, 15, 10: first what
        a scene looks like, then how it moves. A video with fewer frames a second than a rate is read at its own.
    """

    def __init__(
        self, videos: LabelledClips, reader: FrameReader, fps: Sequence[float] = (25, 15, 10), fps_epochs: float = 4,
        seed: int = 0,
    ) -> None:  # fmt: skip
        self.videos, self.reader, self.fps, self.fps_epochs, self.seed = videos, reader, tuple(fps), fps_epochs, seed
        for clip in videos.clips:
            for rate in self.fps:
                reader.starts(clip, min(rate, clip.info.fps))  # UserError, before any work is done

    def __len__(self) -> int:
        return len(self.videos.clips)

    @property
    def identity(self) -> str:
        """A hash of all that the samples depend on, save the seed; the training loop keeps it with a run."""
        return digest(self.videos.identity, self.reader.num_frames, self.reader.size, self.fps, self.fps_epochs)

    def rate(self, index: int) -> float:
        """The frame rate of sample `index`."""
        epoch = index // len(self)
        return self.fps[min(int(epoch / self.fps_epochs), len(self.fps) - 1)]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        clip = self.videos.clips[index % len(self)]
        fps = min(self.rate(index), clip.info.fps)
        rng = np.random.default_rng([self.seed, index])
        video = self.reader.read(clip, int(rng.integers(self.reader.starts(clip, fps))), fps)
        if rng.random() < 0.5:
            video = video.flip(-1)
        return {"video": video}


class EvenWindows(Dataset):
    """`windows` clips of every video, from its first frame to its last as even as can be, nothing random.

    dataset[i], for any i >= 0, is {"video": uint8 (3, T, H, W), "label": int64 ()}; the windows of one video are
    neighbours. only: so many of them all, evenly; None: all.
    """

    def __init__(
        self, videos: LabelledClips, reader: FrameReader, fps: float, windows: int = 1, only: int | None = None
    ) -> None:
        self.videos, self.reader, self.fps, self.windows = videos, reader, fps, windows
        total = len(videos.clips) * windows
        if only and only > total:
            raise UserError(f"{only} of {total} clips: give more videos or windows")
        self.chosen = evenly(total - 1, only) if only else range(total)

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def identity(self) -> str:
        """As FrameClips'."""
        shape = self.reader.num_frames, self.reader.size, self.fps, self.windows
        return digest(self.videos.identity, *shape, list(self.chosen))

    def place(self, index: int) -> tuple[int, int]:
        """The video of a window, by number, and its first frame."""
        number, window = divmod(self.chosen[index % len(self)], self.windows)
        room = self.reader.starts(self.videos.clips[number], self.fps) - 1
        return number, evenly(room, self.windows)[window]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number, start = self.place(index)
        video = self.reader.read(self.videos.clips[number], start, self.fps)
        return {"video": video, "label": torch.tensor(self.videos.labels[number])}
