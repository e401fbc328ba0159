"""Small DAVIS trees for tests: folders exactly as the data set has them, written without the loader under test."""

from pathlib import Path

import numpy as np
from PIL import Image


def grey_levels(ids: np.ndarray) -> np.ndarray:
    """Frames (T, H, W, 3) uint8 whose colour tells the ids, so that a wrong frame is seen."""
    return np.repeat((40 * ids + 20)[..., None], 3, axis=3).astype(np.uint8)


def write_png(path: Path, values: np.ndarray, palette: bool = True) -> None:
    """One mask image of mode P or L, straight through Pillow."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint8))
    if palette:
        image.putpalette([level for value in range(256) for level in (value, 255 - value, 0)])
    image.save(path)


def make_davis(root: Path, sequences: dict[str, np.ndarray], year: int = 2017, split: str = "val") -> Path:
    """A DAVIS root with the given masks (T, H, W); 2016 masks are grey 0/255."""
    for name, masks in sequences.items():
        for index, (mask, frame) in enumerate(zip(masks, grey_levels(masks), strict=True)):
            frame_path = root / "JPEGImages" / "480p" / name / f"{index:05d}.jpg"
            frame_path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(frame).save(frame_path, quality=95)
            write_png(root / "Annotations" / "480p" / name / f"{index:05d}.png", mask, palette=year == 2017)
    listing = root / "ImageSets" / str(year) / f"{split}.txt"
    listing.parent.mkdir(parents=True, exist_ok=True)
    listing.write_text("".join(f"{name}\n" for name in sequences))
    return root


def moving_squares(num_objects: int = 2, frames: int = 8, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    """Masks (T, H, W) of squares that drift right, one row of them an object."""
    masks = np.zeros((frames, *size), dtype=np.uint8)
    for t in range(frames):
        for k in range(num_objects):
            top = 3 + k * (size[0] // num_objects)
            masks[t, top : top + 8, 4 + 2 * t : 14 + 2 * t] = k + 1
    return masks
