"""Uncertainty of SiamMAE's predictions, evaluated: of many models, of all estimators, and in tracking.

`python -m lib.studies uncertainty --data data/toy --out runs/uncertainty`

Every row of lib.studies.uncertainty_runs is trained on the toy world's Kinetics clips and measured on clips that no
model has seen; then come the estimators that need several models or passes, and label propagation weighted by
confidence. J&F is in percent.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib import presets
from lib.data.davis import DavisDataset
from lib.evaluation.intervals import trend
from lib.evaluation.masks import propagate_masks
from lib.evaluation.protocols import get_protocol
from lib.evaluation.uncertainty_report import Report, compare
from lib.models.confidence import FrameConfidence
from lib.models.siammae import SiamMAE
from lib.models.uncertainty import DeepEnsemble, FreshMasks, MCDropout, SingleModel, VisibleSubsets
from lib.runtime import write_json
from lib.score.davis import score_masks
from lib.score.tracking import fingerprint, track_masks
from lib.studies import uncertainty_measures as measures
from lib.studies import uncertainty_runs as runs
from lib.studies.grid import Row, run_folder, run_grid
from lib.studies.table import records
from lib.studies.uncertainty_runs import DEFAULT, DROPOUT, MEMBERS, Study, trained

ENSEMBLE = f"ensemble of {MEMBERS}"
ESTIMATORS = {
    "MC dropout": lambda study: MCDropout(trained(study, DROPOUT, 0)),
    ENSEMBLE: lambda study: DeepEnsemble([trained(study, DEFAULT, seed) for seed in range(MEMBERS)]),
    "visible subsets": lambda study: VisibleSubsets(trained(study, DEFAULT, 0)),
    "fresh masks": lambda study: FreshMasks(trained(study, DEFAULT, 0)),
}
WEIGHTINGS = {"confidence, s = 1": 1.0, "confidence, s = 4": 4.0, "shuffled, s = 4": 4.0}  # sharpness s
ROWS = (
    *runs.ROWS,
    *(Row(name, seeds=1, stage=1) for name in (*ESTIMATORS, *measures.BASELINES)),
    *(Row(name, stage=1) for name in WEIGHTINGS),
)

# Rows as tables have them: for `lib.studies.table.chosen`.
HEADS = (
    "beta 0.5", "beta 0", "beta 1", "beta 1, head detached", "beta 0.5, gap unknown", "evidential", "dropout 0.1",
    "beta 0.5, 4 times as long", "4 times, memory with positions", "10 times, memory with positions", "plain SiamMAE",
)  # fmt: skip
MASKINGS = {
    "beta 0.5": "uniform random",
    "easy-first": "easy-first",
    "hard-first": "hard-first",
    "curriculum": "curriculum",
    "true motion shown": "true motion shown",
    "AdaMAE's sampler": "AdaMAE's sampler",
}


def run(data: Path, out: Path, epochs: float | None, rows: Sequence[Row], seeds: int, **grid) -> pd.DataFrame | None:
    """The study on the toy world at `data`; `grid`: minutes of run_grid."""
    study = runs.prepare(data, presets.get(presets.SIAMMAE, "toy", epochs=epochs), out)
    rows = [replace(row, seeds=max(seeds, MEMBERS)) if row == DEFAULT else row for row in rows]
    return run_grid(rows, seeds, partial(measure_row, study), out, about=f"{data.name} {study.preset}", **grid)


def measure_row(study: Study, row: Row, seed: int, folder: Path) -> list[dict]:
    """A trained model, an estimator or a baseline, or a weighting in label propagation."""
    if row.name in WEIGHTINGS:
        return records(propagation(study, row.name, seed, folder))
    if row.name in ESTIMATORS:
        return records(estimator(study, row.name))
    if row.name in measures.BASELINES:
        return records(baseline(study, row.name).row)
    model, losses = runs.train_model(study, row, seed, folder)
    report = measures.evaluate_estimator(SingleModel(model), study.test, study.calibration, study.gaps)
    write_json(folder / "per_clip.json", report.per_clip)
    metrics = tracked(study, model, folder) | report.row | growth(study, model)
    return records(metrics, step=len(losses), seconds=sum(record["seconds"] for record in losses))


def growth(study: Study, model: SiamMAE) -> dict[str, float]:
    """Does sigma rise with the gap? Kendall's tau with its interval, sigma at the first and last gap, upward steps."""
    rise = trend(measures.by_gap(SingleModel(model), study.test)["sigma"])
    row = {"gap_kendall": rise.kendall.value, "gap_low": rise.kendall.low, "gap_high": rise.kendall.high}
    row |= {"sigma_first_gap": rise.mean.value[0], "sigma_last_gap": rise.mean.value[-1]}
    return {name: float(value) for name, value in row.items()} | {"gap_steps_up": int((rise.steps.value > 0).sum())}


