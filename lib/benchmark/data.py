"""How fast random pairs of frames come from videos, and from stores made of them: formats compared in one run.

A pair is two frames and one crop of 224 pixels of both, as training takes it; `pairs` of each clip that is read.
Speed is pairs a CPU second of one process: what counts where a loader has a process for each core, and hardly depends
on other work on the machine. Disk is in multiples of the videos'. All is compared with what published code for
SiamMAE does (CropMAE's data/util/video_utils.py): decord, with as many threads as it likes, opened for each clip.
Quality: PSNR in dB against the video's own frames at the stored size.
"""

import argparse
import importlib.util
import io
import multiprocessing
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import torch
from PIL import Image

from lib.benchmark.timing import check_counts, conditions
from lib.data.clips import FramePairs, crop_frames, draw_crop, draw_pair
from lib.data.decoding import Clip, iter_frames
from lib.data.kinetics import list_kinetics, scan_videos
from lib.data.store import StoreFormat, build_store, stored_path
from lib.data.video import probe, read_frames
from lib.errors import UserError
from lib.runtime import cpu_cores
from lib.training import StepBatches

USUAL = "decord, as published code opens it"
ONE_THREAD = "decord with one thread"
SIDE, CROP, JPEG = 256, 224, 75  # pixels, pixels, quality
STORE = "H.264, each 4th a keyframe"
KINDS = {
    "H.264, each a keyframe, crf 18": StoreFormat(SIDE, gop=1, crf=18),
    STORE: StoreFormat(SIDE),
    "H.264, each 12th": StoreFormat(SIDE, gop=12),
}
Read = Callable[[int, Sequence[int]], np.ndarray]  # of a clip's number and frames' numbers: (T, H, W, 3) uint8


