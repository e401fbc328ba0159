"""Score predicted files against a benchmark: `python -m lib.score davis --truth ROOT --predictions DIR`.

Whatever wrote the predictions, this project or another, they are read from the benchmark's own results
layout. Nothing is written into the data folders. One subcommand a benchmark.

Shape letters: `T` frames, `H W` pixels.
"""

import argparse
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from lib.data.davis import VOID, DavisDataset, DavisSequence
from lib.data.images import read_mask
from lib.errors import UserError, cli
from lib.evaluation import metrics
from lib.runtime import progress, write_json


def score_davis(
    truth: str | Path,
    predictions: str | Path,
    split: str = "val",
    year: int | None = None,
    max_frames: int | None = None,
    workers: int | None = None,
) -> dict:
    """J and F of predicted masks, as the official DAVIS-2017 semi-supervised evaluation computes them.

    `truth`: a DAVIS root. `predictions`: a folder with `{sequence}/00000.png`, palette or grey images of ids.
    The first and last frame of a sequence are not scored and their predictions not read. With `max_frames`
    only the first n frames of each sequence exist, so frames 1..n-2 (from 0) are scored; such numbers are not
    comparable with published ones. `workers`: threads, by default one a core.
    Returns `J_mean J_recall J_decay F_mean F_recall F_decay JF_mean` as fractions, means over objects, and
    `sequences`: {name: {id: the first six}}. Raises UserError for whatever is missing, unreadable, or does
    not fit the truth.
    """
    dataset, predictions = DavisDataset(truth, split, year), Path(predictions)
    if not predictions.is_dir():
        raise UserError(f"{predictions}: no such folder; give the folder that holds one folder a sequence")
    for name, value in (("workers", workers), ("max_frames", max_frames)):
        if value is not None and value < 1:
            raise UserError(f"{name} must be 1 or more, not {value}")
    for sequence in dataset:
        _check_present(sequence, predictions / sequence.name, max_frames)
    pool = ThreadPoolExecutor(workers or os.cpu_count())
    try:
        jobs = pool.map(partial(_score_sequence, predictions=predictions, max_frames=max_frames), dataset)
        objects = list(progress(jobs, "scoring", total=len(dataset)))
    finally:
        pool.shutdown(cancel_futures=True)
    sequences = {
        sequence.name: {str(index): values for index, values in enumerate(found, start=1)}
        for sequence, found in zip(dataset, objects, strict=True)
    }
    return {**metrics.summary([values for found in objects for values in found]), "sequences": sequences}


def _scored_paths(sequence: DavisSequence, folder: Path, max_frames: int | None) -> list[Path]:
    paths = sequence.mask_paths[:max_frames]
    if len(paths) < 3:
        raise UserError(f"{sequence.name}: {len(paths)} frames; at least 3 are needed, first and last do not count")
    return [folder / path.name for path in paths[metrics.SCORED]]


def _check_present(sequence: DavisSequence, folder: Path, max_frames: int | None) -> None:
    if not folder.is_dir():
        raise UserError(f"{folder}: no predictions for sequence {sequence.name}; write {folder.name}/00000.png, ...")
    missing = [path for path in _scored_paths(sequence, folder, max_frames) if not path.is_file()]
    if missing:
        raise UserError(f"{missing[0]}: missing prediction of {sequence.name} ({len(missing)} missing)")


def _score_sequence(sequence: DavisSequence, predictions: Path, max_frames: int | None) -> list[dict[str, float]]:
    truth = sequence.masks(max_frames)[metrics.SCORED]
    paths = _scored_paths(sequence, predictions / sequence.name, max_frames)
    predicted = np.stack([_read_prediction(path, sequence, truth.shape[1:]) for path in paths])
    return metrics.object_statistics(*metrics.score_sequence(truth, predicted, sequence.num_objects))


def _read_prediction(path: Path, sequence: DavisSequence, size: tuple[int, int]) -> np.ndarray:
    mask = read_mask(path)
    if sequence.single_object:
        mask = np.where(mask == VOID, np.uint8(1), mask)  # DAVIS-2016 results are grey 0/255
    if mask.shape != size:
        raise UserError(
            f"{path}: {mask.shape[1]}x{mask.shape[0]} pixels, but the annotation has {size[1]}x{size[0]}; "
            "resize predictions to the annotation's size"
        )
    if mask.max() > sequence.num_objects:
        raise UserError(
            f"{path}: id {mask.max()}, but the first annotation of {sequence.name} has {sequence.num_objects} "
            "object(s); write ids, 0 = background"
        )
    return mask


def _print_davis(result: dict) -> None:
    rows = [(name, index, values) for name, found in result["sequences"].items() for index, values in found.items()]
    width = max(len("sequence"), *(len(name) for name, _, _ in rows))
    print(f"{'sequence':{width}} object " + " ".join(f"{name:>8}" for name in metrics.STATISTICS))
    for name, index, values in rows:
        print(f"{name:{width}} {index:>6} " + " ".join(f"{values[key]:8.4f}" for key in metrics.STATISTICS))
    print()
    for key in (*metrics.STATISTICS, "JF_mean"):
        print(f"{key:8} {result[key]:.4f}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lib.score", description="Score predicted files.")
    benchmarks = parser.add_subparsers(dest="benchmark", required=True)
    davis = benchmarks.add_parser("davis", help="object masks: region J and boundary F")
    davis.add_argument("--truth", required=True, type=Path, help="DAVIS root: JPEGImages, Annotations, ImageSets")
    davis.add_argument("--predictions", required=True, type=Path, help="folder of {sequence}/00000.png")
    davis.add_argument("--split", default="val", help="list in ImageSets/{year}/ (default: val)")
    davis.add_argument("--year", type=int, help="2017 or 2016 (default: what ImageSets/ holds)")
    davis.add_argument("--max-frames", type=int, help="score only the first n frames of each sequence")
    davis.add_argument("--json", type=Path, help="also write the result to this file")
    davis.add_argument("--workers", type=int, help="threads (default: one a core)")
    return parser


@cli
def main(arguments: list[str] | None = None) -> None:
    """The command line; see `--help`. Exits with 2 and one line on stderr for an error of the user's."""
    args = _parser().parse_args(arguments)
    result = score_davis(args.truth, args.predictions, args.split, args.year, args.max_frames, args.workers)
    _print_davis(result)
    if args.json:
        write_json(args.json, result)


if __name__ == "__main__":
    sys.exit(main())
