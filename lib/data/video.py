"""Exact frame reading: frame i of a file is the i-th picture that a decoder shows, whatever holds it.

decord jumps to the keyframe before a frame, which is quick, but shows wrong pictures for AVI with B-frames
(dmlc/decord issues 252 and 365) and for MP4 with open groups of pictures or an edit list. PyAV decodes from the start,
which is exact by counting. So decord reads plain MP4; PyAV all else, and everything where decord is not installed (it
has no wheel for macOS arm64). Both give the same pixels. Shapes: `T` frames, `H W` pixels.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from lib.errors import UserError

try:
    import decord

    decord.logging.set_level(decord.logging.QUIET)  # else native messages land in notebooks
except ImportError:
    decord = None

WHOLE_FRACTION = 0.95  # with a smaller part of what its header promises, a file was cut off on its way
PAPER_FPS = 30  # the frame rate in which SiamMAE tells its gaps


@dataclass(frozen=True)
class VideoInfo:
    """What a file holds; height and width are the upright picture's."""

    num_frames: int  # that decode
    fps: float
    height: int
    width: int

    @property
    def span_seconds(self) -> float:
        """Time from the first frame to the last."""
        return (self.num_frames - 1) / self.fps


@dataclass(frozen=True)
class Clip:
    """A video file that was found readable."""

    path: Path
    info: VideoInfo


def probe(path: str | Path) -> VideoInfo:
    """Count the frames that can be read. A cut-off WebM counts as a short one: its header promises nothing."""
    return _inspect(Path(path))[0]


def read_frames(path: str | Path, indices: Sequence[int], short_side: int | None = None) -> np.ndarray:
    """Frames by number, in the order of `indices`, which may repeat: uint8 (T, H, W, 3) RGB.

    short_side: pixels that the picture's short side is scaled down to (bilinear, without aliasing), the long side
        rounded; a smaller picture is not enlarged.
    """
    path, indices = Path(path), np.asarray(indices, dtype=np.int64)
    if indices.size == 0 or indices.min() < 0:
        raise UserError(f"{path}: cannot read frames {indices.tolist()}; ask for at least one, counted from 0")
    wanted, places = np.unique(indices, return_inverse=True)
    info, decord_is_exact = _inspect(path, count=False)
    size = _scaled(info.height, info.width, short_side)
    frames = _read_with_decord(path, wanted, size) if decord_is_exact else None
    if frames is None:
        frames = _read_with_pyav(path, wanted, short_side)
    return frames[places]


def _inspect(path: Path, count: bool = True) -> tuple[VideoInfo, bool]:
    """Info, and whether decord reads this file exactly. Without `count` only an MP4's num_frames is sure."""
    with _opened(path) as (container, stream):
        packets = [p for p in container.demux(stream) if p.size]
        if container.format.name == "avi":
            _check_riff(path)
        elif len(packets) < WHOLE_FRACTION * stream.frames:
            raise UserError(f"{path}: cut off, {len(packets)} of {stream.frames} frames are there; fetch it again")
        decord_is_exact = decord is not None and _is_mp4(container) and _is_plain(packets)
    with _opened(path) as (container, stream):
        first = next(container.decode(stream), None)
        if first is None:
            raise UserError(f"{path}: holds no frame; fetch it again or leave it out")
        if _is_mp4(container):  # counted without decoding, less the packets that an edit list hides
            num_frames = sum(not p.is_discard for p in packets)
        else:  # packets need not be one frame each, so all are decoded
            num_frames = 1 + sum(1 for _ in container.decode(stream)) if count else len(packets)
        if not stream.average_rate:
            raise UserError(f"{path}: tells no frame rate; convert it to MP4 or leave it out")
        height, width = (first.width, first.height) if first.rotation % 180 else (first.height, first.width)
        info = VideoInfo(num_frames, float(stream.average_rate), height, width)
    return info, decord_is_exact and first.rotation == 0


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


def _is_mp4(container: InputContainer) -> bool:
    return "mp4" in container.format.name.split(",")  # by content: suffixes are not to be trusted


def _is_plain(packets: list[av.Packet]) -> bool:
    """Whether decord's seeking is exact for these packets (in decoding order).

    Not with hidden packets (edit list), nor with times that are missing or repeat, nor with an open group of
    pictures: frames decoded after a keyframe but shown before it, which decord numbers wrongly after a jump.
    """
    times = [p.pts for p in packets]
    if any(p.is_discard for p in packets) or None in times or len(set(times)) < len(times):
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
    """The file's container and main video stream; whatever goes wrong inside becomes a UserError."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; check the path or the list that names it")
    try:
        with av.open(str(path)) as container:
            stream = container.streams.best("video")
            if stream is None:
                raise UserError(f"{path}: holds no video; leave it out")
            stream.codec_context.thread_count = 1  # loaders run one process a core
            yield container, stream
    except av.FFmpegError as error:
        message = f"cannot be decoded ({error.strerror}): damaged or no video; fetch it again or leave it out"
        raise UserError(f"{path}: {message}") from None


def _scaled(height: int, width: int, short_side: int | None) -> tuple[int, int]:
    scale = 1.0 if short_side is None else min(1.0, short_side / min(height, width))
    return round(height * scale), round(width * scale)


def _read_with_decord(path: Path, wanted: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """Frames `wanted` (sorted, distinct) at `size` (height, width); None where decord fails: PyAV may, or says why."""
    try:
        # A new reader each time: one that is kept goes on decoding and holds it all (decord issue 208).
        reader = decord.VideoReader(str(path), height=size[0], width=size[1], num_threads=1)
        return reader.get_batch(wanted).asnumpy() if wanted[-1] < len(reader) else None
    except (decord.DECORDError, RuntimeError):  # damage, or a width whose padded lines it trips over
        return None


def _read_with_pyav(path: Path, wanted: np.ndarray, short_side: int | None) -> np.ndarray:
    """Frames `wanted` (sorted, distinct), counted from the start; the others are decoded, not converted."""
    frames, remaining, count = [], set(wanted.tolist()), 0
    with _opened(path) as (container, stream):
        for frame in container.decode(stream):
            if count in remaining:
                frames.append(_to_array(frame, short_side))
            count += 1
            if count > wanted[-1]:
                return np.stack(frames)
    raise UserError(f"{path}: has no frame {wanted[-1]}: it holds {count} frames, numbered from 0")


def _to_array(frame: av.VideoFrame, short_side: int | None) -> np.ndarray:
    """One decoded frame -> (H, W, 3) uint8 RGB, scaled and turned upright."""
    height, width = _scaled(frame.height, frame.width, short_side)
    if (height, width) != (frame.height, frame.width):
        frame = frame.reformat(width, height, "rgb24", interpolation=Interpolation.BILINEAR)
    # Telephones store the picture lying down, with a turn in degrees for the player to make.
    return np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
