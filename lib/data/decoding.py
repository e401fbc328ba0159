"""How a video file becomes pictures: its main stream, decoded from the start, each frame upright and of one size.

FFmpeg tells with each frame how container or stream want it turned. Shapes: `T` frames, `H W` pixels.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.sidedata.sidedata import SideDataContainer, Type
from av.stream import Disposition
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from lib.data.frame_times import ROUNDED
from lib.data.jumps import Run
from lib.errors import UserError

PAPER_FPS = 30  # the frame rate in which SiamMAE tells its gaps
TILT = np.sin(np.radians(1))  # less than a degree off a right angle is one, as FFmpeg's own player has it
SQUARE = 0.01  # pixels whose sides differ by less count as square


@dataclass(frozen=True)
class VideoInfo:
    """What a file holds; height and width are the upright picture's.

    fps: frames a second, on average. times: when each frame is shown, in seconds since the first, rising; none where
    frame i is shown at i / fps. jumps: keyframes at which decoding may begin; none: at the start alone; None: unknown.
    """

    num_frames: int  # that decode
    fps: float
    height: int
    width: int
    times: tuple[float, ...] = ()
    jumps: tuple[Run, ...] | None = field(default=None, compare=False)  # how to read it, not what it holds

    def __repr__(self) -> str:  # hashes of it name runs: it is what it was before there were times and jumps
        told = {name: value for name, value in vars(self).items() if name != "jumps" and value != ()}
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


def iter_frames(path: str | Path, wanted: Sequence[int], short_side: int | None = None) -> Iterator[np.ndarray]:
    """Frames by number, `wanted` rising, (H, W, 3) as read_frames': one after the other, counted from the start."""
    path, missing, count = Path(path), iter(wanted), 0
    with opened(path) as (container, stream), closing(container.demux(stream)) as packets:  # PyAV leaks open demuxers
        picture, next_wanted = None, next(missing, None)
        for frame in (frame for packet in packets for frame in packet.decode()):  # unwanted ones are not converted
            picture = picture or Picture(path, shown_size(path, frame, stream.sample_aspect_ratio), short_side)
            if count == next_wanted:
                yield picture.of(frame)
                next_wanted = next(missing, None)
                if next_wanted is None:
                    return
            else:
                picture.see(frame)
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
    # frame.side_data would hold the frame, and the frame it: pictures would pile up till Python looks for such pairs
    data = SideDataContainer(frame).get(Type.DISPLAYMATRIX)
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


class Picture:
    """How a file's frames become arrays, all of the first one's size, (height, width) as it is shown."""

    def __init__(self, path: Path, size: tuple[int, int], short_side: int | None):
        self.path, self.scaler, self.turn = path, VideoReformatter(), Turn()
        self.size = tuple(round(side * min(1.0, (short_side or np.inf) / min(size))) for side in size)

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


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
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
