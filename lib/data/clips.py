"""Kinetics-400 clips and the frame pairs that SiamMAE trains on.

SiamMAE (Gupta et al. 2023, section 4 and appendix table 4a): two frames of one clip, 4 to 48 frames apart at 30 frames
a second; one random resized crop (area 0.5 to 1) and one flip shared by both; repeated sampling of 2 pairs a clip.

Shapes: `B` clips, `R` pairs drawn from one clip (repeated sampling), `S` side of the square crop in pixels.
Layouts read: the official `{split}/{class}/{id}_{start}_{end}.mp4` with `annotations/{split}.csv`; `videos/*`; a flat
folder; a list file. Nothing here needs labels.
"""

import csv
import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset, Sampler

from lib.data.video import VideoInfo, probe, read_frames
from lib.errors import UserError
from lib.runtime import atomic_path, progress

PAPER_FPS = 30  # the frame rate in which gaps are told
VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"}
MANIFEST_COLUMNS = ["path", "num_frames", "fps", "height", "width", "status"]
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Clip:
    """A video file that was found readable."""

    path: Path
    info: VideoInfo


@dataclass(frozen=True)
class Scan:
    """The clips that can be used, and for each file that cannot the reason in one line."""

    clips: list[Clip]
    skipped: dict[Path, str]

    def report(self) -> str:
        """One line: how many clips, how many skipped and the first of those."""
        line = f"{len(self.clips)} clips"
        if self.skipped:
            path, reason = next(iter(self.skipped.items()))
            line += f", {len(self.skipped)} skipped (first: {path.name}: {reason})"
        return line


# --- Which files -----------------------------------------------------------------------------------------------------


def list_kinetics(root: str | Path, split: str = "train") -> list[Path]:
    """The video files of a data set, in a fixed order.

    root: a folder in the official layout, where `annotations/{split}.csv`, if it is there, decides which videos are
        read (Kinetics copies always lack some of its rows: they are listed, and the scan skips and counts them); or a
        folder with videos in it or in its folder `videos`; or a list file, see `read_list`.

    Raises UserError when there is no such folder or file, or no video in it.
    """
    root = Path(root)
    if root.is_file():
        return read_list(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give the folder that holds {split}/, videos/ or the videos themselves")
    annotations = root / "annotations" / f"{split}.csv"
    folder = next((f for f in (root / split, root / "videos") if f.is_dir()), root)
    if folder.name == split and annotations.is_file():
        return _read_annotations(annotations, folder)
    found = folder.glob("*") if folder == root else folder.rglob("*")
    videos = sorted(p for p in found if p.suffix.lower() in VIDEO_SUFFIXES)
    if not videos:
        there = ", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "nothing"
        raise UserError(f"{folder}: no videos; expected {split}/CLASS/*.mp4, videos/* or video files; found {there}")
    return videos


def read_list(path: str | Path) -> list[Path]:
    """Videos named by a CSV file with header `path` or `path,label`; paths are relative to the file's own folder.

    Raises UserError when the header is another or a file is missing (names the first, counts all).
    """
    path = Path(path)
    rows = _read_csv(path, ["path"])
    videos = [path.parent / row["path"] for row in rows]
    missing = [video for video in videos if not video.is_file()]
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of {len(videos)} videos are missing, the first is {missing[0]}; correct the list"
        )
    if not videos:
        raise UserError(f"{path}: the list is empty; write one video path a line below the header")
    return videos


def _read_annotations(annotations: Path, folder: Path) -> list[Path]:
    """The official rows -> files. Class folders may have the label's spaces and brackets or not, as copies differ."""
    rows = _read_csv(annotations, ["label", "youtube_id", "time_start", "time_end"])
    files = {
        (_plain_label(video.parent.name), video.stem): video
        for video in folder.glob("*/*")
        if video.suffix.lower() in VIDEO_SUFFIXES
    }
    videos = []
    for row in rows:
        stem = f"{row['youtube_id']}_{int(row['time_start']):06d}_{int(row['time_end']):06d}"
        label = _plain_label(row["label"])
        videos.append(files.get((label, stem), folder / label / f"{stem}.mp4"))
    return videos


def _plain_label(label: str) -> str:
    return label.translate({ord(" "): "_", ord("'"): None, ord("("): None, ord(")"): None, ord('"'): None})


