"""The common form of video object segmentation: frames of a video, a mask of object ids for each, and how to read them.

DAVIS, VIP, VSPW, UVO and KITTI differ in their files only. Each loader turns them into `MaskSequence`s, so label
propagation and the scores see one form. As in DAVIS (Pont-Tuset et al. 2017), the objects are those of frame 0.

Shape letters: `T` frames, `H W` pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from lib.data.images import open_image, read_frame
from lib.errors import UserError, unknown

MAX_OBJECTS = 254  # ids are uint8, and 255 means void in most result files


@dataclass(frozen=True)
class MaskSequence:
    """One sequence: paths only; frames and masks are read when asked for.

    `sources[t]` is whatever `read_ids` turns into the (H, W) uint8 ids of frame t (0 = background): a path, or a
    record whose `str` names where it is from, for messages. `single_object`: the data set knows one object only
    (DAVIS-2016), whose result files may be grey 0/255.
    """

    name: str
    frame_paths: tuple[Path, ...]
    sources: tuple[Any, ...]
    read_ids: Callable[[Any], np.ndarray]
    single_object: bool = False

    def __post_init__(self) -> None:
        if len(self.frame_paths) != len(self.sources) or not self.frame_paths:
            raise ValueError(f"{self.name}: {len(self.frame_paths)} frames and {len(self.sources)} masks")

    def __len__(self) -> int:
        return len(self.frame_paths)

    @property
    def stems(self) -> tuple[str, ...]:
        """The frames' file names without suffix, (T,): the names of result files."""
        return tuple(path.stem for path in self.frame_paths)

    def frame(self, t: int) -> np.ndarray:
        """Frame `t`, (H, W, 3) uint8 RGB. Raises UserError if it is missing or unreadable."""
        return read_frame(self.frame_paths[t])

    def iter_frames(self, max_frames: int | None = None) -> Iterator[np.ndarray]:
        """The first `max_frames` (default all) frames, (H, W, 3) uint8 RGB each, one in memory at a time.

        Raises UserError if a frame is unreadable or not as large as the first one.
        """
        return _alike(self.frame, self.frame_paths[_checked(max_frames)])

    def frames(self, max_frames: int | None = None) -> np.ndarray:
        """The first `max_frames` (default all) frames, (T, H, W, 3) uint8 RGB. Errors as `iter_frames`."""
        return np.stack(list(self.iter_frames(max_frames)))

    def mask(self, t: int) -> np.ndarray:
        """The ids of frame `t`, (H, W) uint8. Raises UserError if unreadable or not as large as the frame."""
        ids = self.read_ids(self.sources[t])
        with open_image(self.frame_paths[t]) as image:
            if image.size != ids.shape[::-1]:
                raise UserError(
                    f"{self.sources[t]}: {ids.shape[1]}x{ids.shape[0]} pixels, but its frame {self.frame_paths[t]} "
                    f"has {image.width}x{image.height}; both must have one size"
                )
        return ids

    def first_mask(self) -> np.ndarray:
        """The mask to start a propagation with: (H, W) uint8 ids of frame 0."""
        return self.mask(0)

    def masks(self, max_frames: int | None = None) -> np.ndarray:
        """The ids of the first `max_frames` (default all) frames, (T, H, W) uint8.

        Raises UserError as `mask` does, and if a mask is not as large as the first one.
        """
        return np.stack(list(_alike(self.mask, self.sources[_checked(max_frames)])))

    @cached_property
    def num_objects(self) -> int:
        """The number n of objects: frame 0 shows the ids 1..n, n at least 1.

        Raises UserError if frame 0 shows no object, or if its ids skip a number.
        """
        ids = np.unique(self.read_ids(self.sources[0]))
        ids = ids[ids > 0].tolist()
        if not ids or ids != list(range(1, len(ids) + 1)):
            raise UserError(f"{self.sources[0]}: ids in the first frame must be 1, 2, ... without gaps, not {ids}")
        return len(ids)


def _checked(max_frames: int | None) -> slice:
    if max_frames is not None and max_frames < 1:
        raise UserError(f"max_frames {max_frames} leaves no frame; give 1 or more")
    return slice(max_frames)


def _alike(read: Callable[[int], np.ndarray], sources: Sequence[Any]) -> Iterator[np.ndarray]:
    """`read(t)` for every source's index, all of one size."""
    first = None
    for t, source in enumerate(sources):
        image = read(t)
        first = first or image.shape
        if image.shape != first:
            raise UserError(
                f"{source}: {image.shape[1]}x{image.shape[0]} pixels, but {sources[0]} has {first[1]}x{first[0]}; "
                "a sequence has one size"
            )
        yield image


def from_first_object(
    name: str, frame_paths: Sequence[Path], sources: Sequence[Any], read_values: Callable[[Any], np.ndarray]
) -> MaskSequence | None:
    """The sequence that begins with the first frame whose mask shows an object; None if no mask shows one.

    `read_values` gives a source's own ids, (H, W) integers, 0 = background. What the new frame 0 shows becomes
    1..n in rising order; what appears later is background, as J and F would count it. Raises UserError for more
    than MAX_OBJECTS objects, and for whatever `read_values` refuses in the masks up to there.
    """
    for start, source in enumerate(sources):
        known = np.unique(read_values(source))
        known = known[known > 0]
        if len(known) > MAX_OBJECTS:
            raise UserError(f"{source}: shows {len(known)} objects, at most {MAX_OBJECTS} have an id in 8 bits")
        if len(known):
            read_ids = partial(_renumbered, read_values, known)
            return MaskSequence(name, tuple(frame_paths[start:]), tuple(sources[start:]), read_ids)
    return None


def _renumbered(read_values: Callable[[Any], np.ndarray], known: np.ndarray, source: Any) -> np.ndarray:
    """Ids 1..n for the values in `known` (sorted), 0 for all others."""
    values = read_values(source)
    index = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[index] == values, index + 1, 0).astype(np.uint8)


class SequenceDataset:
    """Sequences in a fixed order, found by name; every loader of a data set with masks is one.

    `left_out`: the names of sequences that show no object in any frame; nothing could be followed there.
    """

    def __init__(self, sequences: Sequence[MaskSequence], where: str, left_out: Sequence[str] = ()):
        if not sequences:
            raise UserError(f"{where}: no sequence shows an object ({len(left_out)} without any)")
        self.sequences, self.left_out, self._where = list(sequences), tuple(left_out), where

    def __len__(self) -> int:
        return len(self.sequences)

    def __iter__(self) -> Iterator[MaskSequence]:
        return iter(self.sequences)

    def __getitem__(self, name: str) -> MaskSequence:
        """The sequence called `name`; UserError with the near misses if there is none."""
        by_name = {sequence.name: sequence for sequence in self.sequences}
        if name not in by_name:
            raise unknown(f"sequence of {self._where}", name, by_name)
        return by_name[name]
