"""Uncertainty of SiamMAE's predictions, evaluated: of many models, of all estimators, and in tracking.

Every row of MODELS is trained on the toy world's Kinetics clips and measured on clips that no model has seen; then come
the estimators that need several models or passes, simple baselines, and label propagation weighted by confidence.
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
from lib.checkpoints import Record, load_weights
from lib.data.clips import collate_pairs
from lib.data.davis import DavisDataset
from lib.evaluation.intervals import trend
from lib.evaluation.masks import propagate_masks
from lib.evaluation.protocols import get_protocol
from lib.evaluation.uncertainty_report import compare
from lib.models.adaptive_sampler import AdaptiveMasking
from lib.models.confidence import FrameConfidence
from lib.models.evidential import EvidentialSiamMAE
from lib.models.guided_masking import GuidedSiamMAE
from lib.models.siammae import SiamMAE
from lib.models.uncertainty import DeepEnsemble, FreshMasks, MCDropout, SingleModel, VisibleSubsets
from lib.models.variance_heads import GaussianSiamMAE
from lib.runtime import write_json
from lib.score.davis import score_masks
from lib.score.tracking import fingerprint, track_masks
from lib.studies import uncertainty_measures as measures
from lib.studies.frame_pairs import training_pairs
from lib.studies.grid import Row, run_folder, run_grid
from lib.studies.table import records
from lib.studies.uncertainty_data import Study, prepare
from lib.toyworld.pairs import MovingPairs
from lib.training import fit

MEMBERS = 5  # of the ensemble

# Rows of other classes name them; changes are arguments of the model. `variant` is that of AdaMAE's sampler.
POSITIONS = {"beta": 0.5, "memory_positions": True}
DEFAULT = Row("beta 0.5", {"beta": 0.5}, seeds=MEMBERS)
PLAIN = Row("plain SiamMAE", model=SiamMAE)
DROPOUT = Row("dropout 0.1", {"dropout": 0.1}, seeds=1)
MODELS = (
    DEFAULT,
    PLAIN,
    Row("beta 1, head detached", {"beta": 1.0, "detach_input": True}, seeds=1),
    Row("beta 0.5, gap unknown", {"beta": 0.5, "knows_gap": False}, seeds=1),
    Row("beta 0.5, 4 times as long", {"beta": 0.5}, length=4, seeds=1),
    Row("4 times, memory with positions", POSITIONS, length=4, seeds=1),
    Row("10 times, memory with positions", POSITIONS, length=10, seeds=1),
    Row("beta 0", {"beta": 0.0}, seeds=1),
    Row("beta 1", {"beta": 1.0}, seeds=1),
    Row("evidential", model=EvidentialSiamMAE, seeds=1),
    DROPOUT,
    Row("easy-first", {"order": "easy-first"}, GuidedSiamMAE),
    Row("hard-first", {"order": "hard-first"}, GuidedSiamMAE),
    Row("curriculum", {"order": "curriculum"}, GuidedSiamMAE),
    Row("true motion shown", {"order": "easy-first", "score": "batch"}, GuidedSiamMAE),
    Row("AdaMAE's sampler", {"variant": "ours"}),
)
ENSEMBLE = f"ensemble of {MEMBERS}"
ESTIMATORS = {
    "MC dropout": lambda study: MCDropout(trained(study, DROPOUT, 0)),
    ENSEMBLE: lambda study: DeepEnsemble([trained(study, DEFAULT, seed) for seed in range(MEMBERS)]),
    "visible subsets": lambda study: VisibleSubsets(trained(study, DEFAULT, 0)),
    "fresh masks": lambda study: FreshMasks(trained(study, DEFAULT, 0)),
}
WEIGHTINGS = {"confidence, s = 1": 1.0, "confidence, s = 4": 4.0, "shuffled, s = 4": 4.0}  # sharpness s
ROWS = (
    *MODELS,
    *(Row(name, seeds=1, stage=1) for name in (*ESTIMATORS, *measures.BASELINES)),
    *(Row(name, stage=1) for name in WEIGHTINGS),
)

# Rows as tables have them: for `lib.studies.table.chosen`.
HEADS = (
    "beta 0.5", "beta 0", "beta 1", "beta 1, head detached", "beta 0.5, gap unknown", "evidential", "dropout 0.1",
    "beta 0.5, 4 times as long", "4 times, memory with positions", "10 times, memory with positions", "plain SiamMAE",
)  # fmt: skip
MASKINGS = {"beta 0.5": "uniform random"} | {
    name: name for name in ("easy-first", "hard-first", "curriculum", "true motion shown", "AdaMAE's sampler")
}


def run(data: Path, out: Path, epochs: float | None, rows: Sequence[Row], seeds: int, **grid) -> pd.DataFrame | None:
    """The study on the toy world at `data`; `grid`: minutes and so on, of run_grid."""
    settings = presets.get(presets.SIAMMAE, "toy", epochs=epochs)
    study = None if grid.get("dry_run") else prepare(data, settings, out)  # which renders clips, and stores them
    rows = [replace(row, seeds=max(seeds, MEMBERS)) if row == DEFAULT else row for row in rows]
    return run_grid(rows, seeds, partial(measure_row, study), out, about=f"{data.name} {settings}", **grid)


def measure_row(study: Study, row: Row, seed: int, folder: Path) -> list[dict]:
    """A trained model, an estimator or a baseline, or a weighting in label propagation."""
    if row.name in WEIGHTINGS:
        return records(propagation(study, row.name, seed, folder))
    if row.name in ESTIMATORS:
        return records(estimator(study, row.name))
    if row.name in measures.BASELINES:
        estimates = measures.estimates_of(SingleModel(trained(study, DEFAULT, 0)), study)
        return records(measures.report_of_baseline(estimates, study, row.name).row)
    model, losses = train_model(study, row, seed, folder)
    report = measures.report_of(SingleModel(model), study)
    write_json(folder / "per_clip.json", report.per_clip)
    metrics = tracked(study, model, folder) | report.row | growth(study, model)
    return records(metrics, step=len(losses), seconds=sum(record["seconds"] for record in losses))


def build_model(study: Study, row: Row, seed: int) -> SiamMAE:
    """An untrained model of the preset's size."""
    settings, arguments = row.settings(study.preset)
    if variant := arguments.pop("variant", None):
        arguments["masking"] = AdaptiveMasking(settings.mask_ratio, variant)
    if arguments.get("order") == "curriculum":
        arguments["curriculum_steps"] = settings.steps(len(study.clips)) * settings.accumulation
    torch.manual_seed(seed)
    kind = row.model or GaussianSiamMAE
    return kind(**settings.model_arguments(), **arguments)


