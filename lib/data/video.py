"""Exact frame reading: frame i of a file is the i-th picture that a player shows, upright, at the time it shows it.

PyAV reads everything. A frame is found by its time stamp: after a jump to the keyframe before it where jumps are exact,
by decoding from the start elsewhere. decord, as quick, jumps everywhere, and so shows wrong pictures for AVI with
B-frames (dmlc/decord issues 252 and 365) and for MP4 with open groups of pictures or an edit list; it serves as a
check in the tests. FFmpeg hands on, with each frame, how container or stream want it turned: telephones store pictures
lying down, front cameras mirrored. Shapes: `T` frames, `H W` pixels.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import Type
from av.stream import Disposition
from av.video.frame import PictureType
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from lib.data.frame_times import ROUNDED, rising, times_of
from lib.errors import UserError

WHOLE_FRACTION = 0.95  # with a smaller part of what its header promises, a file was cut off on its way
PAPER_FPS = 30  # the frame rate in which SiamMAE tells its gaps
TILT = np.sin(np.radians(1))  # less than a degree off a right angle is one, as FFmpeg's own player has it
SQUARE = 0.01  # pixels whose sides differ by less count as square


@dataclass(frozen=True)
class VideoInfo:
    """What a file holds; height and width are the upright picture's.

    fps: frames a second, on average. times: when each frame is shown, in seconds since the first, rising; none where
    frame i is shown at i / fps.
    """

    num_frames: int  # that decode
    fps: float
    height: int
    width: int
    times: tuple[float, ...] = ()

    def __repr__(self) -> str:  # hashes of it name runs: it is what it was before there were times
        told = {name: value for name, value in vars(self).items() if value != ()}
        return f"VideoInfo({', '.join(f'{name}={value!r}' for name, value in told.items())})"

    @property
    def span_seconds(self) -> float:
        """Time from the first frame to the last."""
        return self.between(0, self.num_frames - 1)

    def between(self, first: int, second: int) -> float:
        """Seconds from frame `first` to frame `second`."""
        return self.times[second] - self.times[first] if self.times else (second - first) / self.fps

    def reaches(self, seconds: float) -> bool:
        """Whether some frame has another about so long after it."""
        if not self.times:
            return self.span_seconds >= seconds
        later = np.array(self.times) + seconds
        others = self.nearest(later) > np.arange(self.num_frames)
        return bool((others & (later < self.span_seconds + ROUNDED)).any()) or seconds == 0

    def nearest(self, seconds: np.ndarray) -> np.ndarray:
        """The frames nearest to some times after the first, int64; of two as near the later."""
        times = np.array(self.times) if self.times else np.arange(self.num_frames) / self.fps
        return np.searchsorted((times[1:] + times[:-1]) / 2, seconds, side="right")


@dataclass(frozen=True)
class Clip:
    """A video file that was found readable."""

    path: Path
    info: VideoInfo


def probe(path: str | Path) -> VideoInfo:
    """Count the frames that can be read. A cut-off WebM counts as a short one: its header promises nothing."""
    path = Path(path)
    with _opened(path) as (container, stream):
        packets = _packets(path, container, stream)
        stamps = sorted(p.pts for p in packets) if _is_exact(container, packets) else None
    with _opened(path) as (container, stream):
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


def iter_frames(path: str | Path, wanted: Sequence[int], short_side: int | None = None) -> Iterator[np.ndarray]:
    """Frames by number, `wanted` rising, (H, W, 3) as read_frames': one after the other, counted from the start."""
    path, missing, count = Path(path), iter(wanted), 0
    with _opened(path) as (container, stream):
        _packets(path, container, stream)
    with _opened(path) as (container, stream):
        picture, next_wanted = None, next(missing, None)
        for frame in container.decode(stream):  # the others are decoded, not converted
            picture = picture or _Picture(path, frame, stream, short_side)
            picture.see(frame)
            if count == next_wanted:
                yield picture.of(frame)
                next_wanted = next(missing, None)
                if next_wanted is None:
                    return
            count += 1
    raise UserError(f"{path}: has no frame {wanted[-1]}: it holds {count} frames, numbered from 0")


