"""What the scores of masks have in common: result files, ids of another size, sequences scored in parallel."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
from PIL import Image

from lib.data.sequences import MaskSequence
from lib.errors import UserError
from lib.runtime import progress


def check_options(predictions: str | Path, **counts: int | None) -> None:
    """`predictions` must be a folder, and each of `counts` None or at least 1."""
    if not Path(predictions).is_dir():
        raise UserError(f"{predictions}: no such folder; give the folder that holds one folder a sequence")
    for name, value in counts.items():
        if value is not None and value < 1:
            raise UserError(f"{name} must be 1 or more, not {value}")


def prediction_paths(predictions: Path, sequence: MaskSequence, stems: Sequence[str]) -> list[Path]:
    """The result files `{predictions}/{sequence}/{stem}.png`, which must all be there."""
    folder = predictions / sequence.name
    if not folder.is_dir():
        raise UserError(f"{folder}: no predictions for sequence {sequence.name}; write {stems[0]}.png, ... there")
    paths = [folder / f"{stem}.png" for stem in stems]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UserError(f"{missing[0]}: missing prediction of {sequence.name} ({len(missing)} missing)")
    return paths


def nearest(ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 ids at another `size` (H, W), each pixel the id under its centre, as Pillow's NEAREST picks it."""
    if ids.shape == tuple(size):
        return ids
    return np.array(Image.fromarray(ids).resize(size[::-1], Image.Resampling.NEAREST))


def each_sequence(score: Callable, sequences: Collection[MaskSequence], workers: int | None) -> list:
    """`score` of every sequence, in order, `workers` (default: one a core) at a time. The first error ends it.

    Where they can be forked the workers are processes: threads would wait for each other between NumPy's short calls.
    Elsewhere they are threads, because a fresh process imports for longer than most sequences take.
    """
    workers = min(workers or os.cpu_count() or 1, len(sequences))
    if workers > 1 and sys.platform == "linux":
        pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("fork"))
    else:
        pool = ThreadPoolExecutor(workers)
    try:
        return list(progress(pool.map(score, sequences), "scoring", total=len(sequences)))
    except BrokenProcessPool:
        raise UserError(f"a worker was killed, perhaps for want of memory; give fewer workers than {workers}") from None
    finally:
        pool.shutdown(cancel_futures=True)
