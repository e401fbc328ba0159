"""Drawn video files: whatever the codec, container, times, turn and size, every frame is the right one, or all refused.

Each frame carries its number, so a wrong one cannot pass; when it is shown, and how it is turned, is known.
"""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext

from lib.data.clips import draw_pair
from lib.data.decoding import Turn
from lib.data.video import PAPER_FPS, probe, read_frames
from lib.errors import UserError
from tests.make_videos import BITS, FULL, UNIT, read_number

GROUPS, FILES = 24, 16  # 384 files in all
TURNS = {  # what is written into a track header (a, b, c, d), or as words for H.264; and what it is
    (0, 1, -1, 0): Turn(True, True, False), (-1, 0, 0, -1): Turn(False, True, True),
    (0, -1, 1, 0): Turn(True, False, True),
    (-1, 0, 0, 1): Turn(False, True, False), (1, 0, 0, -1): Turn(False, False, True), (0, 1, 1, 0): Turn(True),
    (0, -1, -1, 0): Turn(True, True, True), (1, 0, 0, 1): Turn(),
}  # fmt: skip
CODECS = {  # pixel formats, containers, options to draw from
    "libx264": (("yuv420p", "yuv444p"), ("mp4", "mov", "mkv", "ts", "avi", "flv"), (
        {"bf": "0"}, {"bf": "3", "g": "9"}, {"x264-params": "open-gop=1:bframes=3:keyint=9:min-keyint=9"},
        {"x264-params": "intra-refresh=1:keyint=12"}, {"bf": "2", "g": "1"},
    )),
    "mpeg4": (("yuv420p",), ("mp4", "avi", "mkv", "mov"), ({"bf": "2", "g": "12"}, {"bf": "0"}, {"bf": "1", "g": "4"})),
    "mpeg2video": (("yuv420p",), ("mpg", "ts", "mkv"), ({"bf": "2", "g": "12"}, {"bf": "0"})),
    "mjpeg": (("yuvj420p", "yuvj444p"), ("avi", "mov", "mkv", "mp4"), ({},)),
    "libvpx": (("yuv420p",), ("webm", "mkv"), ({"deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "1"},)),
    "libvpx-vp9": (("yuv420p",), ("webm", "mp4", "mkv"), ({"deadline": "realtime", "cpu-used": "8", "g": "10"},)),
    "ffv1": (("yuv444p",), ("mkv", "avi"), ({},)),
    "png": (("rgb24",), ("mov", "avi"), ({},)),
}  # fmt: skip
UNSTEADY = ("mp4", "mov", "mkv", "webm", "ts", "flv")  # containers that give each frame a time
TICKS = {"flv": 0.0011, "mkv": 0.0011, "webm": 0.0011}  # seconds, to which a container rounds times
RATES = (Fraction(10), Fraction(25, 2), Fraction(15), Fraction(24), Fraction(30000, 1001), Fraction(30), Fraction(60))


def numbered(number: int, block: int, height: int) -> np.ndarray:
    """As tests.make_videos' numbered_frame, of any size."""
    bits = (number >> np.arange(BITS)) & 1
    rows = np.repeat(np.stack([bits, 1 - bits]), [height // 2, height - height // 2], axis=0)
    return np.repeat(np.repeat(rows, block, axis=1)[..., None] * 255, 3, axis=2).astype(np.uint8)


class Drawn:
    """One file: how it is made, and what a player would show."""

    def __init__(self, rng: np.random.Generator, folder: Path):
        self.codec = list(CODECS)[rng.integers(len(CODECS))]
        formats, containers, options = CODECS[self.codec]
        self.format, container, self.options = (
            kinds[rng.integers(len(kinds))] for kinds in (formats, containers, options)
        )
        self.path = folder / f"v.{container}"
        self.count, self.turn, self.change = int(rng.integers(1, 45)), Turn(), None
        step = 2 if "420" in self.format else 1
        self.block, self.height = step * int(rng.integers(6, 12)), step * int(rng.integers(16, 40))
        self.rate = RATES[rng.integers(len(RATES))]
        if self.codec in ("mpeg2video", "mpeg4") and self.rate in (Fraction(10), Fraction(25, 2), Fraction(15)):
            self.rate = Fraction(25)
        self.times = [Fraction(number) / self.rate for number in range(self.count)]
        self.ms = container in UNSTEADY and self.codec not in ("mpeg2video", "png") and rng.random() < 0.5
        if self.ms:
            steps = rng.choice([17, 33, 34, 50, 100, 400], self.count - 1, p=[0.2, 0.3, 0.3, 0.1, 0.07, 0.03])
            first = int(rng.choice([0, 0, 40, 1000]))
            self.times = [Fraction(int(time), 1000) for time in first + np.cumsum([0, *steps])]
        # missing pictures: the one before is shown on. With B-frames AVI would not tell which are missing.
        elif container == "avi" and self.options.get("bf", "0") == "0" and rng.random() < 0.4:
            kept = np.sort(rng.permutation(2 * self.count)[: self.count])
            self.times = [Fraction(int(number)) / self.rate for number in kept - kept[0]]
        kind = list(TURNS)[rng.integers(len(TURNS))]
        self.matrix = kind if container in ("mp4", "mov") and rng.random() < 0.6 else None
        self.sei = None
        if self.codec == "libx264" and container == "ts" and not self.ms and rng.random() < 0.6:
            self.sei = int(rng.choice([90, 180, 270]))  # degrees against the clock
        if self.codec == "mjpeg" and self.matrix is None and self.count > 4 and rng.random() < 0.4:
            self.change = self.count // 2  # from here on pictures are of twice the size

    def write(self) -> Path:
        base = Fraction(1, 1000) if self.ms else 1 / self.rate
        with av.open(str(self.path), "w") as container:
            stream = self._stream(container, base, 1)
            bits = (
                BitStreamFilterContext(f"h264_metadata=display_orientation=insert:rotate={self.sei}", stream)
                if self.sei
                else None
            )
            other = av.CodecContext.create(self.codec, "w") if self.change else None
            if other:
                other.width, other.height, other.pix_fmt = 2 * stream.width, 2 * stream.height, self.format
                other.time_base, other.options = base, self.options
            for number, time in enumerate(self.times):
                late = other is not None and number >= self.change
                picture = numbered(number, self.block * (1 + late), self.height * (1 + late))
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = round(time / base), base
                for packet in (other if late else stream).encode(frame):
                    self._mux(container, stream, packet, bits)
            for packet in stream.encode():
                self._mux(container, stream, packet, bits)
        if self.matrix:
            content = bytearray(self.path.read_bytes())
            (a, b, c, d), at = self.matrix, content.find(b"tkhd") + 44
            numbers = np.array([a * UNIT, b * UNIT, 0, c * UNIT, d * UNIT, 0, 0, 0, FULL], ">i4")
            content[at : at + 36] = numbers.tobytes()
            self.path.write_bytes(content)
        if self.matrix:
            self.turn = TURNS[self.matrix]
        if self.sei:
            self.turn = {90: Turn(True, False, True), 180: Turn(False, True, True), 270: Turn(True, True)}[self.sei]
        return self.path

    def _stream(self, container, base: Fraction, scale: int):
        stream = container.add_stream(self.codec, rate=1000 if self.ms and self.codec == "mpeg4" else self.rate)
        stream.width, stream.height, stream.pix_fmt = self.block * BITS * scale, self.height * scale, self.format
        stream.time_base = stream.codec_context.time_base = base
        stream.options = dict(self.options)
        return stream

    def _mux(self, container, stream, packet, bits) -> None:
        for one in bits.filter(packet) if bits else [packet]:
            one.stream = stream
            container.mux(one)

    def wrong(self, rng: np.random.Generator) -> str:
        """What is not as a player shows it; "" for nothing."""
        info = probe(self.path)
        height, width = self.height, self.block * BITS
        size = (width, height) if self.turn.swaps else (height, width)
        if (info.num_frames, info.height, info.width) != (self.count, *size):
            return f"{info} instead of {self.count} frames of {size}"
        seconds = [info.between(0, number) for number in range(self.count)]
        expected = [float(time - self.times[0]) for time in self.times]
        off = np.abs(np.subtract(seconds, expected)).max()
        if off > 0.26 / info.fps + TICKS.get(self.path.suffix[1:], 0) if not info.times else off > 0.0021:
            return f"times {off:.4f} s off"
        order = rng.permutation(self.count)[:20]
        for known in (None, info):
            frames = read_frames(self.path, order, info=known)
            found = [read_number(self._undone(frame)) for frame in frames]
            if found != order.tolist():
                return f"frames {found} instead of {order.tolist()}, knowing {known}"
        if info.reaches(48 / PAPER_FPS):
            pairs = [draw_pair(info, rng) for _ in range(20)]
            gaps = [30 * (expected[second] - expected[first]) for first, second in pairs]
            steps = [30 * max(np.diff(expected)[max(0, second - 1) : second + 1]) for _, second in pairs]
            if any(not 4 - step / 2 - 0.1 <= gap <= 48 + step / 2 + 0.1 for gap, step in zip(gaps, steps, strict=True)):
                return f"gaps {gaps}"
        return ""

    def _undone(self, picture: np.ndarray) -> np.ndarray:
        """The picture before it was turned."""
        picture = picture[:: -1 if self.turn.upends else 1, :: -1 if self.turn.mirrors else 1]
        return picture.swapaxes(0, 1) if self.turn.swaps else picture

    def __str__(self) -> str:
        shape = f"{self.codec} {self.format} {self.options} {self.path.suffix}, {self.count} frames at {self.rate}"
        return f"{shape}, ms {self.ms}, {self.turn}, sei {self.sei}, change {self.change}"


@pytest.mark.parametrize("group", range(GROUPS))
def test_every_frame_of_a_drawn_file_is_right_or_the_file_is_refused(group, tmp_path):
    refused, faults = 0, []
    for number in range(FILES):
        rng = np.random.default_rng([group, number])
        folder = tmp_path / str(number)
        folder.mkdir()
        drawn = Drawn(rng, folder)
        drawn.write()
        try:
            wrong = drawn.wrong(rng)
            faults += [f"{group}, {number}: {drawn}: {wrong}"] if wrong else []
        except UserError as error:
            assert "\n" not in str(error) and str(drawn.path) in str(error)
            refused += 1
            print(f"{group}, {number}: {drawn}: {error}")
    assert not faults, "\n".join(faults)
    assert refused <= FILES // 4