class Turn(NamedTuple):
    """One of eight ways to lay a picture: rows and columns may change places, then either may be reversed."""

    swaps: bool = False
    mirrors: bool = False
    upends: bool = False

    def of(self, picture: np.ndarray) -> np.ndarray:
        """(H, W, 3) -> the same turned, without a copy."""
        picture = picture.swapaxes(0, 1) if self.swaps else picture
        return picture[:: -1 if self.upends else 1, :: -1 if self.mirrors else 1]


def turned(path: Path, frame: av.VideoFrame) -> Turn | None:
    """How the frame's display matrix lays it, if it has one. UserError for a tilt: players differ in what they show."""
    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return None
    a, b, _, c, d, *_ = np.frombuffer(data, np.int32)[:9].astype(float)  # x' = a x + c y, y' = b x + d y
    axes = np.array([[a, b], [c, d]])
    lengths = np.hypot(*axes.T)
    if not lengths.all():  # all zero: nothing is told
        return Turn()
    (a, b), (c, d) = axes / lengths[:, None]
    swaps = abs(b) > abs(a)
    off = max(abs(a), abs(d)) if swaps else max(abs(b), abs(c))
    if off > TILT:
        degrees = f"{np.degrees(np.arcsin(min(off, 1))):.0f} degrees"
        raise UserError(f"{path}: is to be shown tilted by {degrees}; convert it, or leave it out")
    return Turn(True, c < 0, b < 0) if swaps else Turn(False, a < 0, d < 0)


def shown_size(path: Path, frame: av.VideoFrame, aspect: Fraction | None) -> tuple[int, int]:
    """Height and width of the picture as a player shows it, its pixels stretched to squares in width."""
    wide = float(aspect or 1)
    width = frame.width if abs(wide - 1) < SQUARE or not 0.1 < wide < 10 else round(frame.width * wide)
    return (width, frame.height) if (turned(path, frame) or Turn()).swaps else (frame.height, width)


class _Picture:
    """How a file's frames become arrays, all of the first one's size."""

    def __init__(self, path: Path, first: av.VideoFrame, stream: VideoStream, short_side: int | None):
        self.path, self.scaler = path, VideoReformatter()
        height, width = shown_size(path, first, stream.sample_aspect_ratio)
        scale = 1.0 if short_side is None else min(1.0, short_side / min(height, width))
        self.size, self.turn = (round(height * scale), round(width * scale)), Turn()
        self.see(first)

    def see(self, frame: av.VideoFrame) -> None:
        """Notice how a frame is to be turned; those that tell nothing are turned as the one before."""
        self.turn = turned(self.path, frame) or self.turn

    def of(self, frame: av.VideoFrame) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        self.see(frame)
        height, width = self.size[::-1] if self.turn.swaps else self.size
        # one thread, for others would be missing, and waited for, where a loader's processes are forked
        frame = self.scaler.reformat(frame, width, height, "rgb24", interpolation=Interpolation.BILINEAR, threads=1)
        return self.turn.of(frame.to_ndarray())


def _sought(path: Path, wanted: np.ndarray, short_side: int | None) -> list[np.ndarray] | None:
    """Frames `wanted` (rising), each after a jump to the keyframe before it; None where that is not exact."""
    with _opened(path) as (container, stream):
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
                picture = _Picture(path, at, stream, short_side)
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


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The file's container and the video that a player shows; whatever goes wrong inside becomes a UserError."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path or the list that names it")
    try:
        with av.open(str(path.absolute())) as container:  # "a:b.mp4" alone would be a protocol
            stream = _main_stream(path, container)
            stream.codec_context.thread_count = 1  # loaders run one process a core
            yield container, stream
    except av.FFmpegError as error:
        message = f"cannot be decoded ({error.strerror}): damaged or no video; fetch it again or leave it out"
        raise UserError(f"{path}: {message}") from None


def _main_stream(path: Path, container: InputContainer) -> VideoStream:
    """The container's default video; a cover picture is none."""
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not videos:
        raise UserError(f"{path}: holds no video; leave it out")
    best = container.streams.best("video")
    stream = best if best in videos else videos[0]
    if stream.codec_context is None:
        raise UserError(f"{path}: is in a codec that PyAV does not know; convert it to H.264 or leave it out")
    return stream


def _first(path: Path, frames: Iterator[av.VideoFrame]) -> av.VideoFrame:
    first = next(frames, None)
    if first is None:
        raise UserError(f"{path}: holds no frame; fetch it again or leave it out")
    return first
