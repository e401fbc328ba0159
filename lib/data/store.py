"""A store of videos made for drawing random frames: the same clips, small, in short groups of pictures.

A frame of a usual video costs the decoding of all since the last keyframe, often hundreds. In the store each `gop`-th
frame is a keyframe, and the codec's slow tools are off. It is plain MP4, in the folders and under the names of the data
set it was made from, and is read as that is: `data_root` names its folder. `python -m lib.benchmark data` says what it
brings, and against which other formats it was chosen.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from lib.data.decoding import Clip, iter_frames
from lib.errors import UserError
from lib.runtime import atomic_path, in_threads, progress, write_json

RECORD = "store.json"
TICKS = 90_000  # a second has so many; times are kept to one of them


@dataclass(frozen=True)
class StoreFormat:
    """How clips are stored. gop: 1 reads fastest, larger ones take less disk. crf: x264's quality, lower is better."""

    short_side: int = 256
    gop: int = 1
    crf: int = 23

    def __post_init__(self):
        if self.gop < 1 or self.short_side < 16 or not 0 <= self.crf <= 51:
            raise UserError(f"{self}: gop must be 1 or more, short_side 16 or more, crf from 0 to 51")

    def options(self) -> dict[str, str]:
        """x264's: no frame needs a later one, and decoding is quick."""
        return {"preset": "veryfast", "tune": "fastdecode", "g": str(self.gop), "bf": "0", "crf": str(self.crf)}


def build_store(clips: Sequence[Clip], root: Path, out: Path, kind: StoreFormat, workers: int) -> dict[Path, str]:
    """Store the clips of the data set in `root` under `out`, those that are there left out; which failed, and why.

    What a clip's file holds by then is whole, whenever this is stopped. UserError for a folder with clips of another
    format, and where two clips would have one name.
    """
    _check(out, kind)
    places = {clip.path: stored_path(clip.path, root, out) for clip in clips}
    (place, number), *_ = Counter(places.values()).most_common(1) or [(out, 1)]
    if number > 1:
        raise UserError(f"{place}: {number} clips would be stored there; leave all but one out")
    todo, failed = [clip for clip in clips if not places[clip.path].is_file()], {}

    def attempt(clip: Clip) -> None:
        try:
            with atomic_path(places[clip.path]) as temporary:
                store_clip(clip, temporary, kind)
        except UserError as error:
            if not str(error).startswith(f"{clip.path}: "):  # then it is not the clip's fault
                raise
            failed[clip.path] = str(error).removeprefix(f"{clip.path}: ")

    for _ in progress(in_threads(attempt, todo, workers), "store", total=len(clips), initial=len(clips) - len(todo)):
        pass
    return failed


def stored_path(path: Path, root: Path, out: Path) -> Path:
    """Where a video of the data set in `root` lies in its store."""
    return out / path.absolute().relative_to(root.absolute()).with_suffix(".mp4")


def store_clip(clip: Clip, path: Path, kind: StoreFormat) -> None:
    """Write one clip, upright and with its frames' times; nothing else that its file has, such as sound."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = None
        for number, picture in enumerate(iter_frames(clip.path, range(clip.info.num_frames), kind.short_side)):
            height, width = (side // 2 * 2 for side in picture.shape[:2])  # H.264 here wants even sides
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(clip.info.fps).limit_denominator(1001))
                stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                stream.codec_context.time_base, stream.codec_context.thread_count = Fraction(1, TICKS), 1
                stream.options = kind.options()
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
            frame.pts, frame.time_base = round(clip.info.between(0, number) * TICKS), Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _check(out: Path, kind: StoreFormat) -> None:
    """Remember the format in a new folder; UserError if that of an old one is another."""
    record = out / RECORD
    if not record.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise UserError(f"{out}: holds other files; give a new folder for the store")
        write_json(record, vars(kind))
    if json.loads(record.read_text()) != vars(kind):
        raise UserError(f"{out}: holds clips of another format, see {RECORD}; give another folder, or delete it")
