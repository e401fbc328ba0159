"""The frame pairs that SiamMAE trains on, and the order in which a run sees them.

SiamMAE (Gupta et al. 2023, section 4 and appendix table 4a): two frames of one clip, 4 to 48 frames apart at
30 frames a second; one random resized crop (area 0.5 to 1) and one flip shared by both; 2 pairs from each
clip that is read ("repeated sampling").

Shapes: `B` clips, `R` pairs drawn from one clip, `T` frames, `H W` pixels, `S` side of the square crop in
pixels.
"""

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset, Sampler

from lib.data.kinetics import PAPER_FPS, Clip
from lib.data.video import read_frames
from lib.errors import UserError
from lib.runtime import atomic_path


def draw_pair(num_frames: int, fps: float, rng: np.random.Generator, gap: tuple[int, int] = (4, 48)) -> tuple[int, int]:
    """Draw frames i < j of one clip: the gap, in frames at 30 fps, uniform on gap[0]..gap[1], both included.

    A clip of another rate is read by time: j - i is the nearest number of its own frames (at least 1), so
    that the time between them errs by half a frame at most. Then i is uniform on all places where both
    frames fit. Needs (num_frames - 1) / fps >= gap[1] / 30, which `scan_videos` sees to.
    """
    seconds = rng.integers(gap[0], gap[1], endpoint=True) / PAPER_FPS
    distance = max(1, math.floor(seconds * fps + 0.5))
    first = int(rng.integers(num_frames - distance))
    return first, first + distance


