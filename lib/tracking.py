"""Predictions of a whole data set, in the files that scorers read; a run that was stopped goes on after what is done.

A tracker is a function of a video's frames and its first annotation that yields one prediction a frame, such as
`partial(propagate_masks, feature_fn=..., patch_size=..., protocol=...)`. Sequences are read one at a time and frames as
they are asked for, so memory does not grow with the data set or the video.

Shape letters: `H W` pixels.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from lib.data.images import write_mask
from lib.data.jhmdb import JhmdbDataset, JointClip
from lib.data.sequences import MaskSequence
from lib.data.vip import write_parts
from lib.errors import UserError
from lib.runtime import atomic_path, progress, write_json
from lib.scoring.jhmdb import write_joints

RECORD = "settings.json"
Tracker = Callable[[Iterable[np.ndarray], np.ndarray], Iterator[np.ndarray]]


def track_masks(
    sequences: Iterable[MaskSequence],
    tracker: Tracker,
    folder: str | Path,
    settings: dict,
    max_frames: int | None = None,
) -> Path:
    """Write `folder/{sequence}/{stem}.png`, palette images of object ids, as the DAVIS evaluation reads them.

    `tracker(frames, first_mask)`: (H, W, 3) uint8 each and (H, W) uint8 ids -> (H, W) uint8 ids each, frame 0 included.
    `settings`, whatever JSON can hold, say what the predictions depend on. They are kept in `folder/settings.json`.
    Called again with the same settings it continues after the sequences that are done; with others it starts anew.
    Returns `folder`. Raises UserError if `folder` holds files that are not such a run's, and for unreadable data.
    """
    jobs = [(sequence.name, partial(_write_masks, sequence, tracker, write_mask, max_frames)) for sequence in sequences]
    return _write_all(jobs, Path(folder), {**settings, "max_frames": max_frames})


def track_parts(
    sequences: Iterable[MaskSequence],
    tracker: Tracker,
    folder: str | Path,
    settings: dict,
    max_frames: int | None = None,
) -> Path:
    """As `track_masks` for class ids: grey images of ids 0..19, as VIP's scorers read them."""
    jobs = [
        (sequence.name, partial(_write_masks, sequence, tracker, write_parts, max_frames)) for sequence in sequences
    ]
    return _write_all(jobs, Path(folder), {**settings, "max_frames": max_frames})


def track_joints(
    clips: JhmdbDataset, tracker: Tracker, folder: str | Path, settings: dict, grid: int, max_frames: int | None = None
) -> Path:
    """As `track_masks` for keypoints: `folder/{index}.dat`, joints in cells of `grid` x `grid`, as PCK scorers read.

    `tracker(frames, first_joints)`: frames and (15, 2) pixels x, y -> (15, 2) pixels each, (-1, -1) where lost.
    """
    jobs = [(f"{i}.dat", partial(_write_joints, clip, tracker, grid, max_frames)) for i, clip in enumerate(clips)]
    return _write_all(jobs, Path(folder), {**settings, "grid": grid, "max_frames": max_frames})


def fingerprint(model: nn.Module) -> str:
    """A short name of the model's weights, for `settings`: equal weights have equal names."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().float().numpy().tobytes())
    return digest.hexdigest()[:16]


def _write_all(jobs: list[tuple[str, Callable[[Path], None]]], folder: Path, settings: dict) -> Path:
    """Write each job's result at `folder/{name}`, whole or not at all, except those that are there."""
    settings = json.loads(json.dumps(settings))  # as it will be read again
    if folder.exists() and _settings_of(folder) != settings:
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*.partial*"):  # by a run that was killed while it wrote
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    write_json(folder / RECORD, settings)
    todo = [(name, write) for name, write in jobs if not (folder / name).exists()]
    for name, write in progress(todo, folder.name, total=len(jobs), initial=len(jobs) - len(todo)):
        with atomic_path(folder / name) as temporary:
            write(temporary)
    return folder


def _settings_of(folder: Path) -> dict | None:
    """The settings of the predictions in `folder`; None if they are unknown, and nothing else would be lost."""
    try:
        return json.loads((folder / RECORD).read_text())
    except FileNotFoundError:
        if folder.is_dir() and not any(folder.iterdir()):
            return None
        raise UserError(f"{folder}: not a folder of predictions (no {RECORD}); choose another or delete it") from None
    except ValueError:
        return None  # a damaged record belongs to predictions of nobody knows what


def _write_masks(
    sequence: MaskSequence, tracker: Tracker, write: Callable, max_frames: int | None, folder: Path
) -> None:
    folder.mkdir()
    masks = tracker(sequence.iter_frames(max_frames), sequence.first_mask())
    for stem, mask in zip(sequence.stems[:max_frames], masks, strict=True):
        write(folder / f"{stem}.png", mask)


def _write_joints(clip: JointClip, tracker: Tracker, grid: int, max_frames: int | None, path: Path) -> None:
    size = clip.frame(0).shape[:2]
    joints = np.stack(list(tracker(clip.iter_frames(max_frames), clip.joints(1)[0])))
    write_joints(path, joints, size, grid)
