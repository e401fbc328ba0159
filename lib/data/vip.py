"""VIP, video instance-level parsing (Zhou et al. 2018): videos of people with a body or clothing part at every pixel.

Layout: `VIP_Fine/Images/{video}/{stem}.jpg`, `VIP_Fine/Annotations/Category_ids/{video}/{stem}.png`,
`VIP_Fine/lists/{split}_videos.txt` with one video a line, `lists/{split}_id.txt` with one `{video}/{stem}` a line.
Stems are 12-digit frame numbers. Only every 25th frame of a video is annotated, and those frames alone make a sequence.
Masks hold class ids 0..19 (0 background), 255 is void. `Category_ids` may also lie beside `Images`, as the data set's
own code expects it, and the root may be `VIP_Fine` itself.

Shape letters: `H W` pixels.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from lib.data.images import read_mask
from lib.data.sequences import MaskSequence, SequenceDataset
from lib.errors import UserError, unknown
from lib.runtime import atomic_path

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
    """The videos of one split, in its list's order. Nothing is decoded before a sequence is asked for it.

    Raises UserError for a wrong root, an unknown split, a missing folder, and a frame or annotation that is missing:
    one whose counterpart is there, or that `lists/{split}_id.txt`, where it exists, names.
    """

    def __init__(self, root: str | Path, split: str = "val"):
        self.root, self.split = _find_root(Path(root)), split
        inner = self.root / "Annotations" / "Category_ids"
        self.annotations = inner if inner.is_dir() else self.root / "Category_ids"
        lists = self.root / "lists"
        listing = lists / f"{split}_videos.txt"
        if not listing.is_file():
            present = [path.stem.removesuffix("_videos") for path in lists.glob("*_videos.txt")]
            raise unknown(f"split in {lists}", split, present or ["(no list there)"])
        names = listing.read_text().split()
        if not names:
            raise UserError(f"{listing}: lists no video; write one name a line")
        ids = lists / f"{split}_id.txt"
        listed = {Path(line) for line in ids.read_text().split()} if ids.is_file() else set()
        super().__init__([self._find_sequence(name, listing, listed) for name in names], f"split {split}")

    def _find_sequence(self, name: str, listing: Path, listed: set[Path]) -> VipSequence:
        images, annotations = self.root / "Images" / name, self.annotations / name
        for folder in (images, annotations):
            if not folder.is_dir():
                raise UserError(f"{folder}: no such folder, but {listing} lists {name}")
        masks = {path.stem: path for path in sorted(annotations.glob("*.png"))}
        frames = {path.stem: path for path in images.glob("*.jpg")}
        wanted = {path.name for path in listed if path.parent.name == name}
        for folder, suffix, found, needed in (
            (annotations, "png", masks, wanted),
            (images, "jpg", frames, wanted | set(masks)),
        ):
            missing = sorted(needed - set(found))
            if missing:
                kind = "annotation" if suffix == "png" else "frame"
                raise UserError(f"{folder / missing[0]}.{suffix}: missing {kind} of {name} ({len(missing)} missing)")
        if not masks:
            raise UserError(f"{annotations}: holds no .png annotation; unpack the data set again")
        return VipSequence(name, tuple(frames[stem] for stem in masks), tuple(masks.values()), read_mask)


def _find_root(root: Path) -> Path:
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; give the VIP root, the folder that holds VIP_Fine/")
    found = root / "VIP_Fine" if (root / "VIP_Fine").is_dir() else root
    kinds = [found / "Images", found / "lists"]
    if not all(kind.is_dir() for kind in kinds) or not any(
        (found / kind).is_dir() for kind in ("Annotations/Category_ids", "Category_ids")
    ):
        present = ", ".join(sorted(path.name for path in found.iterdir())[:8]) or "nothing"
        raise UserError(f"{found}: not a VIP root: expected Images, lists, Annotations/Category_ids; found {present}")
    return found


def write_parts(path: str | Path, ids: np.ndarray) -> None:
    """Write (H, W) integer class ids 0..19 as a grey PNG, whole or not at all.

    Grey, because the usual scorer reads result files as colours and would take a palette's colours for ids.
    Raises UserError if `ids` is not a two-dimensional integer array of class ids.
    """
    ids = np.asarray(ids)
    if ids.ndim != 2 or ids.dtype.kind not in "uib" or ids.size == 0:
        raise UserError(f"{path}: parts must be a non-empty (H, W) array of integer ids, not {ids.dtype} {ids.shape}")
    if ids.min() < 0 or ids.max() >= len(CLASSES):
        raise UserError(f"{path}: ids {ids.min()}..{ids.max()}; parts must have class ids 0..{len(CLASSES) - 1}")
    with atomic_path(path) as temporary:
        Image.fromarray(ids.astype(np.uint8)).save(temporary, format="PNG")
