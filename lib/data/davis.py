"""DAVIS video object segmentation: sequences, masks and the layout of results.

Layout of the DAVIS-2017 archive (Pont-Tuset et al. 2017; Perazzi et al. 2016): `JPEGImages/480p/{seq}/00000.jpg`,
`Annotations/480p/{seq}/00000.png`, `ImageSets/{2017,2016}/{split}.txt` with one sequence name a line. In 2017
the masks are palette images whose values are object ids 1..n (0 background, 255 void); in 2016 there is one
object, grey 0/255. Results are palette images `DIR/{seq}/00000.png`, as the official evaluation expects them.

Shape letters: `H W` pixels.
"""

from pathlib import Path

import numpy as np

from lib.data.images import read_mask
from lib.data.sequences import MaskSequence, SequenceDataset
from lib.errors import UserError, unknown

VOID = 255
TIER = "480p"


class DavisDataset(SequenceDataset):
    """The sequences of one split, in its list's order. Nothing is decoded before a sequence is asked for it.

    `year` 2017 (object ids) or 2016 (one object); None takes what `ImageSets/` holds, 2017 if it holds both.
    Raises UserError for a wrong root, an unknown split or year, a missing or empty sequence folder, and a
    frame without annotation.
    """

    def __init__(self, root: str | Path, split: str = "val", year: int | None = None):
        self.root, self.split = Path(root), split
        self.year = _find_year(self.root, year)
        lists = self.root / "ImageSets" / str(self.year)
        if not (lists / f"{split}.txt").is_file():
            present = [path.stem for path in lists.glob("*.txt")]
            raise unknown(f"split in {lists}", split, present or ["(no list there)"])
        names = (lists / f"{split}.txt").read_text().split()
        if not names:
            raise UserError(f"{lists / split}.txt: lists no sequence; write one name a line")
        super().__init__([self._find_sequence(name) for name in names], f"split {split}")

    @property
    def title(self) -> str:
        """What stands beside a number: DAVIS-2016 has one object a sequence, DAVIS-2017 one or more."""
        return "DAVIS-2016 (one object)" if self.year == 2016 else "DAVIS-2017"

    def _find_sequence(self, name: str) -> MaskSequence:
        folders = [self.root / kind / TIER / name for kind in ("JPEGImages", "Annotations")]
        listing = self.root / "ImageSets" / str(self.year) / f"{self.split}.txt"
        for folder in folders:
            if not folder.is_dir():
                raise UserError(f"{folder}: no such folder, but {listing} lists {name}")
        frames, masks = sorted(folders[0].glob("*.jpg")), sorted(folders[1].glob("*.png"))
        if not frames:
            raise UserError(f"{folders[0]}: holds no .jpg frame; unpack the data set again")
        by_stem = {mask.stem: mask for mask in masks}
        missing = [frame.stem for frame in frames if frame.stem not in by_stem]
        if missing:
            raise UserError(f"{folders[1] / missing[0]}.png: missing annotation of {name} ({len(missing)} missing)")
        sources = tuple(by_stem[frame.stem] for frame in frames)
        single = self.year == 2016
        return MaskSequence(name, tuple(frames), sources, read_single_object if single else read_object_ids, single)


def read_object_ids(path: Path) -> np.ndarray:
    """A DAVIS-2017 mask as (H, W) uint8 ids, void (255) made background. Raises UserError as `read_mask`."""
    mask = read_mask(path)
    return np.where(mask == VOID, np.uint8(0), mask)


def read_single_object(path: Path) -> np.ndarray:
    """A DAVIS-2016 mask as (H, W) uint8: every non-zero value is object 1. Raises UserError as `read_mask`."""
    return (read_mask(path) > 0).astype(np.uint8)


def _find_year(root: Path, year: int | None) -> int:
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give the DAVIS root, the folder that holds JPEGImages/")
    expected = ("JPEGImages", "Annotations", "ImageSets")
    if not all((root / name).is_dir() for name in expected):
        found = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
        raise UserError(f"{root}: not a DAVIS root: expected {', '.join(expected)}; found {found}")
    found = [known for known in (2017, 2016) if (root / "ImageSets" / str(known)).is_dir()]
    if year is None and not found:
        raise UserError(f"{root / 'ImageSets'}: expected a folder 2017 or 2016 with lists such as val.txt")
    if year is not None and year not in found:
        raise unknown(f"year in {root / 'ImageSets'}", year, map(str, found))
    return year or found[0]