def draw_crop(
    height: int,
    width: int,
    rng: np.random.Generator,
    scale: tuple[float, float] = (0.5, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> tuple[int, int, int, int]:
    """A crop box (top, left, height, width) with the law of torchvision's RandomResizedCrop.

    Its area is uniform in `scale` of the frame's, width / height log-uniform in `ratio`; after ten boxes
    that do not fit, the largest central one whose ratio is allowed.
    """
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    w, h = min(width, round(height * ratio[1])), min(height, round(width / ratio[0]))
    return (height - h) // 2, (width - w) // 2, h, w


class Cut(NamedTuple):
    """Where a pair was cut out of its clip."""

    first: int
    """The past's frame; `second` is the future's."""
    second: int
    box: tuple[int, int, int, int]
    """Top, left, height and width in the frame as it was read."""
    flip: bool
    """Mirrored, left for right, after the crop."""


class FramePairs(Dataset):
    """Pairs of frames, R from each clip; the index carries the randomness.

    dataset[i] is {"past", "future": uint8 (R, 3, S, S), "gap": float32 (R,), the time between them in frames at 30
    fps}, drawn from clip i % len(dataset) by a generator that is seeded with (seed, i) alone. Any i >= 0 is valid: a
    sampler that goes on counting (`StepBatches`) gets fresh pairs in each epoch, and the same ones after a restart,
    whatever the number of workers. Each pair has its own crop box and flip, shared by its two frames. Crops are resized
    bicubically with antialiasing, as in MAE.

    So it has no end of its own: `for sample in dataset` would not stop.

    gap, crop_scale, crop_ratio: see `draw_pair` and `draw_crop`.
    frame_size: frames are read with this short side (never enlarged); None: as they are. Crops are taken
        from that.
    frame_cache: folder where each clip is stored once as decoded frames and from then on read (about 25 MB a
        clip of 10 s at frame_size 128). None: the frames of a sample are decoded each time.

    Raises UserError for a clip shorter than the largest gap, and when a video cannot be read any more.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        image_size: int = 224,
        gap: tuple[int, int] = (4, 48),
        crop_scale: tuple[float, float] = (0.5, 1.0),
        crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
        repeated_sampling: int = 2,
        seed: int = 0,
        frame_size: int | None = None,
        frame_cache: str | Path | None = None,
    ) -> None:
        if not clips:
            raise UserError("no clips to draw frame pairs from; scan_videos tells why videos were skipped")
        if not 1 <= gap[0] <= gap[1]:
            raise UserError(f"gap {gap}: must be (smallest, largest) with 1 <= smallest <= largest")
        needed = gap[1] / PAPER_FPS
        short = [clip for clip in clips if clip.info.span_seconds < needed]
        if short:
            raise UserError(f"{short[0].path}: spans less than the largest gap; scan with min_seconds={needed:.3f}")
        self.clips, self.image_size, self.gap = list(clips), image_size, gap
        self.crop_scale, self.crop_ratio = crop_scale, crop_ratio
        self.repeated_sampling, self.seed = repeated_sampling, seed
        self.frame_size, self.frame_cache = frame_size, frame_cache

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.sample(index)[0]

    def sample(self, index: int) -> tuple[dict[str, torch.Tensor], list[Cut]]:
        """dataset[index] and where each of its R pairs was cut, for whoever knows more of the clip than its pixels."""
        clip = self.clips[index % len(self.clips)]
        rng = np.random.default_rng([self.seed, index])
        info = clip.info
        pairs = [draw_pair(info.num_frames, info.fps, rng, self.gap) for _ in range(self.repeated_sampling)]
        pair_views, cuts = [], []
        for frames, (first, second) in zip(self._frames(clip, pairs), pairs, strict=True):
            top, left, h, w = draw_crop(*frames[0].shape[:2], rng, self.crop_scale, self.crop_ratio)
            crops = np.stack([frame[top : top + h, left : left + w] for frame in frames])  # (2, h, w, 3)
            cuts.append(Cut(first, second, (top, left, h, w), flip=rng.random() < 0.5))
            pair_views.append(resize_views(crops, self.image_size, cuts[-1].flip))
        views = torch.stack(pair_views)  # (R, 2, 3, S, S)
        gap = torch.tensor([(second - first) * PAPER_FPS / info.fps for first, second in pairs])
        return {"past": views[:, 0].contiguous(), "future": views[:, 1].contiguous(), "gap": gap}, cuts

    def _frames(self, clip: Clip, pairs: list[tuple[int, int]]) -> list[tuple[np.ndarray, np.ndarray]]:
        """The two frames (H, W, 3) of every pair, all from one decoding or from the cache."""
        if self.frame_cache is not None:
            whole = cached_frames(clip, self.frame_size, Path(self.frame_cache))
            return [(whole[i], whole[j]) for i, j in pairs]
        flat = read_frames(clip.path, [i for pair in pairs for i in pair], self.frame_size)
        return list(zip(flat[0::2], flat[1::2], strict=True))


def resize_views(crops: np.ndarray, side: int, flip: bool) -> torch.Tensor:
    """(n, h, w, 3) -> (n, 3, S, S), both uint8. Channels stay last in memory: PyTorch's quick path."""
    views = torch.from_numpy(crops).permute(0, 3, 1, 2)
    views = F.interpolate(views, size=(side, side), mode="bicubic", antialias=True)
    return views.flip(-1) if flip else views


def cached_frames(clip: Clip, frame_size: int | None, folder: Path) -> np.ndarray:
    """All frames of a clip, (T, H, W, 3) uint8, as a read-only map of a .npy file that is made when it is
    not there.

    The name carries the video's name, size and time of change, and frame_size, so that a video which was
    replaced is decoded again. Several processes may ask for one clip: each writes its own temporary file and
    moves it into place whole.
    """
    try:
        stat = clip.path.stat()
    except OSError:
        raise UserError(f"{clip.path}: no such file any more; scan the videos again") from None
    key = repr((clip.path.name, stat.st_size, stat.st_mtime_ns, frame_size))
    path = folder / f"{clip.path.stem}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
    if not path.is_file():
        frames = read_frames(clip.path, range(clip.info.num_frames), frame_size)
        with atomic_path(path) as temporary:
            np.save(temporary, frames)
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path}: is no whole frame cache ({error}); delete it, it will be made again") from None


def collate_pairs(samples: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """B samples of R pairs -> {"past", "future": uint8 (B * R, 3, S, S), "gap": (B * R,)}, one clip's pairs in a row.

    Whatever else every sample brings for its pairs, (R, ...), is joined alike.
    """
    return {name: torch.cat([sample[name] for sample in samples]) for name in samples[0]}


class StepBatches(Sampler[list[int]]):
    """Index lists for the steps start_step..steps-1 of a run: a pure function of the step, so resuming is
    exact.

    Each epoch is a fresh permutation of the clips from (seed, epoch); index = epoch * num_clips + clip, so
    that `FramePairs` draws new pairs each time. A batch may reach over the end of an epoch: any batch size
    will do.
    """

    def __init__(self, num_clips: int, batch_size: int, steps: int, seed: int = 0, start_step: int = 0) -> None:
        if min(num_clips, batch_size) < 1:
            raise UserError(f"num_clips {num_clips} and batch_size {batch_size} must both be at least 1")
        self.num_clips, self.batch_size, self.steps = num_clips, batch_size, steps
        self.seed, self.start_step = seed, start_step
        self.drop_last = False  # read, with batch_size, by accelerate when it splits batches among processes

    def __len__(self) -> int:
        return max(0, self.steps - self.start_step)

    def __iter__(self) -> Iterator[list[int]]:
        epoch, order = -1, None
        for step in range(self.start_step, self.steps):
            batch = []
            for position in range(step * self.batch_size, (step + 1) * self.batch_size):
                if position // self.num_clips != epoch:
                    epoch = position // self.num_clips
                    # The 1 keeps this stream apart from those of FramePairs.
                    order = np.random.default_rng([self.seed, epoch, 1]).permutation(self.num_clips)
                batch.append(epoch * self.num_clips + int(order[position % self.num_clips]))
            yield batch
