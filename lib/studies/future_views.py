"""What notebook 08 shows of the study of several frames: curves over the horizon, and rows of pictures.

`lines` is the study's table in wide form. Shapes: `G` horizons, `S` side of the crop.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

from lib.models.several_frames import SeveralFrames
from lib.studies.futures import baseline_frames, predicted_patches
from lib.studies.uncertainty_data import GAPS, Split
from lib.tokens.painting import paint_mask, paint_prediction
from lib.tokens.patches import normalize_images

Band = tuple[np.ndarray, np.ndarray, np.ndarray]


def bands(lines: pd.DataFrame, measure: str, names: Mapping[str, str]) -> dict[str, Band]:
    """For each named row, in other words, its errors over the horizon: mean, lowest and highest of the seeds, (G,)."""
    found = {}
    for name, words in names.items():
        values = lines.loc[lines["row"] == name, [f"{measure} +{gap}" for gap in GAPS]].to_numpy(float)
        found[words] = values.mean(axis=0), values.min(axis=0), values.max(axis=0)
    return found


def crossing(ours: Band, theirs: Band) -> int | None:
    """The first horizon from which on our mean is below theirs; None if at the last it is not."""
    below = ours[0] < theirs[0]
    if not below[-1]:
        return None
    return GAPS[int(len(below) - np.argmin(below[::-1])) if not below.all() else 0]


def picture_rows(
    models: Mapping[str, tuple[SeveralFrames, int, bool]], split: Split, shown: Sequence[int]
) -> dict[str, list[Tensor | None]]:
    """One past's rows: the truth, what is seen of it, each model's paintings, and what needs no model; `shown` are
    numbers of horizons. models: name -> (model of pixels, futures at once, rolled).
    """
    size = next(iter(models.values()))[0].patch_size
    past, truth = normalize_images(split.futures.past[0]), normalize_images(split.futures.future[0])
    hidden = split.mask.hidden[0]  # (G, N)
    rows = {
        "truth": [past, *truth[list(shown)]],
        "seen": [past, *paint_mask(truth, hidden, size)[list(shown)]],
    }  # fmt: skip
    for name, (model, number, rolled) in models.items():
        patches = predicted_patches(model, split, number, 1, rolled)[0]
        rows[name] = [None, *paint_prediction(truth, patches, hidden, size, model.norm_pix)[list(shown)]]
    for name in ("copy of the past", "linear flow"):
        rows[name] = [None, *baseline_frames(split.futures, name, size)[0][list(shown)]]
    return rows
