"""Exact frame reading: frame i of a file is the i-th picture that a player shows, upright, at the time it shows it.

PyAV reads everything. A frame is found by its time stamp: after a jump to the keyframe before it where jumps are exact,
by decoding from the start elsewhere. decord jumps everywhere, and so shows wrong pictures for AVI with
B-frames (dmlc/decord issues 252 and 365) and for MP4 with open groups of pictures or an edit list; it serves as a
check in the tests. Shapes: `T` frames, `H W` pixels.
"""

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from itertools import chain, count, groupby
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import PictureType
from av.video.stream import VideoStream

from lib.data.decoding import PAPER_FPS, Clip, Picture, VideoInfo, iter_frames, opened, shown_size, turned
from lib.data.frame_times import ROUNDED, rising, times_of
from lib.data.jumps import Run, keyframe_before, runs_of
from lib.errors import UserError

__all__ = ["PAPER_FPS", "ROUNDED", "Clip", "VideoInfo", "break_of", "iter_frames", "probe", "read_frames"]
HELD_BACK = 16  # frames at most that a decoder keeps, to show them in order (H.264, HEVC)
JUMPING = ("h264", "hevc", "vp9", "libdav1d", "av1")  # whose keyframes are told right by the container
SKIPPING = ("h264", "hevc")  # whose decoders can leave out single frames that no other needs
READS, TRIM_EVERY = count(1), 500  # glibc does not give back what lies free between pieces in use
WHOLE_FRACTION = 0.95  # with a smaller part of what its header promises, a file was cut off on its way


def probe(path: str | Path) -> VideoInfo:
    """Count the frames that can be read. A cut-off WebM counts as a short one: its header promises nothing."""
    path = Path(path)
    with opened(path) as (container, stream):
        looked_at = _packets(path, container, stream)
        exact = _is_exact(container, looked_at)
        stamps = sorted(p.pts for p in looked_at) if exact else None
    with opened(path) as (container, stream), closing(container.demux(stream)) as packets:
        frames = (frame for packet in packets for frame in packet.decode())
        first = _first(path, frames)
        if stamps is None:  # packets need not be one frame each, so all are decoded
            shown = [(frame.pts, frame.dts, frame.pict_type == PictureType.B) for frame in chain([first], frames)]
            stamps = rising(path, shown, container.format.name == "avi")
        fps, times = times_of(path, stamps, stream.time_base, stream.average_rate)
        plain = turned(path, first) is None and stream.codec_context.name in JUMPING
        jumps = _jumps(looked_at, stamps) if exact and plain else ()
        return VideoInfo(len(stamps), fps, *shown_size(path, first, stream.sample_aspect_ratio), times, jumps)


def read_frames(
    path: str | Path, indices: Sequence[int], short_side: int | None = None, info: VideoInfo | None = None
) -> np.ndarray:
    """Frames by number, in the order of `indices`, which may repeat: uint8 (T, H, W, 3) RGB.

    short_side: pixels that the picture's short side is scaled down to (bilinear, without aliasing), the long side
        rounded; a smaller picture is not enlarged. All frames get the size of the file's first.
    info: what `probe` said of the file, which is then not looked into again.
    """
    path, indices = Path(path), np.asarray(indices, dtype=np.int64)
    if indices.size == 0 or indices.min() < 0:
        raise UserError(f"{path}: cannot read frames {indices.tolist()}; ask for at least one, counted from 0")
    wanted, places = np.unique(indices, return_inverse=True)
    info = _quickly_probed(path) if info is None or info.jumps is None else info
    frames = _sought(path, wanted.tolist(), short_side, info) if info else None
    if frames is None:
        frames = list(iter_frames(path, wanted, short_side))
    if next(READS) % TRIM_EVERY == 0:
        _give_back_memory()
    return np.stack([frames[place] for place in places])


def break_of(clip: Clip) -> str:
    """Why a clip cannot be decoded to its end, in one line; "" where it can."""
    try:
        for _ in iter_frames(clip.path, range(clip.info.num_frames), short_side=16):
            pass
    except UserError as error:
        return str(error).removeprefix(str(UserError(f"{clip.path}: ")))
    return ""


def _give_back_memory() -> None:
    """What is free goes back to the system, in 3 ms; where the C library is not glibc, nothing is done."""
    with suppress(AttributeError, TypeError):  # of macOS, of Windows
        ctypes.CDLL(None).malloc_trim(0)


def _sought(path: Path, wanted: Sequence[int], short_side: int | None, info: VideoInfo) -> list[np.ndarray] | None:
    """Frames `wanted` (rising), each after a jump to the keyframe before it; None where that is not exact."""
    if not info.jumps or wanted[-1] >= info.num_frames:
        return None
    picture, frames = Picture(path, (info.height, info.width), short_side), []
    with opened(path) as (container, stream):
        for (number, stamp), members in groupby(wanted, key=partial(keyframe_before, info.jumps)):
            container.seek(stamp, stream=stream)
            found = _from_keyframe(path, container, stream, stamp, [member - number for member in members])
            if found is None or shown_size(path, found[0], stream.sample_aspect_ratio) != (info.height, info.width):
                return None
            frames += map(picture.of, found)
    return frames


def _from_keyframe(
    path: Path, container: InputContainer, stream: VideoStream, stamp: int, places: Sequence[int]
) -> list[av.VideoFrame] | None:
    """The frames at `places` (rising) after the keyframe of this stamp, at which the container should stand.

    None where it does not, where that was no keyframe, or where the pictures are turned on the way: which a player only
    knows who came that way. Frames on the way that no other needs are not decoded.
    """
    context, packets, found = stream.codec_context, [], {}
    with closing(container.demux(stream)) as following:
        for packet in following:
            if not packet.size or packets and packet.is_keyframe:
                break
            packets.append(packet)
            if len(packets) > places[-1] + HELD_BACK:
                break
    if not packets or packets[0].pts != stamp or len(packets) <= places[-1]:
        return None
    stamps = sorted(packet.pts for packet in packets)
    wanted = {stamps[place] for place in places}
    until = max(number for number, packet in enumerate(packets) if packet.pts in wanted)
    for packet in (*packets[: until + 1], None):
        if context.name in SKIPPING and packet:
            context.skip_frame = "DEFAULT" if packet.pts in {stamp, *wanted} else "NONREF"
        for frame in context.decode(packet):
            if turned(path, frame) is not None:
                return None
            if frame.pts in {stamp, *wanted}:
                found[frame.pts] = frame
    whole = stamp in found and found[stamp].pict_type == PictureType.I and wanted <= set(found)
    return [found[time] for time in sorted(wanted)] if whole else None


def _jumps(packets: Sequence[av.Packet], stamps: Sequence[int]) -> tuple[Run, ...]:
    """The keyframes of a file that `_is_exact`, with their times of being shown, by which one jumps."""
    numbers = {stamp: number for number, stamp in enumerate(stamps)}
    return runs_of((numbers[packet.pts], packet.pts) for packet in packets if packet.is_keyframe)


def _quickly_probed(path: Path) -> VideoInfo | None:
    """As `probe`, where that need not decode the whole file."""
    with opened(path) as (container, stream):
        exact = _is_exact(container, _packets(path, container, stream))
    return probe(path) if exact else None


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
        if packet.pts < keyframe:
            return False
        if packet.is_keyframe:
            keyframe = packet.pts
    return True


def _first(path: Path, frames: Iterator[av.VideoFrame]) -> av.VideoFrame:
    first = next(frames, None)
    if first is None:
        raise UserError(f"{path}: holds no frame; fetch it again or leave it out")
    return first
