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

from collections.abc import Callable
from pathlib import Path

import numpy as np

from lib.data.images import read_values
from lib.data.sequences import MaskSequence, SequenceDataset, from_first_object
from lib.errors import UserError, unknown

VALIDATION = (2, 6, 7, 8, 10, 13, 14, 16, 18)  # of the 21 training sequences, as MOTS and STEP divide them
SPLITS = {"val": VALIDATION, "train": tuple(number for number in range(21) if number not in VALIDATION)}
IGNORE, SEMANTIC_CLASSES, VOID = 10000, 19, 255


class KittiDataset(SequenceDataset):
    """The annotated sequences of one split that are there, in order, each from its first frame with an object on.

    `labels`: "mots" or "step". The masks up to that frame are read here, the others when asked for. `left_out`:
    sequences without any object. Raises UserError for a wrong root, an unknown split or annotation, a sequence
    without frames, a frame without mask, and a damaged first mask.
    """

    def __init__(self, root: str | Path, split: str = "val", labels: str = "mots"):
        self.root, self.split, self.labels = Path(root), split, labels
        if split not in SPLITS:
            raise unknown("KITTI split", split, SPLITS)
        if labels not in ("mots", "step"):
            raise unknown("KITTI annotation", labels, ("mots", "step"))
        images = self.root / "training" / "image_02"
        if not images.is_dir():
            raise UserError(f"{images}: no such folder; give the KITTI root, the folder that holds training/image_02")
        masks = self._find_masks()
        names = [f"{number:04d}" for number in SPLITS[split] if (masks / f"{number:04d}").is_dir()]
        if not names:
            raise UserError(f"{masks}: holds no sequence of split {split} such as {SPLITS[split][0]:04d}")
        read = {"mots": read_mots, "step": read_step}[labels]
        found = {name: _find_sequence(images / name, masks / name, read) for name in names}
        left_out = [name for name, sequence in found.items() if sequence is None]
        super().__init__([s for s in found.values() if s], f"split {split} in {masks}", left_out)

    def _find_masks(self) -> Path:
        inner = Path("panoptic_maps", self.split)
        places = {"mots": [Path("instances")], "step": [inner, "kitti-step" / inner]}[self.labels]
        for place in places:
            if (self.root / place).is_dir():
                return self.root / place
        raise UserError(f"{self.root / places[0]}: no such folder; unpack the {self.labels} annotation there")


def _find_sequence(images: Path, masks: Path, read_ids: Callable[[Path], np.ndarray]) -> MaskSequence | None:
    frames = sorted(images.glob("*.png"))
    if not frames:
        raise UserError(f"{images}: holds no .png frame, but {masks} is annotated")
    sources = [masks / path.name for path in frames]
    missing = [path for path in sources if not path.is_file()]
    if missing:
        raise UserError(f"{missing[0]}: missing annotation of {images.name} ({len(missing)} missing)")
    return from_first_object(images.name, frames, sources, read_ids)


def read_mots(path: Path) -> np.ndarray:
    """A MOTS mask as (H, W) uint16 ids, class * 1000 + instance; the ignore region is 0.

    Raises UserError if the file is unreadable, not 16-bit, or holds an id of no known class.
    """
    ids = read_values(path, ("I;16", "I;16B", "I"), "a 16-bit grey image")
    ids = np.where(ids == IGNORE, 0, ids)
    wrong = ids[(ids != 0) & (ids // 1000 != 1) & (ids // 1000 != 2)]
    if wrong.size:
        raise UserError(f"{path}: id {wrong[0]}, but ids are 1000..1999 (car), 2000..2999 (pedestrian), {IGNORE}, 0")
    return ids.astype(np.uint16)


def read_step(path: Path) -> np.ndarray:
    """A STEP map as (H, W) int64 ids, (1 + class) * 65536 + instance; void, stuff and crowds are 0.

    Raises UserError if the file is unreadable, not RGB, or holds an unknown class.
    """
    semantic, high, low = read_values(path, ("RGB",), "an RGB image").astype(np.int64).transpose(2, 0, 1)
    wrong = semantic[(semantic >= SEMANTIC_CLASSES) & (semantic != VOID)]
    if wrong.size:
        raise UserError(f"{path}: class {wrong[0]}, but classes are 0..{SEMANTIC_CLASSES - 1} and void is {VOID}")
    instance = high * 256 + low
    return np.where((instance > 0) & (semantic != VOID), (1 + semantic) * 65536 + instance, 0)
