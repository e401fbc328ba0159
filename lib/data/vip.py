"""VIP, video instance-level parsing (Zhou et al. 2018): videos of people with a body or clothing part at every pixel.

Layout: `VIP_Fine/Images/{video}/{stem}.jpg`, `VIP_Fine/Annotations/Category_ids/{video}/{stem}.png` (`Category_ids` may
also lie beside `Images`, as the data set's own code expects it), `VIP_Fine/lists/{split}_videos.txt` with one video a
line, `lists/{split}_id.txt` with one `{video}/{stem}` a line. Stems are 12-digit frame numbers. Only every 25th frame
is annotated; those alone make a sequence. Masks hold class ids 0..19 (0 background), 255 is void.
"""

from pathlib import Path

import numpy as np

from lib.data.folders import PICTURES, beside, check_root, frames_in, in_order, read_lines, read_names, stem_of
from lib.data.images import read_mask, write_mask
from lib.data.sequences import MaskSequence, SequenceDataset
from lib.errors import UserError

# As the data set's page and its loader number them. The scorer that its authors published prints another order.
CLASSES = (
    "background", "hat", "hair", "glove", "sunglasses", "upper clothes", "dress", "coat", "socks", "pants",
    "torso skin", "scarf", "skirt", "face", "left arm", "right arm", "left leg", "right leg", "left shoe", "right shoe",
)  # fmt: skip


class VipSequence(MaskSequence):
    """The annotated frames of one video. `mask(t)` holds the class ids as stored: void stays 255 for scoring.

    Ids are classes, not objects: they need not be consecutive, so `num_objects` has no meaning here.
    """

    def first_mask(self) -> np.ndarray:
        """The mask to start a propagation with: (H, W) uint8 class ids of frame 0, void made background.

        Left in, void would be propagated as if it were a part, and a predicted 255 spoils the usual scorer, which adds
        it to the confusion matrix in the rows of other classes.
        """
        ids = self.mask(0)
        return np.where(ids < len(CLASSES), ids, np.uint8(0))


class VipDataset(SequenceDataset):
    """The videos of one split, in its list's order; `root` is `VIP_Fine` or the folder that holds it.

    Both files of a frame must be there where one is, or where `lists/{split}_id.txt`, if it exists, names the frame.
    """

    def __init__(self, root: str | Path, split: str = "val"):
        root = Path(root)
        root = root / "VIP_Fine" if (root / "VIP_Fine").is_dir() else root
        inner = "Annotations/Category_ids" if (root / "Annotations" / "Category_ids").is_dir() else "Category_ids"
        self.root, self.split = check_root(root, "VIP", "Images", "lists", inner), split
        self.annotations = self.root / inner
        names = read_names(self.root / "lists", split, "_videos.txt")
        ids = self.root / "lists" / f"{split}_id.txt"
        listed = {Path(line) for _, line in read_lines(ids)} if ids.is_file() else set()
        super().__init__([self._find_sequence(name, listed) for name in names], f"split {split}")

    def _find_sequence(self, name: str, listed: set[Path]) -> VipSequence:
        images, annotations = self.root / "Images" / name, self.annotations / name
        masks = {stem_of(path): path for path in frames_in(annotations, "annotation")}
        named = {path.name: annotations / f"{path.name}.png" for path in listed if path.parent.name == name}
        masks = in_order([*(named | masks).values()])
        frames = beside(masks, images, f"frame of {name}", PICTURES)
        for mask, frame in zip(masks, frames, strict=True):
            if frame is None or not mask.is_file():
                missing, what = (mask, "annotation") if frame else (images / f"{mask.stem}.jpg", "frame")
                raise UserError(f"{missing}: missing {what} of {name}")
        return VipSequence(name, frames, tuple(masks), read_mask)


def write_parts(path: str | Path, ids: np.ndarray) -> None:
    """Write (H, W) integer class ids 0..19 as a PNG.

    Grey, because the usual scorer reads result files as colours and would take a palette's colours for ids.
    """
    write_mask(path, ids, largest=len(CLASSES) - 1, palette=False)
