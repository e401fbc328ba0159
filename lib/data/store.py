"""A store of videos made for drawing random frames: the same clips, small, in short groups of pictures.

A frame of a usual video costs the decoding of all since the last keyframe, often hundreds. In the store each `gop`-th
frame is a keyframe, and the codec's slow tools are off. It is plain MP4, in the folders and under the names of the data
set it was made from, and is read as that is: `data_root` names its folder. `python -m lib.benchmark data` says what it
brings, and against which other formats it was chosen.
"""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from filelock import FileLock

from lib.data.decoding import Clip, iter_frames
from lib.data.kinetics import HELD_OUT, split_videos
from lib.errors import UserError
from lib.runtime import atomic_path, in_threads, progress, write_json

RECORD = "store.json"
TICKS = 90_000  # a second has so many; times are kept to one of them


@dataclass(frozen=True)
class StoreFormat:
    """How clips are stored. gop: 1 reads fastest, larger take less disk. crf: x264's quality, lower is better."""

    short_side: int = 256
    gop: int = 4
    crf: int = 23

    def __post_init__(self):
        if self.gop < 1 or self.short_side < 16 or not 0 <= self.crf <= 51:
            raise UserError(f"{self}: gop must be 1 or more, short_side 16 or more, crf from 0 to 51")

    def options(self) -> dict[str, str]:
        """x264's: no frame needs a later one, decoding is quick, and a clip's bytes are the same each time.

        Without the last, its code for AVX-512 writes others now and then, though the pictures are the same.
        """
        shape = {"g": str(self.gop), "bf": "0", "crf": str(self.crf)}
        return {"preset": "veryfast", "tune": "fastdecode", **shape, "x264-params": "cpu-independent=1"}


def build_store(clips: Sequence[Clip], root: Path, out: Path, kind: StoreFormat, workers: int) -> dict[Path, str]:
    """Store the clips of the data set in `root` under `out`, those that are there left out; which failed, and why.

    A stored clip has its file's time, and is made again where that is another. What has a clip's name is whole,
    whenever this is stopped. UserError as of `check_store`.
    """
    check_store(out, kind)
    todo, failed = [clip for clip in clips if not _is_stored(clip.path, stored_path(clip.path, root, out))], {}

    def attempt(clip: Clip) -> None:
        try:
            with atomic_path(stored_path(clip.path, root, out)) as temporary:
                time = clip.path.stat().st_mtime_ns
                store_clip(clip, temporary, kind)
                os.utime(temporary, ns=(time, time))
        except UserError as error:
            own = str(UserError(f"{clip.path}: "))
            if not str(error).startswith(own):  # then it is not the clip's fault
                raise
            failed[clip.path] = str(error).removeprefix(own)

    for _ in progress(in_threads(attempt, todo, workers), "store", total=len(clips), initial=len(clips) - len(todo)):
        pass
    return failed


def _is_stored(video: Path, stored: Path) -> bool:
    return stored.is_file() and abs(stored.stat().st_mtime - video.stat().st_mtime) < 2  # as disks round times


def stored_path(path: Path, root: Path, out: Path) -> Path:
    """Where a video of the data set in `root` lies in its store."""
    return out / path.absolute().relative_to(root.absolute()).with_suffix(".mp4")


def note_held_out(root: Path, out: Path) -> None:
    """Name the clips that the data set holds out: the store has fewer, and each fourth of them would be another."""
    try:
        held_out = [stored_path(path, root, out).relative_to(out).as_posix() for path in split_videos(root)[1]]
    except UserError:  # too few to hold any out
        return
    with atomic_path(out / HELD_OUT) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path"], *([path] for path in held_out)])


def check_names(paths: Iterable[Path], root: Path, out: Path) -> None:
    """UserError where two videos would have one place in the store."""
    (place, number), *_ = Counter(stored_path(path, root, out) for path in paths).most_common(1) or [(out, 1)]
    if number > 1:
        raise UserError(f"{place}: {number} videos would be stored there; leave all but one out")


def check_store(out: Path, kind: StoreFormat) -> None:
    """Remember the format in a new folder. UserError if that of an old one is another, or if it is no store."""
    out.mkdir(parents=True, exist_ok=True)
    record = out / RECORD
    with FileLock(out / ".lock"):  # other shards begin, too
        if not record.is_file():
            if any(not path.name.startswith(".") for path in out.iterdir()):
                raise UserError(f"{out}: holds other files; give a new folder for the store")
            write_json(record, vars(kind))
    try:
        same = json.loads(record.read_text()) == vars(kind)
    except ValueError:
        raise UserError(f"{record}: is damaged; delete it and what lies beside it") from None
    if not same:
        raise UserError(f"{out}: holds clips of another format, see {RECORD}; give another folder, or delete it")


def store_clip(clip: Clip, path: Path, kind: StoreFormat) -> None:
    """Write one clip, upright and with its frames' times; nothing else that its file has, such as sound."""
    # In memory first, for it is small: PyAV leaves a file that it writes open where the disk is full at the end. The
    # muxer reads it once more, to put its table of frames in front: so a file on a network disk opens in one go.
    file = io.BytesIO()
    front = {"options": {"movflags": "+faststart"}, "io_open": lambda *_: io.BytesIO(file.getvalue())}
    with av.open(file, "w", format="mp4", **front) as container:
        stream, ticks = None, -1
        for number, picture in enumerate(iter_frames(clip.path, range(clip.info.num_frames), kind.short_side)):
            height, width = (side // 2 * 2 for side in picture.shape[:2])  # H.264 here wants even sides
            if min(height, width) < 2:
                raise UserError(f"{clip.path}: is {picture.shape[1]}x{picture.shape[0]} pixels, too small to be stored")
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(clip.info.fps).limit_denominator(1001))
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.codec_context.time_base, stream.codec_context.thread_count = Fraction(1, TICKS), 1
                stream.options = kind.options()
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
            ticks = max(ticks + 1, round(clip.info.between(0, number) * TICKS))
            frame.pts, frame.time_base = ticks, Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    path.write_bytes(file.getbuffer())
