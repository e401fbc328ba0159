"""What is to be followed, as given for the first frame: a mask of objects, or points."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from lib.data.davis import VOID
from lib.data.folders import read_csv
from lib.data.images import davis_palette, open_image, read_frame, read_mask
from lib.data.sequences import MAX_OBJECTS
from lib.errors import UserError

SAME_SHAPE = 0.02  # a mask's width / height may differ from the frame's by so much, where it was saved smaller


class Points(NamedTuple):
    """Names, and x, y in pixels of the frame, counted from 0: (P, 2) float64."""

    names: tuple[str, ...]
    places: np.ndarray


def read_first_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """The mask of the first frame, whose `size` is (H, W): (H, W) uint8 ids, 0 = background.

    Palette and grey images hold ids, where 255 is void or, if nothing else is there, the one object. In colour pictures
    each colour is an object, but for black and for what is transparent: DAVIS's colours have their ids, others are
    numbered. A mask of another size but the frame's shape is scaled to it.
    """
    with open_image(path) as image:
        mode = image.mode
    ids = _ids_of_colours(path) if mode in ("RGB", "RGBA") else read_mask(path)
    if set(np.unique(ids)) <= {0, VOID}:
        ids = (ids > 0).astype(np.uint8)
    ids = np.where(ids == VOID, np.uint8(0), ids)
    if ids.shape != size:
        (height, width), frame = ids.shape, f"the first frame has {size[1]}x{size[0]}"
        if abs(width / height / (size[1] / size[0]) - 1) > SAME_SHAPE:
            raise UserError(f"{path}: {width}x{height} pixels, but {frame}; draw the mask on that frame")
        ids = np.array(Image.fromarray(ids).resize(size[::-1], Image.Resampling.NEAREST))
    if not ids.any():
        raise UserError(f"{path}: shows no object, all of it is background; draw what is to be followed")
    return ids


def _ids_of_colours(path: Path) -> np.ndarray:
    """(H, W) uint8 ids of a colour picture's colours."""
    with open_image(path) as image:
        opaque = np.array(image.getchannel("A")) > 127 if image.mode == "RGBA" else True
    picture = read_frame(path)
    if (picture == picture[..., :1]).all():  # grey, saved as colour: values are ids
        return np.where(opaque, picture[..., 0], np.uint8(0))
    codes = np.where(opaque, picture.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32), 0)
    colours = [int(code) for code in np.unique(codes) if code]
    if len(colours) > MAX_OBJECTS:
        raise UserError(f"{path}: {len(colours)} colours are no objects, it is a photo or was saved as JPEG; use a PNG")
    palette = np.reshape(davis_palette(), (-1, 3))[:VOID] @ [65536, 256, 1]
    known = {code: number for number, code in enumerate(palette.tolist())}
    if not set(colours) <= set(known):
        known = {code: number for number, code in enumerate(colours, start=1)}
    ids = np.zeros(codes.shape, np.uint8)
    for code in colours:
        ids[codes == code] = known[code]
    return ids


def read_points(path: Path, size: tuple[int, int]) -> Points:
    """The points of a csv with columns x, y and, if it has one, name: pixels of the first frame of `size` (H, W)."""
    rows = read_csv(path, ["x", "y"])
    if not rows:
        raise UserError(f"{path}: names no point; write a line x,y for each below the first")
    places = []
    for number, row in enumerate(rows, start=1):
        try:
            place = float(row["x"]), float(row["y"])
        except ValueError:
            place = (np.nan, np.nan)
        if not (0 <= place[0] < size[1] and 0 <= place[1] < size[0]):
            inside = f"x must be a number from 0 to {size[1] - 1}, y to {size[0] - 1}"
            raise UserError(f"{path}: point {number} is at {row['x']!r}, {row['y']!r}; {inside}")
        places.append(place)
    names = tuple(row.get("name") or str(number) for number, row in enumerate(rows, start=1))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}: two points are called {twice!r}; give each a name of its own")
    return Points(names, np.array(places))