def train_model(study: Study, row: Row, seed: int, folder: Path) -> tuple[SiamMAE, list[Record]]:
    """Train as notebooks/05_uncertainty does, or go on, or load; the model and its loss curve."""
    settings, arguments = row.settings(study.preset)
    pairs = training_pairs(settings, study.clips, seed, study.frames)
    if arguments.get("score") == "batch":  # an oracle: batches must bring the true motion
        pairs = MovingPairs(pairs, study.root.parent, settings.patch_size)
    model = build_model(study, row, seed)
    return model, fit(model, pairs, settings, folder, seed, collate_pairs)


def trained(study: Study, row: Row, seed: int) -> SiamMAE:
    """The model of a finished run."""
    model = build_model(study, row, seed)
    return load_weights(model, run_folder(study.out, row.name, seed) / "last.pt").eval()


def growth(study: Study, model: SiamMAE) -> dict[str, float]:
    """Does sigma rise with the gap? Kendall's tau with its interval, sigma at the first and last gap, upward steps."""
    rise = trend(measures.by_gap(SingleModel(model), study.test)["sigma"])
    row = {"gap_kendall": rise.kendall.value, "gap_low": rise.kendall.low, "gap_high": rise.kendall.high}
    row |= {"sigma_first_gap": rise.mean.value[0], "sigma_last_gap": rise.mean.value[-1]}
    return {name: float(value) for name, value in row.items()} | {"gap_steps_up": int((rise.steps.value > 0).sum())}


def estimator(study: Study, name: str) -> dict[str, float]:
    """Numbers of several models or passes; the ensemble also against its best member, by NLL as predicted."""
    report = measures.report_of(ESTIMATORS[name](study), study)
    if name != ENSEMBLE:
        return report.row
    folders = [run_folder(study.out, DEFAULT.name, seed) for seed in range(MEMBERS)]
    members = [json.loads((folder / "per_clip.json").read_text()) for folder in folders]
    best = min(members, key=lambda member: np.mean(member["nll_raw"]))
    names = ("nll_against_best", "nll_against_best_low", "nll_against_best_high")
    return report.row | dict(zip(names, compare(report.per_clip, best, "nll_raw"), strict=True))


def tracked(study: Study, model: SiamMAE, folder: Path, confidence_fn: Callable | None = None) -> dict[str, float]:
    """J&F on the toy world's DAVIS for each of the preset's blocks."""
    davis, scores = DavisDataset(study.root.parent / "davis2017"), {}
    protocol = get_protocol(study.preset.protocol, "davis", input_size=study.preset.eval_size)
    for block in study.preset.blocks:
        tracker = partial(
            propagate_masks, feature_fn=partial(model.features, block=block), patch_size=model.patch_size,
            protocol=protocol, device=next(model.parameters()).device, confidence_fn=confidence_fn,
        )  # fmt: skip
        settings, to = {"weights": fingerprint(model), "block": block}, folder / f"davis-block{block}"
        predictions = track_masks(davis, tracker, to, settings, workers=torch.get_num_threads())
        scores[f"JF_block{block}"] = 100 * score_masks(davis, predictions)["JF_mean"]
    return scores


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
