"""VSPW: every pixel's semantic class in videos of the wild (Miao et al. 2021), as sequences to follow.

Layout: `VSPW_480p/data/{video}/origin/00000001.jpg` and `.../mask/00000001.png`, `{train,val,test}.txt` with one
video a line. Masks hold classes 1..124, 0 (others) and 255 (void); the public test split has no masks. The objects
to follow are the classes that the first frame shows: all cars are one object. The published archive has frames of
zero bytes (video 988_f_Xvy_DCPt8): these are no pictures that anyone could have seen, and are skipped with their
masks; `VspwDataset.skipped` lists them. Of the layout, the mode of the mask files (palette or grey) was not
verified on the data itself; both are read.

Shape letters: `H W` pixels.
"""

from pathlib import Path

import numpy as np

from lib.data.images import read_mask
from lib.data.sequences import MaskSequence, SequenceDataset, from_first_object
from lib.errors import UserError, unknown

CLASSES, VOID = 124, 255


class VspwDataset(SequenceDataset):
    """The videos of one split, in its list's order, each from its first frame with a class other than 0 on.

    `root`: the folder VSPW_480p. The masks up to there are read here, the others when asked for. `skipped`: the
    zero-byte frames. Raises UserError for a wrong root or split, an empty list, a listed video without folder or
    readable frame, a frame without mask, and a damaged first mask.
    """

    def __init__(self, root: str | Path, split: str = "val"):
        self.root, self.split, self.skipped = Path(root), split, []
        listing = self.root / f"{split}.txt"
        if not (self.root / "data").is_dir():
            raise UserError(f"{self.root}: not a VSPW root: expected data/ and lists; give the folder VSPW_480p")
        if not listing.is_file():
            raise unknown(f"split in {self.root}", split, [p.stem for p in self.root.glob("*.txt")] or ["(no list)"])
        names = listing.read_text().split()
        if not names:
            raise UserError(f"{listing}: lists no video; write one name a line")
        found = {name: self._find_sequence(name, listing) for name in names}
        left_out = [name for name, sequence in found.items() if sequence is None]
        super().__init__([sequence for sequence in found.values() if sequence], str(listing), left_out)

    def _find_sequence(self, name: str, listing: Path) -> MaskSequence | None:
        images, masks = (self.root / "data" / name / kind for kind in ("origin", "mask"))
        if not images.is_dir():
            raise UserError(f"{images}: no such folder, but {listing} lists {name}")
        frames = sorted(images.glob("*.jpg"))
        empty = [path for path in frames if path.stat().st_size == 0]
        self.skipped += empty
        frames = [path for path in frames if path not in empty]
        if not frames:
            raise UserError(f"{images}: holds no .jpg frame ({len(empty)} of zero bytes); unpack the data set again")
        sources = [masks / f"{path.stem}.png" for path in frames]
        missing = [path for path in sources if not path.is_file()]
        if missing:
            raise UserError(f"{missing[0]}: missing annotation of {name} ({len(missing)} missing)")
        return from_first_object(name, frames, sources, read_classes)


def read_classes(path: Path) -> np.ndarray:
    """A VSPW mask as (H, W) uint8 classes 1..124; others and void are 0.

    Raises UserError as `read_mask`, and for a value that is no class.
    """
    mask = read_mask(path)
    mask = np.where(mask == VOID, np.uint8(0), mask)
    if mask.max() > CLASSES:
        raise UserError(f"{path}: value {mask.max()}, but classes are 0..{CLASSES} and void is {VOID}")
    return mask
