"""VSPW: every pixel's semantic class in videos of the wild (Miao et al. 2021), as sequences to follow.

Layout: `VSPW_480p/data/{video}/origin/00000001.jpg` and `.../mask/00000001.png`, `{train,val,test}.txt` with one
video a line. Masks hold classes 1..124, 0 (others) and 255 (void); the public test split has no masks. The objects
to follow are the classes that the first frame shows: all cars are one object. Of the layout, the mode of the mask
files (palette or grey) was not verified on the data itself; both are read.
"""

from pathlib import Path

import numpy as np

from lib.data.folders import beside, check_root, frames_in, read_names
from lib.data.images import read_mask
from lib.data.sequences import MaskSequence, SequenceDataset, from_first_object
from lib.errors import UserError

CLASSES, VOID = 124, 255


class VspwDataset(SequenceDataset):
    """The videos of one split of VSPW_480p, in its list's order, each from its first frame with a class on."""

    def __init__(self, root: str | Path, split: str = "val"):
        self.root, self.split = check_root(Path(root), "VSPW", "data"), split
        super().__init__(map(self._find_sequence, read_names(self.root, split)), f"split {split} of {self.root}")

    def _find_sequence(self, name: str) -> MaskSequence | None:
        images, masks = (self.root / "data" / name / kind for kind in ("origin", "mask"))
        # The archive has frames of zero bytes (video 988_f_Xvy_DCPt8), which nobody can have seen.
        frames = [path for path in frames_in(images) if path.stat().st_size]
        if not frames:
            raise UserError(f"{images}: all its frames are of zero bytes; unpack the data set again")
        return from_first_object(name, frames, beside(frames, masks, f"annotation of {name}"), _read_classes)


def _read_classes(path: Path) -> np.ndarray:
    """A VSPW mask as (H, W) uint8 classes 1..124; others and void are 0."""
    mask = read_mask(path)
    mask = np.where(mask == VOID, np.uint8(0), mask)
    if mask.max() > CLASSES:
        raise UserError(f"{path}: value {mask.max()}, but classes are 0..{CLASSES} and void is {VOID}")
    return mask
