"""The results' files, written as they come: palette masks, a csv of points, an overlay that browsers play."""

import csv
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from lib.data.images import write_mask
from lib.evaluation.keypoints import LOST
from lib.track.painting import Sheet, overlay_size, paint
from lib.track.propagating import Tracked
from lib.track.source import Shot

TICKS = 90000  # a second of the overlay has so many, as broadcasts do: any frame rate is told exactly enough
MASKS, POINTS, OVERLAY, SHEET = "masks", "points.csv", "overlay.mp4", "sheet.png"


class Results:
    """Files in `folder`, one frame after the other."""

    def __init__(self, folder: Path, video: "Overlay", names: tuple[str, ...] | None, table: csv.writer):
        self.folder, self.video, self.names, self.table = folder, video, names, table
        self.sheet = Sheet()

    def add(self, shot: Shot, tracked: Tracked) -> None:
        """Write what belongs to the next frame."""
        mask, points = tracked
        if mask is not None:
            write_mask(self.folder / MASKS / f"{shot.name}.png", mask)
        for name, (x, y) in zip(self.names or (), points if points is not None else (), strict=True):
            place = ("", "") if x == LOST else (f"{x:.2f}", f"{y:.2f}")
            self.table.writerow([shot.name, f"{shot.seconds:.4f}", name, *place])
        overlay = paint(shot.picture, tracked)
        self.video.add(shot.seconds, overlay)
        self.sheet.add(shot.seconds, overlay)


class Overlay:
    """An H.264 file, its index in front so that it plays while it is fetched; frames at the times of the source's."""

    def __init__(self, container: av.container.OutputContainer, size: tuple[int, int]):
        self.container, (height, width) = container, size
        self.stream = container.add_stream("libx264", rate=30, options={"crf": "20", "preset": "veryfast"})
        self.stream.width, self.stream.height, self.stream.pix_fmt = width, height, "yuv420p"
        self.stream.codec_context.time_base = Fraction(1, TICKS)
        self.ticks = -1

    def add(self, seconds: float, picture: np.ndarray) -> None:
        """Show (H, W, 3) uint8 RGB from `seconds` on."""
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        self.ticks = max(self.ticks + 1, round(seconds * TICKS))
        frame.pts, frame.time_base = self.ticks, Fraction(1, TICKS)
        self.container.mux(self.stream.encode(frame))

    def end(self) -> None:
        """Write what the encoder holds back."""
        self.container.mux(self.stream.encode())


@contextmanager
def open_results(folder: Path, size: tuple[int, int], masks: bool, names: tuple[str, ...] | None) -> Iterator[Results]:
    """Results of frames of `size` (H, W) in the folder, which is there and empty; whole when the block ends."""
    with ExitStack() as stack:
        if masks:
            (folder / MASKS).mkdir()
        table = None
        if names is not None:
            table = csv.writer(stack.enter_context((folder / POINTS).open("w", newline="", encoding="utf-8")))
            table.writerow(["frame", "seconds", "name", "x", "y"])
        container = stack.enter_context(av.open(str(folder / OVERLAY), "w", options={"movflags": "+faststart"}))
        video = Overlay(container, overlay_size(size))
        results = Results(folder, video, names, table)
        yield results
        video.end()
        results.sheet.image().save(folder / SHEET)
