"""mIoU of predicted parts on VIP, as label propagation is scored (videowalk, Jabri et al. 2020; CropMAE).

Predictions: `DIR/{video}/{stem}.png`, one channel of class ids 0..19, stems as the annotations have them.
"""

from functools import partial
from pathlib import Path

import numpy as np

from lib.data.images import read_mask
from lib.data.sequences import MaskSequence
from lib.data.vip import CLASSES, VipDataset
from lib.errors import UserError
from lib.evaluation.miou import confusion, iou_per_class, mean_iou
from lib.score.files import check_options, each_sequence, nearest, prediction_paths


def score_vip(
    truth: str | Path, predictions: str | Path, split: str = "val", max_frames: int | None = None,
    include_first: bool = True, workers: int | None = None,
) -> dict:  # fmt: skip
    """Intersection over union of predicted parts: `truth` is a VIP root, `predictions` holds a folder a video.

    A prediction of another size is brought to the annotation's by nearest neighbour. Void pixels (255) do not count.
    The published numbers include frame 0, whose prediction is the given mask once coarsened to cells, so they flatter;
    `include_first=False` leaves it out. With `max_frames` only the first n annotated frames of each video exist; such
    numbers are not comparable with published ones. `workers`: videos at once, by default one a core.
    Returns `mIoU`, a fraction, the mean over the classes that truth or prediction shows, background included; `IoU`:
    {class: fraction, None if shown by neither}; `frames`, how many were scored; `include_first`.
    """
    check_options(predictions, workers=workers, max_frames=max_frames)
    dataset, predictions = VipDataset(truth, split), Path(predictions)
    scored = slice(0 if include_first else 1, max_frames)
    number = sum(len(sequence.stems[scored]) for sequence in dataset)
    if not number:
        raise UserError("no frame is left to score: without the first one, max_frames must be 2 or more")
    for sequence in dataset:
        if sequence.stems[scored]:
            prediction_paths(predictions, sequence, sequence.stems[scored])
    count = partial(_confusion_of_video, predictions=predictions, scored=scored)
    matrix = sum(each_sequence(count, dataset, workers))
    named = zip(CLASSES, iou_per_class(matrix).tolist(), strict=True)
    return {
        "mIoU": mean_iou(matrix),
        "IoU": {name: None if np.isnan(value) else value for name, value in named},
        "frames": number,
        "include_first": include_first,
    }


def _confusion_of_video(sequence: MaskSequence, predictions: Path, scored: slice) -> np.ndarray:
    matrix = np.zeros((len(CLASSES), len(CLASSES)), np.int64)
    for t in range(len(sequence))[scored]:
        path = predictions / sequence.name / f"{sequence.stems[t]}.png"
        predicted = read_mask(path)
        if predicted.max() >= len(CLASSES):
            raise UserError(f"{path}: id {predicted.max()}; write class ids 0..{len(CLASSES) - 1} in one channel")
        truth = sequence.mask(t)
        matrix += confusion(truth, nearest(predicted, truth.shape), len(CLASSES))
    return matrix


def print_vip(result: dict) -> None:
    """Print what `score_vip` returned: a line a class, then the mean."""
    print(f"{'class':14} {'IoU':>8}")
    for name, value in result["IoU"].items():
        print(f"{name:14} {'absent' if value is None else format(value, '.4f'):>8}")
    print(f"\n{'mIoU':14} {result['mIoU']:8.4f}")
    print(f"{result['frames']} frames, first of each video {'included' if result['include_first'] else 'left out'}")
