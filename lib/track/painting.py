"""What was tracked, painted over the frames: a mask in colours with its edge, points as dots; and a sheet of some."""

import colorsys
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from lib.evaluation.keypoints import LOST
from lib.track.propagating import Tracked

OVERLAY_LINES = 720  # the short side of the overlay at most
THUMBNAILS, COLUMNS, THUMBNAIL_WIDTH = 12, 4, 320
STRENGTH = 0.45  # of a mask's colour inside; its edge has it whole


def colours(count: int) -> np.ndarray:
    """Bright colours of ids 0..count-1, (count, 3) uint8, neighbours unlike; 0 is black."""
    hues = (0.02 + 0.618034 * np.arange(count)) % 1
    bright = [colorsys.hsv_to_rgb(hue, 0.85, 1.0) for hue in hues]
    bright[0] = (0.0, 0.0, 0.0)
    return np.round(255 * np.array(bright)).astype(np.uint8)


COLOURS = colours(256)


def overlay_size(size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) of the overlay: even sides, as H.264 wants them, and no more than OVERLAY_LINES lines."""
    scale = min(1.0, OVERLAY_LINES / min(size))
    return tuple(max(2, round(side * scale / 2) * 2) for side in size)


def paint(picture: np.ndarray, tracked: Tracked) -> np.ndarray:
    """The overlay of a frame (H, W, 3) uint8: of `overlay_size`, uint8 RGB."""
    size = overlay_size(picture.shape[:2])
    image = np.array(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR))
    mask, points = tracked
    if mask is not None:
        ids = np.array(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))
        inside = ids > 0
        edge = inside & ~_same_as_neighbours(ids)
        colour = COLOURS[ids]
        image[inside] = ((1 - STRENGTH) * image[inside] + STRENGTH * colour[inside]).astype(np.uint8)
        image[edge] = colour[edge]
    if points is not None:
        image = _with_points(image, points * (np.array(size) / picture.shape[:2])[::-1], points[:, 0] != LOST)
    return image


def _same_as_neighbours(ids: np.ndarray) -> np.ndarray:
    """Whether all within two pixels to the four sides have the pixel's id, bool (H, W)."""
    padded, same = np.pad(ids, 2, mode="edge"), np.ones(ids.shape, bool)
    height, width = ids.shape
    for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0), (0, 2), (0, -2), (2, 0), (-2, 0)):
        same &= padded[2 + down : 2 + down + height, 2 + right : 2 + right + width] == ids
    return same


def _with_points(image: np.ndarray, places: np.ndarray, seen: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(image)
    draw, radius = ImageDraw.Draw(picture), max(3, min(image.shape[:2]) // 80)
    for number, ((x, y), there) in enumerate(zip(places, seen, strict=True), start=1):
        if there:
            box = (x - radius, y - radius, x + radius, y + radius)
            colour = COLOURS[1 + (number + 126) % 255]  # not those of the first masks
            draw.ellipse(box, fill=tuple(colour.tolist()), outline=(0, 0, 0), width=2)
    return np.array(picture)


@dataclass
class Sheet:
    """Thumbnails of frames at even distances, of a stream whose length nobody knows: at most 2 * THUMBNAILS are kept.

    When they are too many every second is dropped, and from then on only every second frame is looked at.
    """

    kept: list[tuple[float, Image.Image]] = field(default_factory=list)
    stride: int = 1
    seen: int = 0

    def add(self, seconds: float, overlay: np.ndarray) -> None:
        """Look at the next frame's overlay."""
        if self.seen % self.stride == 0:
            height = round(overlay.shape[0] * THUMBNAIL_WIDTH / overlay.shape[1])
            self.kept.append((seconds, Image.fromarray(overlay).resize((THUMBNAIL_WIDTH, height))))
            if len(self.kept) == 2 * THUMBNAILS:
                self.kept, self.stride = self.kept[::2], 2 * self.stride
        self.seen += 1

    def image(self) -> Image.Image:
        """The sheet: the first frame, and others at even distances, at most THUMBNAILS in all."""
        chosen = self.kept[:: -(-len(self.kept) // THUMBNAILS)]
        width, height = chosen[0][1].size
        columns = min(COLUMNS, len(chosen))
        sheet = Image.new("RGB", (columns * (width + 4), -(-len(chosen) // columns) * (height + 20)), "white")
        draw = ImageDraw.Draw(sheet)
        for number, (seconds, thumbnail) in enumerate(chosen):
            left, top = number % columns * (width + 4), number // columns * (height + 20)
            sheet.paste(thumbnail, (left, top + 16))
            draw.text((left + 2, top + 2), f"{seconds:.2f} s", fill="black")
        return sheet
