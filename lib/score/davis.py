"""J and F of predicted object masks on DAVIS, as its official semi-supervised evaluation computes them.

Perazzi et al. 2016, Pont-Tuset et al. 2017. Predictions: `DIR/{sequence}/00000.png`, palette or grey images of ids.
"""

from collections.abc import Collection
from functools import partial
from pathlib import Path

import numpy as np

from lib.data.davis import VOID, DavisDataset
from lib.data.images import read_mask
from lib.data.sequences import MaskSequence
from lib.errors import UserError
from lib.evaluation import metrics
from lib.score.files import check_options, each_sequence, nearest, prediction_paths


def score_davis(
    truth: str | Path, predictions: str | Path, split: str = "val", year: int | None = None,
    max_frames: int | None = None, workers: int | None = None, resized_truth: tuple[int, int] | None = None,
) -> dict:  # fmt: skip
    """J and F of predicted masks: `truth` is a DAVIS root, `predictions` holds a folder a sequence.

    The first and last frame of a sequence are not scored and their predictions not read. With `max_frames` only the
    first n frames of each sequence exist; such numbers are not comparable with published ones. `workers`: sequences at
    once, by default one a core. `resized_truth` (H, W): truth and predictions are brought to this size by nearest
    neighbour first, as for CropMAE's and RSP's numbers (480 x 880). It is another measure: boundaries move, and F's
    tolerance grows with the diagonal.
    Returns `J_mean J_recall J_decay F_mean F_recall F_decay JF_mean` as fractions, means over objects, `sequences`:
    {name: {id: the first six}}, and `resized_truth` [H, W] where it is given.
    """
    return score_masks(DavisDataset(truth, split, year), predictions, max_frames, workers, resized_truth)


def score_masks(
    sequences: Collection[MaskSequence], predictions: str | Path, max_frames: int | None = None,
    workers: int | None = None, resized_truth: tuple[int, int] | None = None,
) -> dict:  # fmt: skip
    """As `score_davis` for any sequences: DAVIS's measures, not those that VSPW, UVO or KITTI publish."""
    check_options(predictions, workers=workers, max_frames=max_frames)
    if resized_truth is not None:
        resized_truth = tuple(resized_truth)
        if len(resized_truth) != 2 or min(resized_truth) < 2:
            raise UserError(f"resized_truth must be a height and a width of 2 or more, not {resized_truth}")
    predictions = Path(predictions)
    for sequence in sequences:
        number = len(sequence.stems[:max_frames])
        if number < 3:
            raise UserError(f"{sequence.name}: {number} frames; at least 3 are needed, first and last do not count")
        sequence.check_annotated(range(number))
        prediction_paths(predictions, sequence, _scored_stems(sequence, max_frames))
    score = partial(_score_sequence, predictions=predictions, max_frames=max_frames, resized_truth=resized_truth)
    objects = each_sequence(score, sequences, workers)
    named = {
        sequence.name: {str(index): values for index, values in enumerate(scores, start=1)}
        for sequence, scores in zip(sequences, objects, strict=True)
    }
    result = {**metrics.summary([values for scores in objects for values in scores]), "sequences": named}
    return result if resized_truth is None else {**result, "resized_truth": list(resized_truth)}


def _scored_stems(sequence: MaskSequence, max_frames: int | None) -> tuple[str, ...]:
    return sequence.stems[:max_frames][metrics.SCORED]


def _score_sequence(
    sequence: MaskSequence, predictions: Path, max_frames: int | None, resized_truth: tuple[int, int] | None
) -> list[dict[str, float]]:
    truth = sequence.masks(max_frames)[metrics.SCORED]
    size = resized_truth or truth.shape[1:]
    paths = prediction_paths(predictions, sequence, _scored_stems(sequence, max_frames))
    predicted = np.stack([_read_prediction(path, sequence, size, resized_truth is not None) for path in paths])
    truth = np.stack([nearest(mask, size) for mask in truth])
    return metrics.object_statistics(*metrics.score_sequence(truth, predicted, sequence.num_objects))


def _read_prediction(path: Path, sequence: MaskSequence, size: tuple[int, int], resize: bool) -> np.ndarray:
    mask = read_mask(path)
    if sequence.single_object:
        mask = np.where(mask == VOID, np.uint8(1), mask)  # DAVIS-2016 results are grey 0/255
    if resize:
        mask = nearest(mask, size)
    if mask.shape != size:
        sizes = f"{mask.shape[1]}x{mask.shape[0]} pixels, but the annotation has {size[1]}x{size[0]}"
        raise UserError(f"{path}: {sizes}; resize predictions to the annotation's size")
    if mask.max() > sequence.num_objects:
        known = f"the first annotation of {sequence.name} has {sequence.num_objects} object(s)"
        raise UserError(f"{path}: id {mask.max()}, but {known}; write ids, 0 = background")
    return mask


def print_davis(result: dict) -> None:
    """Print what `score_davis` returned: a line an object, then the means."""
    rows = [(name, index, values) for name, scores in result["sequences"].items() for index, values in scores.items()]
    width = max(len("sequence"), *(len(name) for name, _, _ in rows))
    print(f"{'sequence':{width}} object " + " ".join(f"{name:>8}" for name in metrics.STATISTICS))
    for name, index, values in rows:
        print(f"{name:{width}} {index:>6} " + " ".join(f"{values[key]:8.4f}" for key in metrics.STATISTICS))
    print()
    for key in (*metrics.STATISTICS, "JF_mean"):
        print(f"{key:8} {result[key]:.4f}")
    if "resized_truth" in result:
        height, width = result["resized_truth"]
        print(f"measured on truth resized to {height} x {width} (H x W), not on the native size")
