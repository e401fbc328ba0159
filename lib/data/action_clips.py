"""Clips for action recognition: 16 frames at a stride, cropped at random for training, evenly for testing.

VideoMAE (Tong et al. 2022) and AdaMAE (Bandara et al. 2023, appendix A.4 to A.6): stride 4 on Kinetics-400, counted in
the file's own frames, whatever its rate, as the published code does; 2 on Something-Something v2 (where that code
spreads the frames over the whole video); one crop and one flip a clip; at test the scores of several clips x 3 crops of
a video are averaged.

Shapes: `T` frames of a clip, `H W` pixels of a video, `S` side of the square crop, `V` views of a video.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from lib.data.actions import ActionList
from lib.data.clips import Box, crop_frames, draw_crop, read_clip
from lib.data.kinetics import scan_videos
from lib.data.video import Clip, VideoInfo, probe
from lib.errors import UserError
from lib.runtime import digest

Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]
SCALES = (1.0, 0.875, 0.75, 0.66)  # of MultiScaleCrop, as VideoMAE's code has them


@dataclass(frozen=True)
class ClipReader:
    """How clips are read: `num_frames` frames, `stride` frames apart; a shorter video is refused.

    frame_size: videos are read with this short side, never enlarged; None: as they are. VideoMAE's copies have 320.
    frame_cache: folder where each video is stored once as decoded frames; None: they are decoded for each clip.
    """

    num_frames: int = 16
    stride: int = 4
    frame_size: int | None = None
    frame_cache: str | Path | None = None
    _known: dict[Path, VideoInfo] = field(default_factory=dict, repr=False, compare=False)

    @property
    def span(self) -> int:
        """Frames of a video that a clip reaches over, the first and last included."""
        return (self.num_frames - 1) * self.stride + 1

    def usable(self, actions: ActionList, max_bad_fraction: float = 0.5) -> tuple[ActionList, dict[Path, str]]:
        """The videos that give a clip, and for each other the reason in one line, as scan_videos finds them."""
        paths = [video.path for video in actions.videos]
        scan = scan_videos(paths, min_seconds=0, max_bad_fraction=max_bad_fraction, min_frames=self.span)
        self._known.update((clip.path, clip.info) for clip in scan.clips)
        videos = tuple(video for video in actions.videos if video.path not in scan.skipped)
        return replace(actions, videos=videos), scan.skipped

    def starts(self, path: Path) -> int:
        """At how many frames of the video a clip may start: 1 where it is just long enough."""
        num_frames = self._info(path).num_frames
        if num_frames < self.span:
            needs = f"a clip of {self.num_frames} at stride {self.stride} needs {self.span}"
            raise UserError(f"{path}: has {num_frames} frames, {needs}: leave it out or lower the stride")
        return num_frames - self.span + 1

    def read(self, path: Path, start: int) -> np.ndarray:
        """The clip from frame `start` on, uint8 (T, H, W, 3)."""
        indices = start + self.stride * np.arange(self.num_frames)
        return read_clip(Clip(path, self._info(path)), indices, self.frame_size, self.frame_cache)

    def _info(self, path: Path) -> VideoInfo:
        if path not in self._known:
            self._known[path] = probe(path)
        return self._known[path]


class TrainingClips(Dataset):
    """Random clips of labelled videos; the index carries the randomness.

    dataset[i] is {"video": uint8 (3, T, S, S), "label": int64 ()}, drawn from video i % len(dataset) by a generator
    that is seeded with (seed, i) alone; any i >= 0 is valid, as for lib.data.clips.FramePairs.

    The start is uniform over all places where the clip fits. One crop and one flip serve all frames; where
    `actions.mirrored` is False, nothing is flipped.

    crop_area: None for MultiScaleCrop (AdaMAE, Table 5; `multi_scale_crop`), or how much of the area a random resized
        crop takes: (0.5, 1) in AdaMAE's section 4, (0.08, 1) in the code that fine-tunes.
    augment: changes the whole frames, uint8 (T, H, W, 3), before they are cropped, drawing from the generator given.
    """

    def __init__(
        self, actions: ActionList, reader: ClipReader, image_size: int = 224,
        crop_area: tuple[float, float] | None = None, augment: Augment | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        self.actions, self.reader, self.image_size = actions, reader, image_size
        self.crop_area, self.augment, self.seed = crop_area, augment, seed

    def __len__(self) -> int:
        return len(self.actions.videos)

    @property
    def identity(self) -> str:
        """A hash of all that the samples depend on, save the seed; the training loop keeps it with a run."""
        videos = [(video.path.name, video.label) for video in self.actions.videos]
        reader = self.reader.num_frames, self.reader.stride, self.reader.frame_size
        return digest(videos, *reader, self.image_size, self.crop_area, type(self.augment).__name__)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        video = self.actions.videos[index % len(self)]
        rng = np.random.default_rng([self.seed, index])
        frames = self.reader.read(video.path, int(rng.integers(self.reader.starts(video.path))))
        if self.augment is not None:
            frames = self.augment(frames, rng)
        height, width = frames.shape[1:3]
        if self.crop_area is None:
            box = multi_scale_crop(height, width, self.image_size, rng)
        else:
            box = draw_crop(height, width, rng, self.crop_area)
        clip = _video(frames, box, self.image_size)
        if self.actions.mirrored and rng.random() < 0.5:
            clip = clip.flip(-1)
        return {"video": clip, "label": torch.tensor(video.label)}


class TestingViews(Dataset):
    """V = clips * crops views of every video, evenly placed, nothing random.

    dataset[i] is {"video": uint8 (3, T, S, S), "label": int64 ()}: view i % V of video i // V, so that the scores of
    one video lie together: the crops of its first clip, then those of the second, and so on. Clips reach from the first
    frame to the last, crops from one end of the long side to the other; a single clip or crop is the middle one.
    """

    __test__ = False  # no test, though pytest would think so by its name

    def __init__(self, actions: ActionList, reader: ClipReader, image_size: int = 224, clips: int = 5, crops: int = 3):
        self.actions, self.reader, self.image_size = actions, reader, image_size
        self.clips, self.crops, self.views = clips, crops, clips * crops

    def __len__(self) -> int:
        return len(self.actions.videos) * self.views

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"view {index} of {len(self)}")
        video = self.actions.videos[index // self.views]
        clip, crop = divmod(index % self.views, self.crops)
        start = evenly(self.reader.starts(video.path) - 1, self.clips)[clip]
        frames = self.reader.read(video.path, start)
        box = even_crops(*frames.shape[1:3], self.crops)[crop]
        return {"video": _video(frames, box, self.image_size), "label": torch.tensor(video.label)}


def evenly(room: int, count: int) -> list[int]:
    """`count` whole places on 0..room, ends included, as even as rounding lets them be; the middle for one."""
    places = [room / 2] if count == 1 else np.linspace(0, room, count)
    return [int(np.floor(place + 0.5)) for place in places]


def even_crops(height: int, width: int, count: int) -> list[Box]:
    """`count` square crops as large as the short side, evenly placed along the long one."""
    side, places = min(height, width), evenly(abs(height - width), count)
    return [(at, 0, side, side) if height > width else (0, at, side, side) for at in places]


def multi_scale_crop(height: int, width: int, size: int, rng: np.random.Generator) -> Box:
    """A box with the law of VideoMAE's MultiScaleCrop (after Wang et al. 2016, temporal segment networks).

    Height and width are the short side times one of SCALES each, at most one scale apart; a side within 2 pixels of
    `size` becomes `size`, if the picture has it. The place is one of 13: on a grid of 5 x 5 the nine on even rows and
    columns, and the four between the middle and the corners.
    """
    short = min(height, width)
    sides = [int(short * scale) for scale in SCALES]
    sides = [min(size, short) if abs(side - size) < 3 else side for side in sides]
    pairs = [(h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1]
    h, w = pairs[rng.integers(len(pairs))]
    even, odd = (0, 2, 4), (1, 3)
    places = [(y, x) for y in even for x in even] + [(y, x) for y in odd for x in odd]
    y, x = places[rng.integers(len(places))]
    return y * ((height - h) // 4), x * ((width - w) // 4), h, w


def _video(frames: np.ndarray, box: Box, side: int) -> torch.Tensor:
    """(T, H, W, 3) -> (3, T, S, S), both uint8, resized bilinearly."""
    return crop_frames(frames, box, side, "bilinear").transpose(0, 1).contiguous()
