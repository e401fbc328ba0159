"""What is to be followed, as given for the first frame: a mask of objects, or points."""

from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter

from lib.data.davis import VOID
from lib.data.folders import read_csv
from lib.data.images import davis_palette, open_image, read_mask, read_rgba
from lib.errors import UserError

MOST = 64  # objects; a picture of more values is a photo
OVERSHOOT = 0.25  # of their difference: resampled edges swing beyond the values on both sides
SAME_SHAPE = 0.02  # a mask's width / height may differ from the frame's by so much, where it was saved smaller


class Points(NamedTuple):
    """Names, and x, y in pixels of the frame, counted from 0: (P, 2) float64."""

    names: tuple[str, ...]
    places: np.ndarray


def read_first_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """The mask of the first frame, whose `size` is (H, W): (H, W) uint8 ids, 0 = background.

    Palette and grey images hold ids, where 255 is void or, if nothing else is there, the one object. In colour pictures
    each colour is an object, but for black and for what is transparent: DAVIS's colours have their ids, others are
    numbered. Shades along soft edges count as what they are nearest to. A mask of another size but the frame's shape is
    scaled to it.
    """
    with open_image(path) as image:
        mode, lossy = image.mode, image.format == "JPEG"
    if lossy:
        raise UserError(f"{path}: a JPEG does not keep the values of a mask; save it as PNG")
    if mode in ("RGB", "RGBA", "LA"):
        ids = _ids_of_colours(path)
    else:
        ids = read_mask(path) if mode in ("P", "1") else _without_shades(_without_void(read_mask(path)))
    ids = _without_void(ids)
    values = set(np.unique(ids))
    if len(values) > MOST:
        raise UserError(f"{path}: {len(values)} grey values are no objects; give a mask, with one value for each")
    if values <= {0, VOID}:
        ids = (ids > 0).astype(np.uint8)
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
    picture = read_rgba(path)
    parts = np.where(picture[..., 3:] > 127, picture[..., :3], np.uint8(0)).astype(np.uint32)
    codes = _without_shades(parts @ np.array([65536, 256, 1], np.uint32))
    colours = [int(code) for code in np.unique(codes) if code]
    if all(code % 0x010101 == 0 for code in colours):  # grey, saved as colour: values are ids
        return (codes & 0xFF).astype(np.uint8)
    if len(colours) > MOST:
        raise UserError(f"{path}: {len(colours)} colours are no objects; give a mask, with one colour for each")
    palette = np.reshape(davis_palette(), (-1, 3))[:VOID] @ [65536, 256, 1]
    known = {code: number for number, code in reversed(list(enumerate(palette.tolist())))}  # some are there twice
    if not set(colours) <= set(known):
        known = {code: number for number, code in enumerate(colours, start=1)}
    ids = np.zeros(codes.shape, np.uint8)
    for code in colours:
        ids[codes == code] = known[code]
    return ids


def _without_void(ids: np.ndarray) -> np.ndarray:
    """The ids with void as background, unless there is nothing else that is more than a shade."""
    return np.where(ids == VOID, np.uint8(0), ids) if set(_solid(ids)) - {0, VOID} else ids


def _solid(codes: np.ndarray) -> np.ndarray:
    """The values that somewhere fill 3 x 3 pixels, of (H, W)."""
    inner, (height, width) = codes[1:-1, 1:-1], codes.shape
    same = [codes[y : height - 2 + y, x : width - 2 + x] == inner for y in range(3) for x in range(3)]
    return np.unique(inner[np.all(same, axis=0)])


def _without_shades(codes: np.ndarray) -> np.ndarray:
    """Codes (H, W) of 8-bit channels; shades between two that fill 3 x 3 pixels somewhere become the nearer one.

    Unchanged where nothing but the background does, or too much: what is to be followed is tiny, or this is no mask.
    """
    solid, (values, inverse) = np.union1d(_solid(codes), [0]), np.unique(codes, return_inverse=True)
    if not 1 < len(solid) <= MOST:
        return codes
    far, apart = (_distances(some, solid) for some in (values, solid))
    inverse, thin = inverse.reshape(codes.shape), ~np.isin(codes, solid)
    pixels, near = inverse[thin], np.stack([_within_two(codes == code)[thin] for code in solid])
    mixed = np.zeros(len(pixels), bool)  # whether a pixel lies between two that are near it, in place and in value
    for a, b in combinations(range(len(solid)), 2):
        between = far[:, a] + far[:, b] <= (1 + OVERSHOOT) * apart[a, b]
        mixed |= near[a] & near[b] & between[pixels]
    counts = [np.bincount(pixels, weights, len(values)) for weights in (mixed, None)]
    shade = 2 * counts[0] > counts[1]  # most of its pixels; what is only thin or small stays
    kept = np.where(shade, solid[far.argmin(axis=1)], values)
    return kept.astype(codes.dtype)[inverse]


def _distances(codes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(A,), (B,) codes -> (A, B) sums of their channels' differences."""
    parts = [some.astype(np.int64)[:, None] >> np.array([0, 8, 16]) & 0xFF for some in (codes, others)]
    return np.abs(parts[0][:, None] - parts[1]).sum(axis=2)


def _within_two(marked: np.ndarray) -> np.ndarray:
    """Where a marked pixel is at most two rows and columns away: as wide as resampling blurs an edge."""
    return maximum_filter(marked, size=5)


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
    if not all(map(_is_text, names)):
        raise UserError(f"{path}: names must be UTF-8; save the file so")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}: two points are called {twice!r}; give each a name of its own")
    return Points(names, np.array(places))


def _is_text(name: str) -> bool:
    """Whether it can be written again: bytes of another encoding stay as stand-ins where names are read."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)
