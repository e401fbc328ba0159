"""Any video file, or folder of frames, as a stream: one frame in memory at a time, however long it is."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from av.video.stream import VideoStream

from lib.data.decoding import Picture, opened, shown_size
from lib.data.folders import frames_in, stem_of
from lib.data.images import read_frame
from lib.errors import UserError

MOMENT = 1e-3  # seconds
FOLDER_FPS = 25  # at which a folder of frames is shown, for it does not tell


class Shot(NamedTuple):
    """One frame: what its results are called, when it is shown, and the picture, (H, W, 3) uint8 RGB."""

    name: str
    seconds: float
    picture: np.ndarray


@dataclass(frozen=True)
class Source:
    """A video: its frames, how many a progress bar expects (None: nobody knows), and what is odd about it."""

    frames: Callable[[], Iterator[Shot]]
    expected: int | None
    note: str = ""


def open_source(path: Path) -> Source:
    """A video file, or a folder of numbered pictures, which are taken in their numbers' order, whatever lacks between.

    Frames of a file are called 00000, 00001, ... as in DAVIS, those of a folder by their files. A frame of another size
    is scaled to the first's in a video file, and refused in a folder.
    """
    if path.is_dir():
        files = frames_in(path)
        return Source(lambda: _pictures(files), len(files), _gaps(files))
    with opened(path) as (_, stream):
        expected = stream.frames or _promised(stream)
    return Source(lambda: _decoded(path), expected)


def _promised(stream: VideoStream) -> int | None:
    """How many frames come by the stream's length and rate."""
    if not stream.duration or not stream.average_rate:
        return None
    return round(float(stream.duration * stream.time_base * stream.average_rate))


def _decoded(path: Path) -> Iterator[Shot]:
    with opened(path) as (container, stream):
        picture, shown, start = None, 0.0, None
        step = 1 / float(stream.average_rate or FOLDER_FPS)
        for number, frame in enumerate(container.decode(stream)):
            picture = picture or Picture(path, shown_size(path, frame, stream.sample_aspect_ratio), None)
            start = frame.time if start is None else start
            told = None if frame.time is None or start is None else frame.time - start
            if told is None:
                shown += step * bool(number)
            else:  # a stamp that stands twice comes a moment later, and the next one is as it says
                shown = max(told, shown + MOMENT * bool(number))
            yield Shot(f"{number:05d}", shown, picture.of(frame))
        if picture is None:
            raise UserError(f"{path}: holds no frame; fetch it again")


def _pictures(files: list[Path]) -> Iterator[Shot]:
    size = None
    for number, file in enumerate(files):
        picture = read_frame(file)
        size = size or picture.shape
        if picture.shape != size:
            (height, width, _), first = picture.shape, f"{files[0].name} has {size[1]}x{size[0]}"
            raise UserError(f"{file}: {width}x{height} pixels, but {first}; the frames of a video are of one size")
        yield Shot(stem_of(file), number / FOLDER_FPS, picture)


def _gaps(files: list[Path]) -> str:
    """Which numbers lack between the frames' own, in words; "" where none does, or several numbers count."""
    columns = zip(*(re.findall("[0-9]+", stem_of(file)) for file in files), strict=True)  # alike in all: frames_in
    counting = [column for column in columns if len(set(column)) > 1]
    if len(counting) != 1:
        return ""
    numbers = list(map(int, counting[0]))
    gaps = [(a, b) for a, b in zip(numbers, numbers[1:], strict=False) if b > a + 1]
    if not gaps:
        return ""
    (before, after), more = gaps[0], f", and {len(gaps) - 1} more gaps" * (len(gaps) > 1)
    lacking = sum(b - a - 1 for a, b in gaps)
    return f"{lacking} frames lack (between {before} and {after}{more}): what is there counts as in a row"
