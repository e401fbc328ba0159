"""Videos for tests: every frame carries its own number, in black and white blocks."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS, BLOCK, HEIGHT = 10, 16, 64
WIDTH = BITS * BLOCK
UNIT, FULL = 1 << 16, 1 << 30  # of the numbers in a track header


def numbered_frame(number: int) -> np.ndarray:
    """(H, W, 3) uint8: the bits of `number` in the upper half, lowest first; their complement below."""
    bits = (number >> np.arange(BITS)) & 1
    rows = np.repeat(np.stack([bits, 1 - bits]), HEIGHT // 2, axis=0)
    gray = np.repeat(rows, BLOCK, axis=1) * 255
    return np.repeat(gray[..., None], 3, axis=2).astype(np.uint8)


def read_number(frame: np.ndarray) -> int:
    """The number in a frame of any size, or -1 when its two halves disagree."""
    height, width = frame.shape[:2]
    columns = ((np.arange(BITS) + 0.5) * width / BITS).astype(int)
    upper, lower = (frame[int(height * y)][columns].mean(axis=-1) > 127 for y in (0.25, 0.75))
    return int((upper << np.arange(BITS)).sum()) if (upper != lower).all() else -1


def write_frames(path: Path, frames: Sequence[np.ndarray], fps: Fraction | int, codec: str, **options: str) -> Path:
    """Encode T frames (H, W, 3) uint8; the container follows from the suffix, `options` go to the codec."""
    container_options = {"movflags": "faststart"} if options.pop("faststart", None) else {}
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = options
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_numbered(
    path: Path, num_frames: int, fps: Fraction | int = 30, codec: str = "libx264", **options: str
) -> Path:
    """A video whose frame i shows the number i."""
    frames = np.stack([numbered_frame(i) for i in range(num_frames)])
    return write_frames(path, frames, fps, codec, **options)


def with_matrix(plain: Path, path: Path, *numbers: float) -> Path:
    """A copy with a, b, c, d of x' = a x + c y, y' = b x + d y in its track header."""
    a, b, c, d = (round(number * UNIT) for number in numbers)
    content = bytearray(plain.read_bytes())
    at = content.find(b"tkhd") + 44
    content[at : at + 36] = np.array([a, b, 0, c, d, 0, 0, 0, FULL], ">i4").tobytes()
    path.write_bytes(content)
    return path
