"""JHMDB keypoints from result files: PCK, and the files themselves.

Results are one file a clip, `{index}.dat`, where index counts the clips of the split from 0 in their order: an array
2 x 15 x T, x first, in cells of a grid of `grid` x `grid` over the frame, and (-1, -1) for a lost joint. The grid is 40
(videowalk, stride 8) or 20 (CropMAE, patch 16, at 320 x 320 input); the file does not tell it. Published scorers read
with `numpy.load`, which goes by content: files are written as npy. Published trackers dump the array as a pickle.
"""

import pickle
import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lib.data.folders import children
from lib.data.images import size_of
from lib.data.jhmdb import JOINTS, JhmdbDataset, JointClip
from lib.errors import UserError
from lib.evaluation.pck import THRESHOLDS, PckCounts, pck
from lib.runtime import atomic_path, progress

GRID = 20
NAMES = tuple(f"PCK@{threshold}" for threshold in THRESHOLDS)


def score_jhmdb(
    truth: str | Path, predictions: str | Path, split: int | str | Path | None = 1, max_frames: int | None = None,
    grid: int = GRID,
) -> dict:  # fmt: skip
    """PCK of predicted joints: `truth` is a JHMDB root, `predictions` holds `{index}.dat` for every clip and no other.

    `split`: as in JhmdbDataset (its test part); it also fixes the order of the clips. `grid`: the cells a side that the
    files count in. `max_frames`: the first n frames of a clip only, which is not comparable with published numbers.
    Returns `PCK@0.1`, `PCK@0.2` as fractions; `joints`: {name: both, and how often it was `counted` and `lost`}, None
    for a joint that was always lost and so is not in the means; `lost_joints`: `count` and `share` of all;
    `clips`: {name: both PCK and `lost`}; `grid`.
    """
    dataset, predictions = JhmdbDataset(truth, split), Path(predictions)
    if max_frames is not None and max_frames < 2:
        raise UserError(f"max_frames {max_frames}: frame 0 is not scored; give 2 or more")
    if grid < 1:
        raise UserError(f"grid {grid}: give the number of cells a side, such as 20 or 40")
    paths = _find_results(predictions, len(dataset))
    jobs = zip(dataset, paths, strict=True)
    counts = [_count(clip, path, grid, max_frames) for clip, path in progress(jobs, "scoring", total=len(dataset))]
    total = sum(counts[1:], counts[0])
    if not total.counted.any():
        raise UserError(f"{predictions}: no joint is predicted in any scored frame, so there is nothing to score")
    joints = {
        name: _named(total.per_joint()[:, j]) | {"counted": int(total.counted[j]), "lost": int(total.lost[j])}
        for j, name in enumerate(JOINTS)
    }
    clips = {
        clip.name: _named(count.mean()) | {"lost": int(count.lost.sum())}
        for clip, count in zip(dataset, counts, strict=True)
    }
    lost, counted = int(total.lost.sum()), int(total.counted.sum())
    all_lost = {"count": lost, "share": lost / (lost + counted)}
    return {**_named(total.mean()), "joints": joints, "lost_joints": all_lost, "clips": clips, "grid": grid}


def _named(values: np.ndarray) -> dict[str, float | None]:
    """(S,) PCK by name; None instead of NaN, which JSON does not know."""
    return {name: None if np.isnan(value) else float(value) for name, value in zip(NAMES, values, strict=True)}


def _find_results(folder: Path, clips: int) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder that holds 0.dat, 1.dat, ...")
    paths = [folder / f"{index}.dat" for index in range(clips)]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UserError(f"{missing[0]}: missing; the split has {clips} clips ({len(missing)} missing)")
    others = [path for path in children(folder) if path.suffix == ".dat" and path not in paths]
    if others:  # clips are matched by their place in the list alone: another list would score the wrong ones
        raise UserError(f"{min(others)}: the split has {clips} clips, 0.dat to {clips - 1}.dat; is it the right split?")
    return paths


def _count(clip: JointClip, path: Path, grid: int, max_frames: int | None) -> PckCounts:
    truth, predicted = clip.joints(max_frames), read_joints(path, size_of(clip.frame_paths[0]), grid)
    if not len(truth) <= len(predicted) <= len(clip):
        known = f"clip {clip.name} has {len(clip)}, {len(truth)} of them to score"
        raise UserError(f"{path}: {len(predicted)} frames, but {known}; is the order of the clips the same?")
    return pck(truth, predicted[: len(truth)])


