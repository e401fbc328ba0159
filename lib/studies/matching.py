"""Correspondence without labels: how far off features match on the true flow of the toy world's DAVIS sequences."""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from lib.data.davis import DavisDataset
from lib.evaluation.correspondence import correspondence
from lib.evaluation.features import FrameFeatures
from lib.evaluation.protocols import Protocol
from lib.toyworld.flow import read_chained_flow

GAPS = (2, 4, 8, 16)  # frames
STARTS = (0, 8, 16)  # the first frames of pairs
BASELINES = {
    "nothing moves": "nothing moves",
    "random match": "random match",
    "nearest cell": "best possible cell",
}


@torch.inference_mode()
def match(
    davis: DavisDataset,
    features: Mapping[str, tuple[Callable[[Tensor], Tensor], int]],
    protocol: Protocol,
    gaps: Sequence[int] = GAPS,
    starts: Sequence[int] = STARTS,
    seed: int = 0,
    device: str = "cpu",
) -> pd.DataFrame:
    """Cells of a frame matched to those `gap` frames later, over all sequences; those count that move more than a cell.

    `features`: name -> (feature_fn, patch size), as in FrameFeatures; the protocol gives the input size. Columns:
    `method`, `gap`, `cells` (that count), `share_within_cell` (percent), `end_point_error` (pixels). Last come three
    baselines, on the cells of the first method: "nothing moves", "random match" (drawn from `seed`) and "best possible
    cell", what choosing cells cannot beat.
    """
    moments = [(s.name, t, gap) for gap in gaps for s in davis for t in starts if t + gap < len(s)]
    flows = {(name, t, gap): read_chained_flow(davis.root, name, t, t + gap) for name, t, gap in moments}
    flows = {moment: tuple(map(torch.from_numpy, arrays)) for moment, arrays in flows.items()}
    rows, baselines = [], []
    for method, (feature_fn, patch_size) in features.items():
        cells = {}
        for s in davis:
            frames = s.iter_frames(max(starts) + max(gaps) + 1)
            cells[s.name] = [f.cpu() for f in FrameFeatures(frames, feature_fn, patch_size, protocol, device=device)]
        for gap in gaps:
            chosen = [(name, t) for name, t, g in moments if g == gap]
            pairs = ((cells[name][t], cells[name][t + gap], *flows[name, t, gap]) for name, t in chosen)
            scores = correspondence(pairs, moving_above=1, seed=seed)
            rows.append({"method": method, "gap": gap, **_row(scores.pop("features"))})
            if method == next(iter(features)):
                baselines += [{"method": BASELINES[way], "gap": gap, **_row(s)} for way, s in scores.items()]
    return pd.DataFrame(rows + baselines)


def _row(scores: dict[str, float]) -> dict[str, float]:
    return {
        "cells": scores["moving_cells"],
        "share_within_cell": 100 * scores["moving_within_one_cell"],
        "end_point_error": scores["moving_end_point_error"],
    }
