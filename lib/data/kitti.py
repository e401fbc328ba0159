"""KITTI driving scenes with instance masks, as sequences to follow: the MOTS and the STEP annotation.

Layouts: frames `training/image_02/0000/000000.png` (Geiger et al. 2012, tracking).
MOTS (Voigtlaender et al. 2019): `instances/0000/000000.png`, 16-bit grey, id = class * 1000 + instance, 1 car and
2 pedestrian, 10000 ignore, 0 background.
STEP (Weber et al. 2021): `panoptic_maps/{train,val}/0000/000000.png`, RGB: R is the semantic class (Cityscapes'
0..18, 255 void), G * 256 + B the instance. Pixels with an instance above 0 are objects, everything else is
background: only cars and people have instances. The unpacked STEP archive puts its own folder `kitti-step/` around
`panoptic_maps`; both places are read. Not verified on the data itself: that no STEP map gives one instance number
to two classes (here they would be two objects).

Shape letters: `H W` pixels.
"""

from pathlib import Path

import numpy as np

from lib.data.folders import check_files, check_root, files_in
from lib.data.images import read_values
from lib.data.sequences import MaskSequence, SequenceDataset, from_first_object
from lib.errors import UserError, unknown

VALIDATION = (2, 6, 7, 8, 10, 13, 14, 16, 18)  # of the 21 training sequences, as MOTS and STEP divide them
SPLITS = {"val": VALIDATION, "train": tuple(number for number in range(21) if number not in VALIDATION)}
IGNORE, SEMANTIC_CLASSES, VOID = 10000, 19, 255


class KittiDataset(SequenceDataset):
    """The annotated sequences of one split that are there, in order, each from its first frame with an object on.

    `labels`: "mots" or "step".
    """

    def __init__(self, root: str | Path, split: str = "val", labels: str = "mots"):
        if split not in SPLITS:
            raise unknown("KITTI split", split, SPLITS)
        if labels not in ("mots", "step"):
            raise unknown("KITTI annotation", labels, ("mots", "step"))
        self.root, self.split, self.labels = check_root(Path(root), "KITTI", "training/image_02"), split, labels
        masks = self._find_masks()
        names = [f"{number:04d}" for number in SPLITS[split] if (masks / f"{number:04d}").is_dir()]
        if not names:
            raise UserError(f"{masks}: holds no sequence of split {split} such as {SPLITS[split][0]:04d}")
        super().__init__([self._find_sequence(masks / name) for name in names], f"split {split} in {masks}")

    def _find_masks(self) -> Path:
        inner = Path("panoptic_maps", self.split)
        places = {"mots": [Path("instances")], "step": [inner, "kitti-step" / inner]}[self.labels]
        for place in places:
            if (self.root / place).is_dir():
                return self.root / place
        raise UserError(f"{self.root / places[0]}: no such folder; unpack the {self.labels} annotation there")

    def _find_sequence(self, masks: Path) -> MaskSequence | None:
        frames = files_in(self.root / "training" / "image_02" / masks.name, "*.png", "frame")
        sources = [masks / path.name for path in frames]
        check_files(sources, f"annotation of {masks.name}")
        return from_first_object(masks.name, frames, sources, read_mots if self.labels == "mots" else read_step)


def read_mots(path: Path) -> np.ndarray:
    """A MOTS mask as (H, W) uint16 ids, class * 1000 + instance; the ignore region is 0."""
    ids = read_values(path, ("I;16", "I;16B", "I"), "a 16-bit grey image")
    ids = np.where(ids == IGNORE, 0, ids)
    wrong = ids[(ids != 0) & (ids // 1000 != 1) & (ids // 1000 != 2)]
    if wrong.size:
        raise UserError(f"{path}: id {wrong[0]}, but ids are 1000..1999 (car), 2000..2999 (pedestrian), {IGNORE}, 0")
    return ids.astype(np.uint16)


def read_step(path: Path) -> np.ndarray:
    """A STEP map as (H, W) int64 ids, (1 + class) * 65536 + instance; void, stuff and crowds are 0."""
    semantic, high, low = read_values(path, ("RGB",), "an RGB image").astype(np.int64).transpose(2, 0, 1)
    wrong = semantic[(semantic >= SEMANTIC_CLASSES) & (semantic != VOID)]
    if wrong.size:
        raise UserError(f"{path}: class {wrong[0]}, but classes are 0..{SEMANTIC_CLASSES - 1} and void is {VOID}")
    instance = high * 256 + low
    return np.where((instance > 0) & (semantic != VOID), (1 + semantic) * 65536 + instance, 0)
