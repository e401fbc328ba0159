"""Trained encoders on held-out data, as notebooks 03, 06 and 11 show them: does SiamMAE look at the past, which frames
and predictions are shown, where attention goes, how far off features match. Shapes: `H W` pixels, `h w` patch grid.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.data.clips import FramePairs, collate_pairs
from lib.data.davis import DavisDataset
from lib.data.images import read_mask
from lib.data.jhmdb import JhmdbDataset
from lib.data.sequences import SequenceDataset
from lib.evaluation.correspondence import correspondence
from lib.evaluation.features import FrameFeatures
from lib.evaluation.protocols import Protocol, input_size
from lib.models.attention import attention_maps, query_map
from lib.models.siammae import SiamMAE
from lib.score.jhmdb import read_joints
from lib.tokens.painting import model_free_predictions
from lib.tokens.patches import normalize_images, target_patches
from lib.toyworld.flow import read_chained_flow

FRAMES = 6  # of an excerpt
GAPS = (2, 4, 8, 16)  # frames between those that are matched
STARTS = (0, 8, 16)  # the first frames of pairs
MATCH_COLUMNS = {"moving_cells": "cells", "moving_within_one_cell": "share_within_cell",
                 "moving_end_point_error": "end_point_error"}  # fmt: skip


def losses_by_past(model: SiamMAE, pairs: FramePairs, draws: int, seed: int) -> pd.DataFrame:
    """Loss on hidden patches of each clip, a mean over `draws` pairs, from each past and each guess that needs none.

    All see the same future frames under the same masks; one draw is in memory at a time. Columns `prediction from`,
    `clip`, `loss`.
    """
    device, clips, losses = next(model.parameters()).device, len(pairs), {}
    torch.manual_seed(seed)
    for draw in range(draws):
        batch = collate_pairs([pairs[draw * clips + clip] for clip in range(clips)])
        past, future = (normalize_images(batch[name]).to(device) for name in ("past", "future"))
        black = normalize_images(batch["past"] * 0).to(device)
        pasts = {"true past": past, "another clip's past": past.roll(1, 0), "black past": black}
        with torch.inference_mode():
            mask = model.predict(past, future)[1]
            predictions = {name: model.predict(given, future, mask)[0] for name, given in pasts.items()}
        predictions |= model_free_predictions(past, future, model.patch_size, model.norm_pix)
        target = target_patches(future, model.patch_size, model.norm_pix)
        for name, prediction in predictions.items():
            errors = (prediction.float() - target).square().mean(2) * mask.hidden
            losses[name] = losses.get(name, 0) + (errors.sum(1) / mask.hidden.sum(1)).cpu() / draws
    table = pd.DataFrame(losses).rename_axis("clip").reset_index()
    return table.melt("clip", var_name="prediction from", value_name="loss")


def excerpt(
    dataset: SequenceDataset, index: int, folder: Path, max_frames: int | None = None
) -> tuple[np.ndarray, Sequence[np.ndarray], Sequence[np.ndarray]]:
    """FRAMES of one video from its first to its last scored one, with the truth and the prediction in `folder`.

    Masks (H, W) have the ids 0, 1, ... in the order of those in frame 0, 0 for any other; joints are (15, 2) pixels.
    """
    video = dataset.sequences[index]
    is_joints = isinstance(dataset, JhmdbDataset)
    scored = len(video.joints(max_frames) if is_joints else video.stems[:max_frames])
    times = np.linspace(0, scored - 1, FRAMES).round().astype(int)
    if is_joints:
        predicted = read_joints(folder / f"{index % len(dataset)}.dat", video.frame(0).shape[:2])
        return times, video.joints()[times], predicted[times]
    known = np.unique(video.first_mask())

    def numbered(ids: np.ndarray) -> np.ndarray:
        return np.where(np.isin(ids, known), np.searchsorted(known, ids), 0)

    written = [read_mask(folder / video.name / f"{video.stems[t]}.png") for t in times]
    return times, [numbered(video.mask(t)) for t in times], [numbered(ids) for ids in written]


def head_maps(
    encoder: nn.Module, frame: np.ndarray, protocol: Protocol, query: str | tuple[float, float]
) -> np.ndarray:
    """Attention of the last block among a frame's patches, in multiples of uniform attention: (heads, h, w).

    `frame`: (H, W, 3) uint8. `query`: "cls", or the patch at a place (y, x), fractions of the frame.
    """
    size = input_size(frame.shape[:2], encoder.patch_size, protocol)
    grid = tuple(side // encoder.patch_size for side in size)
    image = torch.from_numpy(frame).permute(2, 0, 1)[None].float().to(next(encoder.parameters()).device) / 255
    image = normalize_images(F.interpolate(image, size, mode="bilinear"))
    patch = query if query == "cls" else tuple(int(part * side) for part, side in zip(query, grid, strict=True))
    return query_map(attention_maps(encoder, image), grid, patch)[0].cpu().numpy() * grid[0] * grid[1]


@torch.inference_mode()
def match(
    davis: DavisDataset, features: Mapping[str, tuple[Callable[[Tensor], Tensor], int]], protocol: Protocol,
    seed: int = 0, device: str = "cpu",
) -> pd.DataFrame:  # fmt: skip
    """Cells of a frame of the toy world matched to those `gap` frames later; those count that move more than a cell.

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
    return table.rename(columns=MATCH_COLUMNS)[["method", "gap", *MATCH_COLUMNS.values()]]