def _read_csv(path: Path, columns: list[str]) -> list[dict[str, str]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: is no CSV text ({error}); save it as UTF-8 CSV") from None
    absent = [column for column in columns if column not in (reader.fieldnames or [])]
    if absent or any(row[column] is None for row in rows for column in columns):
        raise UserError(f"{path}: every line needs the columns {','.join(columns)}, and the first line must name them")
    return rows


# --- Which of them can be used ---------------------------------------------------------------------------------------


def scan_videos(
    paths: Sequence[Path],
    min_seconds: float = 48 / PAPER_FPS,
    max_bad_fraction: float = 0.5,
    manifest: str | Path | None = None,
    workers: int = 1,
) -> Scan:
    """Probe every file (`probe_all`) or look it up in a manifest; skip and count what cannot serve.

    min_seconds: a clip serves when its last frame is at least this long after its first: the largest gap.
    max_bad_fraction: more skipped files than this share is a UserError that names the first of them.
    manifest: a file by `write_manifest`; then no video is opened.
    """
    known = probe_all(paths, workers) if manifest is None else read_manifest(manifest)
    absent = [path for path in paths if path.resolve() not in known]
    if absent:
        raise UserError(
            f"{manifest}: lacks {len(absent)} of {len(paths)} videos, first {absent[0]}; run data_scripts/prepare_kinetics.py"
        )
    clips, skipped = [], {}
    for path in paths:
        info = known[path.resolve()]
        if isinstance(info, str):
            skipped[path] = info
        elif (info.num_frames - 1) / info.fps < min_seconds - 1e-6:
            skipped[path] = f"too short: {info.num_frames} frames at {info.fps:.2f} fps do not span {min_seconds:.2f} s"
        else:
            clips.append(Clip(path, info))
    scan = Scan(clips, skipped)
    if not clips or len(skipped) > max_bad_fraction * len(paths):
        raise UserError(f"too few usable videos: {scan.report()}; at most {max_bad_fraction:.0%} may be skipped")
    return scan


def probe_all(paths: Sequence[Path], workers: int = 1) -> dict[Path, VideoInfo | str]:
    """Absolute path -> info, or the reason in one line why the file cannot be read."""

    def attempt(path: Path) -> VideoInfo | str:
        try:
            return probe(path)
        except UserError as error:
            return str(error).removeprefix(f"{path}: ")

    with ThreadPoolExecutor(workers) as pool:  # the decoder's work runs outside Python's lock
        infos = list(progress(pool.map(attempt, paths), "probe videos", total=len(paths)))
    return {path.resolve(): info for path, info in zip(paths, infos, strict=True)}


def write_manifest(path: str | Path, known: dict[Path, VideoInfo | str]) -> None:
    """Write `probe_all`'s answer as CSV with MANIFEST_COLUMNS, whole or not at all.

    Paths are written relative to the manifest's folder, so both can move together; `status` is `ok` or the reason.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(MANIFEST_COLUMNS)
        for video, info in known.items():
            name = Path(os.path.relpath(video, Path(path).resolve().parent)).as_posix()
            if isinstance(info, str):
                writer.writerow([name, "", "", "", "", info])
            else:
                writer.writerow([name, info.num_frames, repr(info.fps), info.height, info.width, "ok"])


def read_manifest(path: str | Path) -> dict[Path, VideoInfo | str]:
    """The inverse of `write_manifest`. Raises UserError when the file is missing or is no manifest."""
    path = Path(path)
    known = {}
    for row in _read_csv(path, MANIFEST_COLUMNS):
        video = (path.parent / row["path"]).resolve()
        if row["status"] != "ok":
            known[video] = row["status"]
            continue
        try:
            known[video] = VideoInfo(int(row["num_frames"]), float(row["fps"]), int(row["height"]), int(row["width"]))
        except ValueError:
            raise UserError(f"{path}: the row of {row['path']} has no numbers; prepare the manifest again") from None
    return known


# --- Which frames, which part of them --------------------------------------------------------------------------------


def draw_pair(num_frames: int, fps: float, rng: np.random.Generator, gap: tuple[int, int] = (4, 48)) -> tuple[int, int]:
    """Draw frames i < j of one clip: the gap uniform on the whole numbers gap[0]..gap[1], both included, at 30 fps.

    A clip of another rate is read by time: j - i is the nearest number of its own frames (at least 1), so the time
    between them errs by half a frame at most. Then i is uniform on all places where both frames fit.
    Needs (num_frames - 1) / fps >= gap[1] / 30, which `scan_videos` sees to.
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

    Area uniform in `scale` of the frame's, width/height log-uniform in `ratio`; after ten boxes that do not fit, the
    largest central one whose ratio is allowed.
    """
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
    w, h = min(width, round(height * ratio[1])), min(height, round(width / ratio[0]))
    return (height - h) // 2, (width - w) // 2, h, w


class FramePairs(Dataset):
    """Pairs of frames, R from each clip; the index carries the randomness.

    dataset[i] is {"past", "future"}: uint8 (R, 3, S, S) each, drawn from clip i % len(dataset) by a generator seeded
    with (seed, i) alone. Any i >= 0 is valid: a sampler that goes on counting (`StepBatches`) gets fresh pairs in each
    epoch, and the same ones after a restart, whatever the number of workers. Each pair has its own crop box and flip,
    shared by its two frames. Crops are resized bicubically with antialiasing.

    frame_size: frames are read with this short side (never enlarged); None: as they are. The crop is taken from that.
    frame_cache: folder where each clip is stored once as decoded frames and then read from disk (about 25 MB a clip
        of 10 s at frame_size 128). None: the frames of a sample are decoded each time.
    Raises UserError when a video cannot be read any more.
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
        self.clips, self.image_size, self.gap = list(clips), image_size, gap
        self.crop_scale, self.crop_ratio = crop_scale, crop_ratio
        self.repeated_sampling, self.seed = repeated_sampling, seed
        self.frame_size, self.frame_cache = frame_size, frame_cache

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        clip = self.clips[index % len(self.clips)]
        rng = np.random.default_rng([self.seed, index])
        pairs = [draw_pair(clip.info.num_frames, clip.info.fps, rng, self.gap) for _ in range(self.repeated_sampling)]
        views = []
        for frames in self._frames(clip, pairs):
            top, left, h, w = draw_crop(*frames[0].shape[:2], rng, self.crop_scale, self.crop_ratio)
            crops = np.stack([frame[top : top + h, left : left + w] for frame in frames])  # (2, h, w, 3)
            views.append(_resize(crops, self.image_size, flip=rng.random() < 0.5))
        pairs_of_views = torch.stack(views)  # (R, 2, 3, S, S)
        return {"past": pairs_of_views[:, 0].contiguous(), "future": pairs_of_views[:, 1].contiguous()}

    def _frames(self, clip: Clip, pairs: list[tuple[int, int]]) -> list[tuple[np.ndarray, np.ndarray]]:
        """The two frames (H, W, 3) of every pair, all from one decoding or from the cache."""
        if self.frame_cache is not None:
            whole = cached_frames(clip, self.frame_size, Path(self.frame_cache))
            return [(whole[i], whole[j]) for i, j in pairs]
        flat = read_frames(clip.path, [i for pair in pairs for i in pair], self.frame_size)
        return list(zip(flat[0::2], flat[1::2], strict=True))


def _resize(crops: np.ndarray, side: int, flip: bool) -> torch.Tensor:
    """(2, h, w, 3) uint8 -> (2, 3, S, S) uint8. Channels stay last in memory: PyTorch's quick path for uint8."""
    views = torch.from_numpy(crops).permute(0, 3, 1, 2)
    views = F.interpolate(views, size=(side, side), mode="bicubic", antialias=True)
    return views.flip(-1) if flip else views


def cached_frames(clip: Clip, frame_size: int | None, folder: Path) -> np.ndarray:
    """All frames of a clip, (T, H, W, 3) uint8, as a read-only map of a .npy file that is made when it is not there.

    The name carries the video's name, size and time of change, and frame_size, so a video that is replaced is decoded
    again. Several processes may ask for one clip: each writes its own temporary file and moves it into place whole.
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


# --- Batches ---------------------------------------------------------------------------------------------------------


def collate_pairs(samples: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """B samples of R pairs -> {"past", "future"}: uint8 (B * R, 3, S, S) each, a clip's pairs side by side."""
    return {name: torch.cat([sample[name] for sample in samples]) for name in ("past", "future")}


def normalize_frames(frames: torch.Tensor) -> torch.Tensor:
    """uint8 (..., 3, H, W) -> float32, ImageNet mean 0 and deviation 1 per channel; on the tensor's own device."""
    mean, std = (torch.tensor(x, device=frames.device).view(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
    return (frames.float() / 255 - mean) / std


class StepBatches(Sampler[list[int]]):
    """Index lists for training steps start_step..steps-1, a pure function of the step: resuming repeats nothing.

    Each epoch is a fresh permutation of the clips from (seed, epoch); index = epoch * num_clips + clip, so that
    `FramePairs` draws new pairs each time. A batch may reach over the end of an epoch, so any batch size will do.
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
