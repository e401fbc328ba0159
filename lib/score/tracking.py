"""Predictions of a whole data set, in the files that scorers read; a run that was stopped goes on after what is done.

A tracker is a function of a video's frames and its first annotation that yields one prediction a frame, such as
`partial(propagate_masks, feature_fn=..., patch_size=..., protocol=...)`. Frames are read when the tracker takes them.
One process at a time writes to a folder.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lib.data.images import write_mask
from lib.data.jhmdb import JhmdbDataset, JointClip
from lib.data.sequences import MaskSequence
from lib.data.vip import write_parts
from lib.errors import UserError
from lib.runtime import atomic_path, in_threads, progress, write_json
from lib.score.jhmdb import GRID, write_joints

RECORD = "settings.json"
PARTIAL = ".*.[0-9]*.partial*"  # what `atomic_path` leaves behind when the process is killed
Tracker = Callable[[Iterable[np.ndarray], np.ndarray], Iterator[np.ndarray]]


def track_masks(
    sequences: Iterable[MaskSequence], tracker: Tracker, folder: str | Path, settings: dict,
    max_frames: int | None = None, workers: int = 1,
) -> Path:  # fmt: skip
    """Write `folder/{sequence}/{stem}.png`, palette images of object ids, as the DAVIS evaluation reads them.

    `tracker(frames, first_mask)`: (H, W, 3) uint8 each and (H, W) uint8 ids -> (H, W) uint8 ids each, frame 0 included.
    `settings`, whatever JSON can hold, say what the predictions depend on, and lie in `folder/settings.json`. Called
    again with the same settings it continues after the sequences that are done; with others it starts anew.
    `workers`: sequences at once, each on one core; with 1 PyTorch's own threads divide the work. Returns `folder`.
    An error, such as a full disk, leaves what is done by then; a folder with files of no such run is refused.
    """
    if max_frames is not None and max_frames < 1:
        raise UserError(f"max_frames {max_frames} leaves no frame; give 1 or more")
    jobs = {s.name: partial(_write_objects, s, tracker, max_frames) for s in sequences}
    return _write_all(jobs, Path(folder), settings, workers, max_frames)


def track_parts(
    sequences: Iterable[MaskSequence], tracker: Tracker, folder: str | Path, settings: dict, workers: int = 1
) -> Path:
    """As `track_masks` for class ids, which may skip: grey images of ids 0..19, as VIP's scorers read them.

    Published scores count frame 0 as the cells hold it: the tracker's `keep_first` should be False.
    """
    jobs = {s.name: partial(_write_masks, s, tracker, write_parts) for s in sequences}
    return _write_all(jobs, Path(folder), settings, workers)


def track_joints(clips: JhmdbDataset, tracker: Tracker, folder: str | Path, settings: dict, workers: int = 1) -> Path:
    """As `track_masks` for keypoints: `folder/{index}.dat`, joints in cells of GRID x GRID, as PCK scorers read.

    `tracker(frames, first_joints)`: frames and (15, 2) pixels x, y -> (15, 2) pixels each, (-1, -1) where lost.
    Files are matched with clips by their number alone, so the clips' names are part of the settings.
    """
    jobs = {f"{i}.dat": partial(_write_joints, clip, tracker) for i, clip in enumerate(clips)}
    names = [f"{clip.class_name}/{clip.name}" for clip in clips]
    return _write_all(jobs, Path(folder), {**settings, "grid": GRID, "clips": names}, workers)


def fingerprint(model: nn.Module) -> str:
    """A short name of the model's weights, for `settings`: equal weights have equal names."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


# --- Folders of predictions ---


def _write_all(
    jobs: dict[str, Callable[[Path], None]], folder: Path, settings: dict, workers: int, max_frames: int | None = None
) -> Path:
    """Write each job's result at `folder/{name}`, whole or not at all, except those that are there."""
    for name in jobs:
        if name.startswith(".") or Path(name).name != name:
            raise UserError(f"{name!r} cannot be the name of a sequence's results in {folder}; rename it")
    settings = json.loads(json.dumps({**settings, "max_frames": max_frames}))  # as it will be read again
    if _settings_of(folder) != settings:
        _clear(folder)
        write_json(folder / RECORD, settings)
    _remove_partial(folder)
    todo = [name for name in jobs if not (folder / name).exists()]

    def do(name: str) -> None:
        with atomic_path(folder / name) as temporary:
            jobs[name](temporary)

    for _ in progress(in_threads(do, todo, workers), folder.name, total=len(jobs), initial=len(jobs) - len(todo)):
        pass
    return folder


def _settings_of(folder: Path) -> dict | None:
    """The settings of the predictions in `folder`; None if it does not exist or is empty."""
    if not folder.exists() or folder.is_dir() and set(folder.iterdir()) == set(folder.glob(PARTIAL)):
        return None
    try:
        settings = json.loads((folder / RECORD).read_text())
        # other programs, too, have files of this name
        reason = "" if isinstance(settings, dict) and "max_frames" in settings else f"{RECORD} is another program's"
    except OSError:
        reason = f"no {RECORD}"
    except (ValueError, RecursionError):
        reason = f"{RECORD} is damaged"
    if reason:  # then nobody knows what would be lost
        raise UserError(f"{folder}: not a folder of predictions ({reason}); choose another or delete it")
    return settings


def _clear(folder: Path) -> None:
    """Remove a run's results, if nothing else is there. Killed on the way, it leaves some of them, each whole."""
    results = [path for path in folder.glob("*") if path.name != RECORD and not path.match(PARTIAL)]
    foreign = [path for path in results if not _is_result(path)]
    if foreign:
        raise UserError(f"{foreign[0]}: not a prediction, but other settings start {folder} anew; move one of them")
    for path in results:
        path.rename(path.with_name(f".{path.stem}.0.partial{path.suffix}"))
    _remove_partial(folder)


def _is_result(path: Path) -> bool:
    if path.is_symlink() or not path.is_dir():
        return path.suffix == ".dat" and path.is_file()
    return all(inner.suffix == ".png" and inner.is_file() for inner in path.iterdir())


def _remove_partial(folder: Path) -> None:
    for path in folder.glob(PARTIAL):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


# --- One result each ---


def _write_objects(sequence: MaskSequence, tracker: Tracker, max_frames: int | None, folder: Path) -> None:
    _ = sequence.num_objects  # refuses ids that skip one, as the scorers would when all is done
    _write_masks(sequence, tracker, write_mask, folder, max_frames)


def _write_masks(
    sequence: MaskSequence, tracker: Tracker, write: Callable, folder: Path, max_frames: int | None = None
) -> None:
    folder.mkdir()
    masks = tracker(sequence.iter_frames(max_frames), sequence.first_mask())
    stems = sequence.stems[:max_frames]
    for stem, mask in zip(stems, masks, strict=True):
        write(folder / f"{stem}.png", mask)
    if len(list(folder.iterdir())) < len(stems):  # another run took them for a killed one's
        raise UserError(f"{folder.parent}: another run cleared masks of {sequence.name}; let one end, then start again")


def _write_joints(clip: JointClip, tracker: Tracker, path: Path) -> None:
    joints = np.stack(list(tracker(clip.iter_frames(), clip.joints(1)[0])))
    write_joints(path, joints, clip.frame(0).shape[:2])
