"""DAVIS video object segmentation: sequences, masks and the layout of results.

Layout of the DAVIS-2017 archive (Pont-Tuset et al. 2017; Perazzi et al. 2016): `JPEGImages/480p/{seq}/00000.jpg`,
`Annotations/480p/{seq}/00000.png`, `ImageSets/{2017,2016}/{split}.txt` with one sequence name a line; DAVIS-2016's own
archive has `ImageSets/480p/{split}.txt` with a frame and its mask a line. In 2017 the masks are palette images whose
values are object ids 1..n (0 background, 255 void); in 2016 there is one object, grey 0/255. In test-dev and challenge
only the first frame is annotated: such a split can be propagated, not scored. Results are palette images
`DIR/{seq}/00000.png`, as the official evaluation expects them.
"""

from pathlib import Path, PurePosixPath

import numpy as np

from lib.data.folders import beside, check_root, frames_in, read_names, stem_of
from lib.data.images import read_mask
from lib.data.sequences import MaskSequence, SequenceDataset
from lib.errors import UserError, unknown

VOID = 255


class DavisDataset(SequenceDataset):
    """The sequences of one split, in its list's order.

    `year` 2017 (object ids) or 2016 (one object); None takes what `ImageSets/` holds, the later of several.
    """

    def __init__(self, root: str | Path, split: str = "val", year: int | None = None):
        self.root, self.split = check_root(Path(root), "DAVIS", "JPEGImages", "Annotations", "ImageSets"), split
        self.year, folder = _find_lists(self.root / "ImageSets", year)
        lines = read_names(folder, split)
        paired = [PurePosixPath(line.split()[0]).parent.name for line in lines if line.startswith("/")]
        super().__init__(map(self._find_sequence, dict.fromkeys(paired or lines)), f"split {split}")

    @property
    def title(self) -> str:
        """What stands beside a number: DAVIS-2016 has one object a sequence, DAVIS-2017 one or more."""
        return "DAVIS-2016 (one object)" if self.year == 2016 else "DAVIS-2017"

    def _find_sequence(self, name: str) -> MaskSequence:
        images, masks = (self.root / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
        frames, single = frames_in(images), self.year == 2016
        sources = beside(frames, masks, f"annotation of {name}")
        if sources[0] is None:
            raise UserError(f"{masks / stem_of(frames[0])}.png: missing annotation of {name}'s first frame")
        return MaskSequence(name, tuple(frames), sources, _read_object if single else _read_ids, single)


def _read_ids(path: Path) -> np.ndarray:
    """A DAVIS-2017 mask as (H, W) uint8 ids, void made background."""
    mask = read_mask(path)
    return np.where(mask == VOID, np.uint8(0), mask)


def _read_object(path: Path) -> np.ndarray:
    """A DAVIS-2016 mask as (H, W) uint8: every non-zero value is object 1."""
    return (read_mask(path) > 0).astype(np.uint8)


def _find_lists(lists: Path, year: int | None) -> tuple[int, Path]:
    """The year, and the folder of its lists. Folders called by a size are DAVIS-2016's own."""
    folders = {2017: ("2017",), 2016: ("2016", "480p", "1080p")}
    found = {y: lists / name for y, names in folders.items() for name in reversed(names) if (lists / name).is_dir()}
    if not found:
        raise UserError(f"{lists}: expected a folder 2017, 2016 or 480p with lists such as val.txt")
    if year and year not in found:
        raise unknown(f"year in {lists}", year, map(str, found))
    year = year or max(found)
    return year, found[year]