class Source(NamedTuple):
    """Where frames come from: how they are read, how many pairs of a clip, and what it takes on disk."""

    read: Read
    pairs: int
    bytes: int
    small: bool = True  # at SIDE, not as the video has them


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m lib.benchmark data`."""
    parser.add_argument("--videos", type=Path, required=True, help="a folder that lib.data.kinetics reads")
    parser.add_argument("--limit", type=int, default=20, help="of its videos so many, at even distances (default: 20)")
    parser.add_argument("--seconds", type=float, default=10, help="CPU seconds a format and round (default: 10)")
    parser.add_argument("--rounds", type=int, default=3, help="of which the best counts (default: 3)")
    parser.add_argument("--pairs", type=int, default=2, help="of each clip that is read (default: 2)")
    parser.add_argument("--memory-pairs", type=int, default=50_000, help="drawn to see memory grow (default: 50,000)")


def run(args: argparse.Namespace) -> dict:
    """Measure and return the result."""
    check_counts(args, "limit", "rounds", "pairs", "memory_pairs")
    if not args.videos.is_dir() or not args.seconds >= 0:  # nan, too
        raise UserError(f"--videos {args.videos}, --seconds {args.seconds}: give a folder, and 0 seconds or more")
    paths = list_kinetics(args.videos)
    some = np.linspace(0, len(paths) - 1, min(args.limit, len(paths))).round().astype(int)
    clips = scan_videos([paths[number] for number in some]).clips
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        sources = open_sources(clips, args.videos, Path(folder), args.pairs)
        speeds = dict.fromkeys(sources, 0.0)
        for number in range(args.rounds):
            for name, source in sources.items():
                speeds[name] = max(speeds[name], pairs_a_second(source, clips, args.seconds, number))
        videos = sum(clip.path.stat().st_size for clip in clips)
        rows = [
            {
                "source": name,
                "pairs_a_clip": source.pairs,
                "pairs_per_cpu_second": speeds[name],
                "speed_ratio": speeds[name] / speeds[USUAL],
                "disk_ratio": source.bytes / videos,
                "psnr": psnr(source, clips) if source.small else None,
            }
            for name, source in sources.items()
        ]
        stored = [Clip(path, probe(path)) for path in sorted((Path(folder) / STORE).rglob("*.mp4"))]
        loaded = {f"workers_{count}": loader_speed(stored, args.pairs, count) for count in (1, 2)}
        with multiprocessing.get_context("spawn").Pool(1) as alone:  # this one holds what the other formats needed
            memory = alone.apply(memory_curve, (stored, args.pairs, args.memory_pairs))
    about = {"clips": len(clips), "crop": CROP, "short_side": SIDE, "jpeg_quality": JPEG}
    about |= {"seconds": args.seconds, "rounds": args.rounds}
    scaling = {**loaded, "workers_ratio": loaded["workers_2"] / loaded["workers_1"]}
    return {**about, "rows": rows, **scaling, "memory": memory, **conditions()}


# --- Sources ---


def open_sources(clips: Sequence[Clip], root: Path, folder: Path, pairs: int) -> dict[str, Source]:
    """All formats, made in `folder`; those left out whose library is not installed."""
    size = sum(clip.path.stat().st_size for clip in clips)
    direct, sources = partial(_read_clip, clips), {}
    if importlib.util.find_spec("decord"):
        paths = [str(clip.path) for clip in clips]
        sources[USUAL] = Source(partial(_decord, paths, 0), pairs, size, small=False)  # 0: it decides
        sources[ONE_THREAD] = Source(partial(_decord, paths, 1), pairs, size, small=False)
    else:
        raise UserError("decord, which all is compared with, has no build for this machine; take Linux on x86-64")
    sources["PyAV, as the manifest knows it"] = Source(direct, pairs, size, small=False)
    sources["the same, 8 pairs a clip"] = Source(direct, 8, size, small=False)
    for name, kind in KINDS.items():
        build_store(clips, root, folder / name, kind, workers=cpu_cores())
        places = [stored_path(clip.path, root, folder / name) for clip in clips]
        stored = [Clip(path, probe(path)) for path in places]
        sources[name] = Source(partial(_read_clip, stored), pairs, _size(folder / name))
    zips = [_write_zip(clip, folder / "zip" / f"{number}.zip") for number, clip in enumerate(clips)]
    sources["JPEGs in a ZIP for each clip"] = Source(partial(_read_zip, zips), pairs, _size(folder / "zip"))
    if importlib.util.find_spec("litdata"):
        sources["litdata, JPEGs of a clip in a sample"] = _litdata(clips, folder / "litdata", pairs)
    return sources


def _read_clip(clips: Sequence[Clip], number: int, frames: Sequence[int]) -> np.ndarray:
    return read_frames(clips[number].path, frames, info=clips[number].info)


def _decord(paths: Sequence[str], threads: int, number: int, frames: Sequence[int]) -> np.ndarray:
    import decord

    return decord.VideoReader(paths[number], num_threads=threads).get_batch(frames).asnumpy()


def _jpegs(clip: Clip) -> Iterator[bytes]:
    for frame in iter_frames(clip.path, range(clip.info.num_frames), SIDE):
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=JPEG)
        yield file.getvalue()


def _decoded(jpegs: Sequence[bytes]) -> np.ndarray:
    return np.stack([np.array(Image.open(io.BytesIO(jpeg))) for jpeg in jpegs])


def _write_zip(clip: Clip, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as file:
        for number, jpeg in enumerate(_jpegs(clip)):
            file.writestr(str(number), jpeg)
    return path


def _read_zip(paths: Sequence[Path], number: int, frames: Sequence[int]) -> np.ndarray:
    with zipfile.ZipFile(paths[number]) as file:
        return _decoded([file.read(str(frame)) for frame in frames])


def _litdata(clips: Sequence[Clip], folder: Path, pairs: int) -> Source:
    """A sample is a clip: its JPEGs in a row, and where each begins."""
    litdata = importlib.import_module("litdata")
    writer = importlib.import_module("litdata.streaming").Cache(str(folder), chunk_bytes="64MB")
    for number, clip in enumerate(clips):
        jpegs = list(_jpegs(clip))
        writer[number] = {"ends": np.cumsum([len(jpeg) for jpeg in jpegs]), "jpegs": b"".join(jpegs)}
    writer.done()
    writer.merge()
    dataset = litdata.StreamingDataset(str(folder))

    def read(number: int, frames: Sequence[int]) -> np.ndarray:
        sample = dataset[number]
        ends = [0, *sample["ends"].tolist()]
        return _decoded([sample["jpegs"][ends[frame] : ends[frame + 1]] for frame in frames])

    return Source(read, pairs, _size(folder))


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# --- Measures ---


def pairs_a_second(source: Source, clips: Sequence[Clip], seconds: float, seed: int) -> float:
    """Pairs a CPU second, over whole rounds of the clips, of which there is at least one."""
    rng, start, done = np.random.default_rng(seed), time.process_time(), 0
    while not done or time.process_time() - start < seconds:
        for number, clip in enumerate(clips):
            pairs = [draw_pair(clip.info, rng) for _ in range(source.pairs)]
            frames = source.read(number, [frame for pair in pairs for frame in pair])
            for k in range(source.pairs):
                two = frames[2 * k : 2 * k + 2]
                crop_frames(two, draw_crop(*two.shape[1:3], rng), CROP)
        done += source.pairs * len(clips)
    return done / (time.process_time() - start)


def psnr(source: Source, clips: Sequence[Clip]) -> float:
    """How near stored frames are to the video's own at their size, over the middle frame of each clip."""
    errors = []
    for number, clip in enumerate(clips):
        middle = clip.info.num_frames // 2
        ours = source.read(number, [middle])[0].astype(float)
        theirs = read_frames(clip.path, [middle], SIDE, clip.info)[0][: ours.shape[0], : ours.shape[1]]
        errors.append(np.square(ours - theirs).mean())
    return float(10 * np.log10(255**2 / (np.mean(errors) + 1e-6)))  # finite where nothing is lost


def loader_speed(clips: Sequence[Clip], pairs: int, workers: int, batches: int = 60) -> float:
    """Pairs a second of wall-clock time from a loader with so many processes, the first batches not counted."""
    dataset = FramePairs(clips, CROP, repeated_sampling=pairs)
    sampler = StepBatches(len(dataset), 16, batches + 2 * workers)
    loader = iter(torch.utils.data.DataLoader(dataset, batch_sampler=sampler, num_workers=workers))
    for _ in range(2 * workers):
        next(loader)
    start = time.perf_counter()
    count = sum(batch["gap"].numel() for batch in loader)
    return count / (time.perf_counter() - start)


def memory_curve(clips: Sequence[Clip], pairs: int, number: int, points: int = 25) -> list[dict[str, float]]:
    """The process's memory in MB (2**20 bytes) while `number` pairs are drawn."""
    torch.set_num_threads(1)
    dataset, process, curve = FramePairs(clips, CROP, repeated_sampling=pairs), psutil.Process(), []
    for index in range(-(-number // pairs)):
        dataset[index]
        if index % max(1, number // pairs // points) == 0:
            curve.append({"drawn": (index + 1) * pairs, "rss_mb": process.memory_info().rss / 2**20})
    return curve
