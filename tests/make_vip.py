"""Small VIP folders for tests: as the data set has them, written without the loader under test."""

from pathlib import Path

import numpy as np
from PIL import Image

STEPS = 25
SIZE = (24, 32)


def stems(number: int) -> list[str]:
    """Names of annotated frames: every 25th, from 1, in 12 digits."""
    return [f"{1 + STEPS * t:012d}" for t in range(number)]


def colours(ids: np.ndarray) -> np.ndarray:
    """A frame whose colour tells the class, so that raw pixels are good features."""
    ids = ids.astype(int)
    return np.stack([(37 * ids) % 256, (91 * ids + 60) % 256, (151 * ids + 120) % 256], axis=-1).astype(np.uint8)


def make_vip(
    root: Path, videos: dict[str, np.ndarray], annotations: str = "Annotations/Category_ids", split: str = "val"
) -> Path:
    """A folder as VIP_Fine, written without the code under test: {video: (T, H, W) ids}. Returns `root`."""
    for name, masks in videos.items():
        for stem, mask in zip(stems(len(masks)), masks, strict=True):
            for folder, suffix in (("Images", "jpg"), (annotations, "png")):
                path = root / folder / name / f"{stem}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture = colours(mask) if suffix == "jpg" else mask.astype(np.uint8)
                Image.fromarray(picture).save(path, **({"quality": 95} if suffix == "jpg" else {}))
    (root / "lists").mkdir(exist_ok=True)
    (root / "lists" / f"{split}_videos.txt").write_text("".join(f"{name}\n" for name in videos))
    lines = [f"{name}/{stem}\n" for name, masks in videos.items() for stem in stems(len(masks))]
    (root / "lists" / f"{split}_id.txt").write_text("".join(lines))
    return root


def people(frames: int = 5, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A person of parts 13 over 2, drifting right; hat (1) from frame 2 on; one void pixel in frames 0 and 1."""
    masks = np.zeros((frames, *size), np.uint8)
    for t in range(frames):
        masks[t, 4:12, 4 + t : 12 + t] = 13
        masks[t, 12:20, 4 + t : 12 + t] = 2
        if t >= 2:
            masks[t, 0:4, 4 + t : 12 + t] = 1
    masks[:2, 0, 0] = 255
    return masks
