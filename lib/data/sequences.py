"""The common form of videos with annotated frames: the frames, a mask of object ids for each, and how to read them.

DAVIS, VIP, VSPW, UVO and KITTI differ in their files only. Each loader turns them into `MaskSequence`s, so label
propagation and the scores see one form. As in DAVIS (Pont-Tuset et al. 2017), the objects are those of frame 0.
Shapes: `T` frames, `H W` pixels.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from lib.data.images import read_frame, size_of
from lib.errors import UserError, unknown

MAX_OBJECTS = 254  # ids are uint8, and 255 means void in most result files
Reader = Callable[[Any], np.ndarray]  # a mask's source -> (H, W) ids


@dataclass(frozen=True)
class FrameSequence:
    """The frames of one video: paths only; a frame is read when asked for. Its length is their number."""

    name: str
    frame_paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.frame_paths)

    @property
    def files(self) -> tuple[Path, ...]:
        """What the frames are read from."""
        return self.frame_paths

    def frame(self, t: int) -> np.ndarray:
        """Frame `t`, (H, W, 3) uint8 RGB."""
        return read_frame(self.frame_paths[t])

    def frame_size(self, t: int) -> tuple[int, int]:
        """Height and width of frame `t`, without decoding it."""
        return size_of(self.frame_paths[t])

    def iter_frames(self, max_frames: int | None = None) -> Iterator[np.ndarray]:
        """The first `max_frames` (None: all) frames, (H, W, 3) uint8 RGB each, one in memory at a time."""
        return _of_one_size(self.frame, first_of(self.frame_paths, max_frames))

    def frames(self, max_frames: int | None = None) -> np.ndarray:
        """The same as one array, (T, H, W, 3)."""
        return np.stack(list(self.iter_frames(max_frames)))


@dataclass(frozen=True)
class MaskSequence(FrameSequence):
    """Frames with a mask of object ids each.

    `sources[t]` is whatever `read_ids` turns into the (H, W) uint8 ids of frame t (0 = background): a path, or a
    record whose `str` names where it is from, for messages; None where the frame is not annotated, as in splits without
    published truth.
    """

    sources: tuple[Any, ...]
    read_ids: Reader
    single_object: bool = False  # DAVIS-2016, whose result files may be grey 0/255

    @property
    def stems(self) -> tuple[str, ...]:
        """The frames' file names without suffix, (T,): the names of result files."""
        return tuple(path.stem for path in self.frame_paths)

    def mask(self, t: int) -> np.ndarray:
        """The ids of frame `t`, (H, W) uint8, as large as the frame."""
        self.check_annotated(range(len(self))[t : t + 1])
        ids = self.read_ids(self.sources[t])
        height, width = self.frame_size(t)
        if (height, width) != ids.shape:
            frame = f"its frame {self.frame_paths[t]} has {width}x{height}"
            raise UserError(f"{self.sources[t]}: {ids.shape[1]}x{ids.shape[0]} pixels, but {frame}; fetch it again")
        return ids

    def check_annotated(self, frames: Sequence[int]) -> None:
        """UserError unless each of these frames has a mask, without which it cannot be scored."""
        for t in frames:
            if self.sources[t] is None:
                there = sum(source is not None for source in self.sources)
                known = f"{there} of {len(self)} frames are annotated"
                raise UserError(f"{self.frame_paths[t]}: has no annotation ({known}); carry masks on, but do not score")

    def first_mask(self) -> np.ndarray:
        """The mask to start a propagation with: (H, W) uint8 ids of frame 0."""
        return self.mask(0)

    def masks(self, max_frames: int | None = None) -> np.ndarray:
        """The ids of the first `max_frames` (None: all) frames, (T, H, W) uint8."""
        return np.stack(list(_of_one_size(self.mask, first_of(self.sources, max_frames))))

    @cached_property
    def num_objects(self) -> int:
        """The number n of objects: frame 0 must show the ids 1..n, n at least 1."""
        ids = np.unique(self.read_ids(self.sources[0]))
        ids = ids[ids > 0].tolist()
        if not ids or ids != list(range(1, len(ids) + 1)):
            raise UserError(f"{self.sources[0]}: ids in the first frame must be 1, 2, ... without gaps, not {ids}")
        return len(ids)


def first_of(items: Sequence, max_frames: int | None) -> Sequence:
    """The first `max_frames` items, all for None."""
    if max_frames is not None and max_frames < 1:
        raise UserError(f"max_frames {max_frames} leaves no frame; give 1 or more")
    return items[:max_frames]


def _of_one_size(read: Callable[[int], np.ndarray], sources: Sequence[Any]) -> Iterator[np.ndarray]:
    """`read(t)` for every source's index."""
    size = None
    for t, source in enumerate(sources):
        image = read(t)
        size = size or image.shape[:2]
        if image.shape[:2] != size:
            (height, width), first = image.shape[:2], f"{sources[0]} has {size[1]}x{size[0]}"
            raise UserError(f"{source}: {width}x{height} pixels, but {first}")
        yield image


def from_first_object(
    name: str, frame_paths: Sequence[Path], sources: Sequence[Any], read_values: Reader
) -> MaskSequence | None:
    """The sequence that begins with the first frame whose mask shows an object; None if no mask shows one.

    `read_values` gives a source's own ids, (H, W) integers, 0 = background. What the new frame 0 shows becomes 1..n in
    rising order; what appears later is background, as J and F would count it. The masks up to frame 0 are read here.
    """
    for start, source in enumerate(sources):
        if source is None:
            continue
        shown = np.unique(read_values(source))
        shown = shown[shown > 0]
        if len(shown) > MAX_OBJECTS:
            raise UserError(f"{source}: shows {len(shown)} objects, at most {MAX_OBJECTS} have an id in 8 bits")
        if len(shown):
            read_ids = partial(_renumbered, read_values, shown)
            return MaskSequence(name, tuple(frame_paths[start:]), tuple(sources[start:]), read_ids)
    return None


def _renumbered(read_values: Reader, known: np.ndarray, source: Any) -> np.ndarray:
    """Ids 1..n for the values in `known` (sorted), 0 for all others."""
    values = read_values(source)
    index = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[index] == values, index + 1, 0).astype(np.uint8)


class SequenceDataset:
    """Sequences in a fixed order, found by name; None stands for a video that shows no object, and is left out."""

    def __init__(self, sequences: Iterable[FrameSequence | None], where: str):
        self.sequences, self._where = [sequence for sequence in sequences if sequence], where
        if not self.sequences:
            raise UserError(f"{where}: holds no sequence that shows an object")

    def __len__(self) -> int:
        return len(self.sequences)

    def __iter__(self) -> Iterator[FrameSequence]:
        return iter(self.sequences)

    def __getitem__(self, name: str) -> FrameSequence:
        """The sequence called `name`."""
        by_name = {sequence.name: sequence for sequence in self.sequences}
        if name not in by_name:
            raise unknown(f"sequence of {self._where}", name, by_name)
        return by_name[name]
