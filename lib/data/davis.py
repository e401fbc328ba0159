"""DAVIS video object segmentation: sequences, masks and the layout of results.

Layout of the DAVIS-2017 archive (Pont-Tuset et al. 2017; Perazzi et al. 2016): `JPEGImages/480p/{seq}/00000.jpg`,
`Annotations/480p/{seq}/00000.png`, `ImageSets/{2017,2016}/{split}.txt` with one sequence name a line. In 2017
the masks are palette images whose values are object ids 1..n (0 background, 255 void); in 2016 there is one
object, grey 0/255. Results are palette images `DIR/{seq}/00000.png`, as the official evaluation expects them.
"""

from pathlib import Path

import numpy as np

from lib.data.folders import check_files, check_root, files_in, read_names
from lib.data.images import read_mask
from lib.data.sequences import MaskSequence, SequenceDataset
from lib.errors import UserError, unknown

VOID = 255


class DavisDataset(SequenceDataset):
    """The sequences of one split, in its list's order.

    `year` 2017 (object ids) or 2016 (one object); None takes what `ImageSets/` holds, 2017 if it holds both.
    """

    def __init__(self, root: str | Path, split: str = "val", year: int | None = None):
        self.root, self.split = check_root(Path(root), "DAVIS", "JPEGImages", "Annotations", "ImageSets"), split
        self.year = _find_year(self.root / "ImageSets", year)
        names = read_names(self.root / "ImageSets" / str(self.year), split)
        super().__init__(map(self._find_sequence, names), f"split {split}")

    @property
    def title(self) -> str:
        """What stands beside a number: DAVIS-2016 has one object a sequence, DAVIS-2017 one or more."""
        return "DAVIS-2016 (one object)" if self.year == 2016 else "DAVIS-2017"

    def _find_sequence(self, name: str) -> MaskSequence:
        images, masks = (self.root / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
        frames = files_in(images, "*.jpg", "frame")
        sources = [masks / f"{path.stem}.png" for path in frames]
        check_files(sources, f"annotation of {name}")
        single = self.year == 2016
        return MaskSequence(name, tuple(frames), tuple(sources), _read_object if single else _read_ids, single)


def _read_ids(path: Path) -> np.ndarray:
    """A DAVIS-2017 mask as (H, W) uint8 ids, void made background."""
    mask = read_mask(path)
    return np.where(mask == VOID, np.uint8(0), mask)


def _read_object(path: Path) -> np.ndarray:
    """A DAVIS-2016 mask as (H, W) uint8: every non-zero value is object 1."""
    return (read_mask(path) > 0).astype(np.uint8)


def _find_year(lists: Path, year: int | None) -> int:
    years = [known for known in (2017, 2016) if (lists / str(known)).is_dir()]
    if not years:
        raise UserError(f"{lists}: expected a folder 2017 or 2016 with lists such as val.txt")
    if year and year not in years:
        raise unknown(f"year in {lists}", year, map(str, years))
    return year or years[0]
