"""The frame pairs that SiamMAE trains on (Gupta et al. 2023, section 4 and appendix table 4a).

Two frames of one clip, 4 to 48 frames apart at 30 frames a second; one random resized crop (area 0.5 to 1) and one flip
shared by both; 2 pairs from each clip that is read ("repeated sampling").

Shapes: `B` clips, `R` pairs drawn from one clip, `T` frames, `H W` pixels, `S` side of the square crop in pixels.
"""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from lib.data.decoding import PAPER_FPS, Clip, VideoInfo, iter_frames
from lib.data.frame_times import ROUNDED
from lib.data.video import read_frames
from lib.errors import UserError
from lib.runtime import atomic_path, digest, fingerprint

if TYPE_CHECKING:
    from lib.data.augmentation import Augmentation

CROP_RATIO = (3 / 4, 4 / 3)  # width / height
Box = tuple[int, int, int, int]  # of a crop: top, left, height, width


def read_clip(clip: Clip, indices: Sequence[int], frame_size: int | None, folder: str | Path | None) -> np.ndarray:
    """Frames of a clip by number, uint8 (T, H, W, 3), with the short side `frame_size` (never enlarged).

    folder: where the whole clip is stored when it is first asked for (about 25 MB for 10 s at frame_size 128).
    """
    if folder is None:
        return read_frames(clip.path, indices, frame_size, clip.info)
    try:
        key = digest(fingerprint(clip.path, whole=True), frame_size)  # a replaced video is decoded again
    except OSError:
        raise UserError(f"{clip.path}: no such file any more; scan the videos again") from None
    path = Path(folder) / f"{key}.npy"
    if not path.is_file():
        with atomic_path(path) as temporary:  # its own for each process that wants the clip, moved into place whole
            _store(clip, frame_size, temporary)
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)[indices]
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path}: is no whole frame cache ({error}); delete it, it will be made again") from None


def _store(clip: Clip, frame_size: int | None, path: Path) -> None:
    """Write all frames of a clip as npy, with one of them in memory at a time."""
    count = clip.info.num_frames
    with path.open("wb") as file:  # no memory map: on a full disk it would kill the process
        for frame in iter_frames(clip.path, range(count), frame_size):
            if not file.tell():
                header = {"descr": "|u1", "fortran_order": False, "shape": (count, *frame.shape)}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(frame.tobytes())


def frames_of(gap: int, fps: float) -> int:
    """A gap in frames at 30 fps as a number of a clip's own frames; only a gap of 0 is none."""
    return max(int(gap > 0), math.floor(gap / PAPER_FPS * fps + 0.5))


def frames_at(info: VideoInfo, gaps: Sequence[int]) -> np.ndarray:
    """For each frame i of a clip from which all of `gaps` lead to frames: those frames, int64 (places, gaps).

    A gap is in frames at 30 fps, below 0 to the past. Clips of other rates are read by time: the nearest frame,
    i for a gap of 0 alone. Where frames come unsteadily, i is left out if no other is as near.
    """
    if not info.times:
        steps = np.array([frames_of(abs(gap), info.fps) * (1 if gap > 0 else -1) for gap in gaps])
        lead, tail = max(0, -steps.min()), max(0, steps.max())
        return np.arange(lead, max(lead, info.num_frames - tail))[:, None] + steps
    own, gaps = np.arange(info.num_frames)[:, None], np.array(gaps)
    seconds = np.array(info.times)[:, None] + gaps / PAPER_FPS
    frames = info.nearest(seconds)
    inside = (seconds > -ROUNDED) & (seconds < info.span_seconds + ROUNDED)
    return frames[(inside & (np.sign(frames - own) == np.sign(gaps))).all(axis=1)]


def draw_pair(info: VideoInfo, rng: np.random.Generator, gap: tuple[int, int] = (4, 48)) -> tuple[int, int]:
    """Draw frames i <= j of one clip: the gap, in frames at 30 fps, uniform on gap[0]..gap[1], both included.

    i is uniform on all places from which the gap leads to a frame (`frames_at`). Where frames come unsteadily, a gap
    with no such place is drawn anew; `scan_videos` sees to it that the largest has one.
    """
    pairs = ()
    while not len(pairs):
        pairs = frames_at(info, [0, int(rng.integers(gap[0], gap[1], endpoint=True))])
    first, second = pairs[rng.integers(len(pairs))].tolist()
    return first, second


def draw_crop(height: int, width: int, rng: np.random.Generator, scale: tuple[float, float] = (0.5, 1.0)) -> Box:
    """A crop with the law of torchvision's RandomResizedCrop.

    Its area is uniform in `scale` of the frame's, width / height log-uniform in CROP_RATIO; after ten boxes that do not
    fit, the largest central one whose ratio is allowed.
    """
    low, high = CROP_RATIO
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(low), math.log(high)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    w, h = min(width, round(height * high)), min(height, round(width / low))
    return (height - h) // 2, (width - w) // 2, h, w


def crop_frames(frames: Sequence[np.ndarray], box: Box, side: int, mode: str = "bicubic") -> torch.Tensor:
    """n frames (H, W, 3) -> their crops at `side`, antialiased: (n, 3, S, S), both uint8."""
    top, left, h, w = box
    crops = np.stack([frame[top : top + h, left : left + w] for frame in frames])
    views = torch.from_numpy(crops).permute(0, 3, 1, 2)  # channels stay last in memory: PyTorch's quick path
    return F.interpolate(views, size=(side, side), mode=mode, antialias=True)