def tracked(study: Study, model: SiamMAE, folder: Path, confidence_fn: Callable | None = None) -> dict[str, float]:
    """J&F on the toy world's DAVIS for each of the preset's blocks; nothing where there is no DAVIS."""
    davis_root = study.root.parent / "davis2017"
    if not davis_root.is_dir():
        return {}
    davis, scores = DavisDataset(davis_root), {}
    protocol = get_protocol(study.preset.protocol, "davis", input_size=study.preset.eval_size)
    for block in study.preset.blocks:
        features = partial(model.features, block=block)
        tracker = partial(
            propagate_masks, feature_fn=features, patch_size=model.patch_size, protocol=protocol,
            device=next(model.parameters()).device, confidence_fn=confidence_fn,
        )  # fmt: skip
        settings, to = {"weights": fingerprint(model), "block": block}, folder / f"davis-block{block}"
        predictions = track_masks(davis, tracker, to, settings, workers=torch.get_num_threads())
        scores[f"JF_block{block}"] = 100 * score_masks(davis, predictions)["JF_mean"]
    return scores


def estimator(study: Study, name: str) -> dict[str, float]:
    """Numbers of several models or passes; the ensemble also against its best member, by NLL as predicted."""
    report = measures.evaluate_estimator(ESTIMATORS[name](study), study.test, study.calibration, study.gaps)
    if name != ENSEMBLE:
        return report.row
    folders = [run_folder(study.out, DEFAULT.name, seed) for seed in range(MEMBERS)]
    members = [json.loads((folder / "per_clip.json").read_text()) for folder in folders]
    best = min(members, key=lambda member: np.mean(member["nll_raw"]))
    names = ("nll_against_best", "nll_against_best_low", "nll_against_best_high")
    return report.row | dict(zip(names, compare(report.per_clip, best, "nll_raw"), strict=True))


def baseline(study: Study, name: str) -> Report:
    """A simple baseline around the default model's own mean."""
    single, both = SingleModel(trained(study, DEFAULT, 0)), []
    for split in (study.test, study.calibration):
        both.append(measures.with_baseline(measures.estimate(single, split, study.gaps), split, study.gaps, name))
    return measures.evaluate_estimates(tuple(both), study.test, study.gaps)


def propagation(study: Study, name: str, seed: int, folder: Path) -> dict[str, float]:
    """J&F of one model with neighbours weighted by its confidence, or by the same numbers shuffled."""
    model = trained(study, DEFAULT, seed)
    confidence = FrameConfidence(model, study.preset.eval_size, WEIGHTINGS[name])
    return tracked(study, model, folder, partial(shuffled, confidence) if "shuffled" in name else confidence)


def shuffled(confidence: FrameConfidence, frames: Iterable[np.ndarray]) -> Iterable[Tensor]:
    """The confidences at random places of each frame: what weighting does that knows nothing."""
    generator = torch.Generator().manual_seed(0)
    for cells in confidence(frames):
        yield cells.flatten()[torch.randperm(cells.numel(), generator=generator)].view(cells.shape)
