"""Exact frame reading: frame i of a file is the i-th picture that a player shows, upright, at the time it shows it.

PyAV reads everything. A frame is found by its time stamp: after a jump to the keyframe before it where jumps are exact,
by decoding from the start elsewhere. decord jumps everywhere, and so shows wrong pictures for AVI with
B-frames (dmlc/decord issues 252 and 365) and for MP4 with open groups of pictures or an edit list; it serves as a
check in the tests. Shapes: `T` frames, `H W` pixels.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import PictureType
from av.video.stream import VideoStream

from lib.data.decoding import (
    PAPER_FPS,
    Clip,
    Picture,
    VideoInfo,
    iter_frames,
    opened,
    shown_size,
)  # fmt: skip
from lib.data.frame_times import ROUNDED, rising, times_of
from lib.errors import UserError

__all__ = ["PAPER_FPS", "ROUNDED", "Clip", "VideoInfo", "iter_frames", "probe", "read_frames"]
WHOLE_FRACTION = 0.95  # with a smaller part of what its header promises, a file was cut off on its way


def probe(path: str | Path) -> VideoInfo:
    """Count the frames that can be read. A cut-off WebM counts as a short one: its header promises nothing."""
    path = Path(path)
    with opened(path) as (container, stream):
        packets = _packets(path, container, stream)
        stamps = sorted(p.pts for p in packets) if _is_exact(container, packets) else None
    with opened(path) as (container, stream):
        frames = container.decode(stream)
        first = _first(path, frames)
        if stamps is None:  # packets need not be one frame each, so all are decoded
            shown = [(frame.pts, frame.dts, frame.pict_type == PictureType.B) for frame in chain([first], frames)]
            stamps = rising(path, shown, container.format.name == "avi")
        fps, times = times_of(path, stamps, stream.time_base, stream.average_rate)
        return VideoInfo(len(stamps), fps, *shown_size(path, first, stream.sample_aspect_ratio), times)


def read_frames(path: str | Path, indices: Sequence[int], short_side: int | None = None) -> np.ndarray:
    """Frames by number, in the order of `indices`, which may repeat: uint8 (T, H, W, 3) RGB.

    short_side: pixels that the picture's short side is scaled down to (bilinear, without aliasing), the long side
        rounded; a smaller picture is not enlarged. All frames get the size of the file's first.
    """
    indices = np.asarray(indices, dtype=np.int64)
    if indices.size == 0 or indices.min() < 0:
        raise UserError(f"{path}: cannot read frames {indices.tolist()}; ask for at least one, counted from 0")
    wanted, places = np.unique(indices, return_inverse=True)
    frames = _sought(Path(path), wanted, short_side)
    if frames is None:
        frames = list(iter_frames(path, wanted, short_side))
    return np.stack([frames[place] for place in places])


def _sought(path: Path, wanted: np.ndarray, short_side: int | None) -> list[np.ndarray] | None:
    """Frames `wanted` (rising), each after a jump to the keyframe before it; None where that is not exact."""
    with opened(path) as (container, stream):
        packets = _packets(path, container, stream)
        stamps = sorted(p.pts for p in packets) if _is_exact(container, packets) else []
        if wanted[-1] >= len(stamps):
            return None
        keys = np.array(sorted(p.pts for p in packets if p.is_keyframe))
        decoder, at, picture, frames = iter(()), None, None, []
        for stamp in [stamps[0], *(stamps[number] for number in wanted)]:  # the first one tells the size
            key = keys[np.searchsorted(keys, stamp, side="right") - 1]
            if at is None or key > at.pts:
                container.seek(int(key), stream=stream)
                decoder, at = container.decode(stream), None
            at = at if at and at.pts == stamp else next((f for f in decoder if f.pts is None or f.pts >= stamp), None)
            if at is None or at.pts != stamp:
                return None
            if picture is None:
                picture = Picture(path, at, stream, short_side)
            else:
                frames.append(picture.of(at))
        return frames


def _packets(path: Path, container: InputContainer, stream: VideoStream) -> list[av.Packet]:
    """The stream's packets, in decoding order; UserError where the file ends before its header says."""
    packets = [p for p in container.demux(stream) if p.size]
    if container.format.name == "avi":
        _check_riff(path)
    elif len(packets) < WHOLE_FRACTION * stream.frames:
        raise UserError(f"{path}: cut off, {len(packets)} of {stream.frames} frames are there; fetch it again")
    return packets


def _check_riff(path: Path) -> None:
    """An AVI's frame count may promise frames that never were, as JHMDB's do; its chunks' sizes tell a cut-off one."""
    there, promised = path.stat().st_size, 0
    with open(path, "rb") as file:
        while file.read(4) == b"RIFF":  # large files have several in a row
            size = int.from_bytes(file.read(4), "little")
            if size in (0, 0xFFFFFFFF):  # a writer that could not go back to fill it in
                return
            promised += 8 + size + size % 2
            file.seek(promised)
    if there < WHOLE_FRACTION * promised:
        raise UserError(f"{path}: cut off, {there} of {promised} bytes are there; fetch it again")


def _is_exact(container: InputContainer, packets: list[av.Packet]) -> bool:
    """Whether packets (in decoding order) are one frame each, and a jump to a keyframe shows all that follow it.

    Only in MP4 (by content: suffixes are not to be trusted). Not with hidden packets (edit list), nor with times that
    are missing or repeat, nor with an open group of pictures: frames decoded after a keyframe but shown before it.
    """
    times = [p.pts for p in packets]
    plain = "mp4" in container.format.name.split(",") and packets and packets[0].is_keyframe
    if not plain or any(p.is_discard for p in packets) or None in times or len(set(times)) < len(times):
        return False
    keyframe = times[0]
    for packet in packets:
        if packet.is_keyframe:
            keyframe = packet.pts
        elif packet.pts < keyframe:
            return False
    return True


def _first(path: Path, frames: Iterator[av.VideoFrame]) -> av.VideoFrame:
    first = next(frames, None)
    if first is None:
        raise UserError(f"{path}: holds no frame; fetch it again or leave it out")
    return first
