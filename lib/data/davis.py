"""DAVIS video object segmentation: sequences, masks and the layout of results.

Layout (Pont-Tuset et al. 2017; Perazzi et al. 2016): `JPEGImages/480p/{seq}/00000.jpg`,
`Annotations/480p/{seq}/00000.png`, `ImageSets/{2017,2016}/{split}.txt` with one sequence name a line. In 2017
the masks are palette images whose values are object ids 1..n (0 background, 255 void); in 2016 there is one
object, grey 0/255. Results are palette images `DIR/{seq}/00000.png`, as the official evaluation expects them.

Shape letters: `T` frames, `H W` pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lib.data.images import open_image, read_frame, read_mask
from lib.errors import UserError, unknown

VOID = 255
TIER = "480p"


@dataclass(frozen=True)
class DavisSequence:
    """One sequence: paths only; frames and masks are read when asked for.

    `single_object` (DAVIS-2016): every non-zero value is object 1. Otherwise values are ids and 255 is
    background.
    """

    name: str
    frame_paths: tuple[Path, ...]
    mask_paths: tuple[Path, ...]
    single_object: bool = False

    def __len__(self) -> int:
        return len(self.frame_paths)

    def frames(self, max_frames: int | None = None) -> np.ndarray:
        """The first `max_frames` (default all) frames, (T, H, W, 3) uint8 RGB."""
        return _stacked(self.frame_paths[:max_frames], read_frame)

    def masks(self, max_frames: int | None = None) -> np.ndarray:
        """The first `max_frames` (default all) masks, (T, H, W) uint8 ids, void made background (0).

        Raises UserError if a mask is missing, unreadable or not as large as its frame.
        """
        masks = _stacked(self.mask_paths[:max_frames], self._read_ids)
        for frame, mask in zip(self.frame_paths[:max_frames], self.mask_paths, strict=False):
            with open_image(frame) as image:
                if image.size != masks.shape[:0:-1]:
                    raise UserError(
                        f"{mask}: {masks.shape[2]}x{masks.shape[1]} pixels, but its frame {frame} has "
                        f"{image.width}x{image.height}; both must have one size"
                    )
        return masks

    @cached_property
    def num_objects(self) -> int:
        """The largest id in frame 0, which is how the official evaluation counts objects. At least 1.

        Raises UserError if frame 0 shows no object, or if its ids skip a number.
        """
        ids = np.unique(self._read_ids(self.mask_paths[0]))
        ids = ids[ids > 0].tolist()
        if not ids or ids != list(range(1, len(ids) + 1)):
            raise UserError(f"{self.mask_paths[0]}: ids in the first frame must be 1, 2, ... without gaps, not {ids}")
        return len(ids)

    def _read_ids(self, path: Path) -> np.ndarray:
        mask = read_mask(path)
        return (mask > 0).astype(np.uint8) if self.single_object else np.where(mask == VOID, np.uint8(0), mask)


class DavisDataset:
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
        self.sequences = [self._find_sequence(name) for name in names]

    def __len__(self) -> int:
        return len(self.sequences)

    def __iter__(self) -> Iterator[DavisSequence]:
        return iter(self.sequences)

    def __getitem__(self, name: str) -> DavisSequence:
        """The sequence called `name`."""
        by_name = {sequence.name: sequence for sequence in self.sequences}
        if name not in by_name:
            raise unknown(f"sequence of split {self.split}", name, by_name)
        return by_name[name]

    def _find_sequence(self, name: str) -> DavisSequence:
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
        return DavisSequence(name, tuple(frames), tuple(by_stem[f.stem] for f in frames), self.year == 2016)


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


def _stacked(paths: tuple[Path, ...], read) -> np.ndarray:
    if not paths:
        raise UserError("max_frames leaves no frame; give 1 or more")
    images = [read(path) for path in paths]
    for path, image in zip(paths, images, strict=True):
        if image.shape != images[0].shape:
            sizes = [f"{width}x{height}" for height, width, *_ in (image.shape, images[0].shape)]
            raise UserError(f"{path}: {sizes[0]} pixels, but {paths[0].name} has {sizes[1]}; a sequence has one size")
    return np.stack(images)
