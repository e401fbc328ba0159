"""KITTI driving scenes with MOTS' instance masks (Voigtlaender et al. 2019), as sequences to follow.

Layout: frames `training/image_02/0000/000000.png` (Geiger et al. 2012, tracking); masks `instances/0000/000000.png`,
16-bit grey, id = class * 1000 + instance, 1 car and 2 pedestrian, 10000 ignore, 0 background.
"""

from pathlib import Path

import numpy as np

from lib.data.folders import beside, check_root, frames_in
from lib.data.images import read_values
from lib.data.sequences import MaskSequence, SequenceDataset, from_first_object
from lib.errors import UserError, unknown

VALIDATION = (2, 6, 7, 8, 10, 13, 14, 16, 18)  # of the 21 training sequences, as MOTS divides them
SPLITS = {"val": VALIDATION, "train": tuple(number for number in range(21) if number not in VALIDATION)}
IGNORE = 10000


class KittiDataset(SequenceDataset):
    """The annotated sequences of one split that are there, in order, each from its first frame with an object on."""

    def __init__(self, root: str | Path, split: str = "val"):
        if split not in SPLITS:
            raise unknown("KITTI split", split, SPLITS)
        self.root, self.split = check_root(Path(root), "KITTI", "training/image_02", "instances"), split
        folders = [self.root / "instances" / f"{number:04d}" for number in SPLITS[split]]
        sequences = [self._find_sequence(masks) for masks in folders if masks.is_dir()]
        super().__init__(sequences, f"split {split} of {self.root}")

    def _find_sequence(self, masks: Path) -> MaskSequence | None:
        frames = frames_in(self.root / "training" / "image_02" / masks.name)
        sources = beside(frames, masks, f"annotation of {masks.name}")
        return from_first_object(masks.name, frames, sources, _read_mots)


def _read_mots(path: Path) -> np.ndarray:
    """A MOTS mask as (H, W) uint16 ids, class * 1000 + instance; the ignore region is 0."""
    ids = read_values(path, ("I;16", "I;16B", "I"), "a 16-bit grey image")
    ids = np.where(ids == IGNORE, 0, ids)
    wrong = ids[(ids != 0) & (ids // 1000 != 1) & (ids // 1000 != 2)]
    if wrong.size:
        raise UserError(f"{path}: id {wrong[0]}, but ids are 1000..1999 (car), 2000..2999 (pedestrian), {IGNORE}, 0")
    return ids.astype(np.uint16)