def print_jhmdb(result: dict) -> None:
    """Print what `score_jhmdb` returned: a line a joint, then the means."""
    print(f"{'joint':14} {NAMES[0]:>8} {NAMES[1]:>8} counted   lost")
    for name, values in result["joints"].items():
        scores = " ".join("       -" if values[key] is None else f"{values[key]:8.4f}" for key in NAMES)
        print(f"{name:14} {scores} {values['counted']:7} {values['lost']:6}")
    print()
    for name in NAMES:
        print(f"{name:11} {result[name]:.4f}")
    lost = result["lost_joints"]
    print(f"lost joints {lost['count']} ({lost['share']:.2%}), skipped; {len(result['clips'])} clips")


def split_argument(text: str) -> int | Path | None:
    """A command line's split: a number, `all` (None), or the path of a file list."""
    return None if text == "all" else int(text) if text.isdecimal() else Path(text)


# --- Result files ---


def write_joints(path: str | Path, joints: np.ndarray, size: tuple[int, int]) -> None:
    """Write (T, 15, 2) pixels x, y of frames of `size` (H, W), in cells of GRID; x < 0 is lost, (-1, -1)."""
    joints = np.asarray(joints, dtype=np.float64)
    _check(path, joints.transpose(2, 1, 0) if joints.ndim == 3 else joints)
    cells = np.where(joints[..., :1] < 0, -1, joints * GRID / np.array(size[::-1]))
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.save(file, cells.transpose(2, 1, 0).astype(np.float32))


def read_joints(path: str | Path, size: tuple[int, int], grid: int = GRID) -> np.ndarray:
    """The joints of a result file, (T, 15, 2) float64 pixels x, y of frames of `size` (H, W); (-1, -1) where lost."""
    try:
        with open(path, "rb") as file:
            cells = _read_array(file)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # what is raised depends on which byte is damaged
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{path}: not a numeric array, npy or dumped ({reason}); write it again") from None
    _check(path, cells)
    outside = (cells > grid).any(axis=0)  # most joints: the file counts in another grid
    if outside.mean() > 0.5:
        raise UserError(f"{path}: places up to {cells.max():g} cells, but the grid is {grid}; give the file's own grid")
    joints = cells.transpose(2, 1, 0).astype(np.float64)
    return np.where(joints[..., :1] < 0, -1.0, joints / grid * np.array(size[::-1]))


def _check(path: str | Path, cells: np.ndarray) -> None:
    if cells.ndim != 3 or cells.shape[:2] != (2, len(JOINTS)) or not cells.shape[2] or cells.dtype.kind not in "fiu":
        raise UserError(f"{path}: {cells.shape}; expected numbers (2, J, T), x and y of {len(JOINTS)} joints a frame")
    if not np.isfinite(cells).all():
        raise UserError(f"{path}: holds values that are not finite; a lost joint is -1, -1")


def _read_array(file: BinaryIO) -> np.ndarray:
    if file.read(6) == b"\x93NUMPY":
        file.seek(0)
        return np.load(file, allow_pickle=False)
    file.seek(0)
    content = _ArrayUnpickler(file).load()
    if not isinstance(content, _Array):
        raise pickle.UnpicklingError(f"it holds {type(content).__name__}")
    return content.values


# An unpickler that knows no names but those a dumped array needs, each replaced by our own: neither code nor a crafted
# state of NumPy's classes can do anything.


class _Dtype:
    def __init__(self, name: str, *_: Any):
        if not re.fullmatch("[fiu][1248]", name):
            raise pickle.UnpicklingError(f"element type {name!r}")
        self.type = np.dtype(name)

    def __setstate__(self, state: tuple) -> None:
        if state[1] in ("<", ">"):
            self.type = self.type.newbyteorder(state[1])


class _Array:
    def __setstate__(self, state: tuple) -> None:
        _, shape, dtype, fortran, raw = state
        self.values = np.frombuffer(raw, dtype.type).reshape(shape, order="F" if fortran else "C")


def _from_buffer(raw: bytes, dtype: _Dtype, shape: tuple, order: str, axes: tuple | None = None) -> _Array:
    array = _Array()  # as protocol 5, Python 3.14's own, spells it
    array.__setstate__((None, shape, dtype, order == "F", raw))
    array.values = array.values if axes is None else array.values.transpose(axes)
    return array


KNOWN = {
    **{f"numpy.{core}.multiarray._reconstruct": lambda *_: _Array() for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _from_buffer for core in ("core", "_core")},
    "numpy.ndarray": _Array,
    "numpy.dtype": _Dtype,
    "_codecs.encode": lambda text, _: text.encode("latin1"),  # how protocol 2 spells bytes
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return KNOWN[f"{module}.{name}"]
