"""Image files of every data set: frames as RGB, masks as ids, upright and exact. Shapes: `H W` pixels."""

from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from lib.errors import UserError
from lib.runtime import atomic_path


def davis_palette() -> list[int]:
    """The DAVIS palette: 768 integers (R, G, B of ids 0..255), as `PIL.Image.putpalette` takes them.

    Ids 0..21 spread their bits over the channels as in PASCAL VOC, except that DAVIS writes 191 where VOC has
    192; the ids above are greys.
    """
    ids = np.arange(22)
    channels = [sum(((ids >> (3 * level + channel)) & 1) << (7 - level) for level in range(3)) for channel in range(3)]
    return np.minimum(channels, 191).T.ravel().tolist() + np.arange(22, 256).repeat(3).tolist()


def read_mask(path: str | Path) -> np.ndarray:
    """The values of a mask image, (H, W) uint8, as stored (void is 255): ids, never colours."""
    return read_values(path, ("P", "L", "1"), "a palette (P) or 8-bit grey (L) image").astype(np.uint8)


def read_values(path: str | Path, modes: tuple[str, ...], kind: str) -> np.ndarray:
    """The values (H, W) of a mask image of one of Pillow's `modes`, called `kind` in messages.

    Channels that say nothing are left off: alpha that is opaque everywhere (a mask of DAVIS-2016 has it), and two of
    three equal ones.
    """
    image = _read(path)
    bands = [image.getchannel(band) for band in image.getbands()] if image.mode in ("LA", "RGB", "RGBA") else []
    if bands and (image.mode == "RGB" or bands[-1].getextrema() == (255, 255)):
        colours = [np.array(band) for band in bands[: 1 if image.mode == "LA" else 3]]
        if all((colour == colours[0]).all() for colour in colours):
            image = bands[0]
    if image.mode not in modes:
        raise UserError(f"{path}: a mask must be {kind}, not mode {image.mode}")
    return np.array(image)


def read_frame(path: str | Path) -> np.ndarray:
    """An image file as (H, W, 3) uint8 RGB; 16-bit grey is scaled to 8. UserError for values of unknown range."""
    image = _read(path)
    if image.mode.startswith("I;16"):  # Pillow would cut off all above 255
        image = Image.fromarray(((np.array(image).astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
    if image.mode in ("I", "F"):
        kind = {"I": "32-bit whole numbers", "F": "floating-point numbers"}[image.mode]
        raise UserError(f"{path}: its pixels are {kind}, whose range nobody tells; save it with 8 bits")
    return np.array(image.convert("RGB"))


def read_rgba(path: str | Path) -> np.ndarray:
    """An image file as (H, W, 4) uint8, upright; alpha is 255 where there is none."""
    return np.array(_read(path).convert("RGBA"))


def size_of(path: str | Path) -> tuple[int, int]:
    """Height and width of the upright picture, without decoding it."""
    with open_image(path) as image:
        # Pillow turns TIFF itself, and its size at once
        lying = image.format != "TIFF" and image.getexif().get(ExifTags.Base.Orientation, 1) in range(5, 9)
        return image.size if lying else image.size[::-1]


def write_mask(path: str | Path, ids: np.ndarray, largest: int = 255, palette: bool = True) -> None:
    """Write (H, W) integer ids 0..`largest` as a PNG, with the DAVIS palette or grey."""
    ids = np.asarray(ids)
    if ids.ndim != 2 or ids.dtype.kind not in "uib" or ids.size == 0 or ids.min() < 0 or ids.max() > largest:
        values = f"{ids.min()}..{ids.max()}, " if ids.size else ""
        found = f"{values}{ids.dtype} {ids.shape}"
        raise UserError(f"{path}: a mask must be a non-empty (H, W) array of ids 0..{largest}, not {found}")
    image = Image.fromarray(ids.astype(np.uint8))
    if palette:
        image.putpalette(davis_palette())
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")


def open_image(path: str | Path) -> Image.Image:
    """The image at `path`, not yet decoded; use it as a context manager."""
    try:
        return Image.open(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such image") from None
    except (OSError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: not a readable image ({type(error).__name__}); fetch or write it again") from None


def _read(path: str | Path) -> Image.Image:
    with open_image(path) as image:
        try:
            image.load()
            ImageOps.exif_transpose(image, in_place=True)  # upright, as cameras' tags say
        except (OSError, SyntaxError, ValueError) as error:
            raise UserError(f"{path}: damaged image ({error}); fetch or write it again") from None
        return image