def change(two: np.ndarray, box: Box) -> float:
    """How much two frames (2, H, W, 3) differ inside a box, on average, on every fourth pixel."""
    top, left, h, w = box
    before, after = two[:, top : top + h : 4, left : left + w : 4].astype(np.int16)
    return float(np.abs(after - before).mean())


class Cut(NamedTuple):
    """Where a pair was cut out of its clip."""

    first: int  # the past's frame
    second: int  # the future's
    box: Box  # in the frame as it was read
    flip: bool  # mirrored, left for right, after the crop


class FramePairs(Dataset):
    """Pairs of frames, R from each clip; the index carries the randomness.

    dataset[i] is {"past", "future": uint8 (R, 3, S, S), "gap": float32 (R,), the time between them in frames at 30
    fps}, drawn from clip i % len(dataset) by a generator that is seeded with (seed, i) alone. Any i >= 0 is valid: a
    sampler that goes on counting (lib.training.StepBatches) gets fresh pairs in each epoch, and the same ones after a
    restart, whatever the number of workers; `for sample in dataset` would not stop. Each pair has its own crop and
    flip, shared by its two frames. Crops are resized bicubically, as in MAE.

    gap, crop_scale: see `draw_pair` and `draw_crop`. flip: whether half of the pairs are mirrored. still: the part of
        the pairs that are one frame twice. crop_tries: of so many crops the one in which the frames differ most.
    augment: cuts the frames out in another way than `crop_frames`, such as a lib.data.augmentation.Augmentation.
    frame_size: frames are read with this short side (never enlarged), and cropped then; None: as they are.
    frame_cache: folder where each clip is stored once as decoded frames; None: they are decoded for each sample.
    """

    def __init__(
        self, clips: Sequence[Clip], image_size: int = 224, gap: tuple[int, int] = (4, 48),
        crop_scale: tuple[float, float] = (0.5, 1.0), repeated_sampling: int = 2, seed: int = 0,
        frame_size: int | None = None, frame_cache: str | Path | None = None,
        flip: bool = True, augment: "Augmentation | None" = None, still: float = 0.0, crop_tries: int = 1,
    ) -> None:  # fmt: skip
        if not clips:
            raise UserError("no clips to draw frame pairs from; scan_videos tells why videos were skipped")
        if not 0 <= gap[0] <= gap[1]:
            raise UserError(f"gap {gap}: must be (smallest, largest) with 0 <= smallest <= largest")
        needed = gap[1] / PAPER_FPS
        short = [clip for clip in clips if not clip.info.reaches(needed)]
        if short:
            raise UserError(f"{short[0].path}: spans less than the largest gap; scan with min_seconds={needed:.3f}")
        self.clips, self.image_size, self.gap = list(clips), image_size, gap
        self.crop_scale, self.repeated_sampling, self.seed = crop_scale, repeated_sampling, seed
        self.frame_size, self.frame_cache = frame_size, frame_cache
        self.flip, self.augment, self.still, self.crop_tries = flip, augment, still, crop_tries

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def identity(self) -> str:
        """A hash of all that the samples depend on, save the seed; the training loop keeps it with a run."""
        clips = [(clip.path.name, clip.info) for clip in self.clips]
        more = () if self.flip and not self.augment else (self.flip, self.augment)
        more = (*more, self.still, self.crop_tries) if self.still or self.crop_tries > 1 else more
        return digest(clips, self.image_size, self.gap, self.crop_scale, self.repeated_sampling, self.frame_size, *more)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.sample(index)[0]

    def sample(self, index: int) -> tuple[dict[str, torch.Tensor], list[Cut]]:
        """dataset[index] and where each of its R pairs was cut, for whoever knows more of the clip than its pixels."""
        clip = self.clips[index % len(self.clips)]
        info, rng = clip.info, np.random.default_rng([self.seed, index])
        pairs = [draw_pair(info, rng, self.gap) for _ in range(self.repeated_sampling)]
        if self.still:
            pairs = [(second, second) if rng.random() < self.still else (first, second) for first, second in pairs]
        frames = read_clip(clip, [i for pair in pairs for i in pair], self.frame_size, self.frame_cache)
        pair_views, cuts = [], []
        for k, (first, second) in enumerate(pairs):
            two, side = frames[2 * k : 2 * k + 2], self.image_size
            boxes = [draw_crop(*frames.shape[1:3], rng, self.crop_scale) for _ in range(self.crop_tries)]
            box, mirror = max(boxes, key=partial(change, two)) if len(boxes) > 1 else boxes[0], rng.random() < 0.5
            cut = Cut(first, second, box, flip=mirror and self.flip)
            if self.augment:  # with a generator of its own, so that crops and flips are the same without it
                views = self.augment.views(two, box, side, np.random.default_rng([self.seed, index, k, 1]))
            else:
                views = crop_frames(two, box, side)
            pair_views.append(views.flip(-1) if cut.flip else views)
            cuts.append(cut)
        views = torch.stack(pair_views)  # (R, 2, 3, S, S)
        gap = torch.tensor([info.between(first, second) * PAPER_FPS for first, second in pairs])
        return {"past": views[:, 0].contiguous(), "future": views[:, 1].contiguous(), "gap": gap}, cuts


def collate_pairs(samples: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """B samples of R pairs -> {"past", "future": uint8 (B * R, 3, S, S), "gap": (B * R,)}, one clip's pairs in a row.

    Whatever else every sample brings for its pairs, (R, ...), is joined alike.
    """
    return {name: torch.cat([sample[name] for sample in samples]) for name in samples[0]}


def collate_images(samples: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The future frames of pairs as plain images, for MAE: {"image": uint8 (B * R, 3, S, S)}."""
    return {"image": collate_pairs(samples)["future"]}
