"""Correspondence without labels: how far off features match on the true flow of the toy world's DAVIS sequences."""

from collections.abc import Callable, Mapping

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
COLUMNS = {"moving_cells": "cells", "moving_within_one_cell": "share_within_cell",
           "moving_end_point_error": "end_point_error"}  # fmt: skip


@torch.inference_mode()
def match(
    davis: DavisDataset, features: Mapping[str, tuple[Callable[[Tensor], Tensor], int]], protocol: Protocol,
    seed: int = 0, device: str = "cpu",
) -> pd.DataFrame:  # fmt: skip
    """Cells of a frame matched to those `gap` frames later, over all sequences; those count that move more than a cell.

    `features`: name -> (feature_fn, patch size), as in FrameFeatures; the protocol gives the input size. Columns:
    `method`, `gap`, `cells` (that count), `share_within_cell` (percent), `end_point_error` (pixels). Last come three
    baselines, on the cells of the first method: "nothing moves", "random match" (drawn from `seed`) and "best possible
    cell", what choosing cells cannot beat.
    """
    flows = {
        (s.name, t, gap): [torch.from_numpy(part) for part in read_chained_flow(davis.root, s.name, t, t + gap)]
        for s in davis for t in STARTS for gap in GAPS if t + gap < len(s)
    }  # fmt: skip
    rows, baselines = [], []
    for method, (feature_fn, patch_size) in features.items():
        cells = {}
        for s in davis:
            frames = s.iter_frames(max(STARTS) + max(GAPS) + 1)
            cells[s.name] = [f.cpu() for f in FrameFeatures(frames, feature_fn, patch_size, protocol, device=device)]
        for gap in GAPS:
            of_gap = {(name, t): flow for (name, t, frames), flow in flows.items() if frames == gap}
            pairs = ((cells[name][t], cells[name][t + gap], *flow) for (name, t), flow in of_gap.items())
            scores = correspondence(pairs, moving_above=1, seed=seed)
            rows.append({"method": method, "gap": gap, **scores.pop("features")})
            if method == next(iter(features)):
                scores["best possible cell"] = scores.pop("nearest cell")
                baselines += [{"method": way, "gap": gap, **found} for way, found in scores.items()]
    table = pd.DataFrame(rows + baselines)
    table["moving_within_one_cell"] *= 100
    return table.rename(columns=COLUMNS)[["method", "gap", *COLUMNS.values()]]
