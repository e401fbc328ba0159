"""Uncertainty of SiamMAE's predictions, judged: train the models, ask all estimators, mask by uncertainty, track by it.

`python -m lib.studies.uncertainty --data data/toy --out runs/uncertainty --tables figures` trains every row of SETTINGS
(lib.studies.uncertainty_runs) on the toy world's Kinetics clips and measures it on clips that no model has seen; then
come the estimators that need several models or passes, and label propagation weighted by confidence. A finished row is
a JSON file in its folder below `--out` and is not made again, so the study can be stopped and started; the tables are
assembled from those files.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.data.davis import DavisDataset
from lib.errors import cli
from lib.evaluation.intervals import trend
from lib.evaluation.masks import propagate_masks
from lib.evaluation.protocols import get_protocol
from lib.evaluation.uncertainty_report import Report, compare
from lib.models.confidence import FrameConfidence
from lib.models.siammae import SiamMAE
from lib.models.uncertainty import DeepEnsemble, FreshMasks, MCDropout, SingleModel, VisibleSubsets
from lib.presets.frame_pairs import get_preset
from lib.runtime import atomic_path, share, write_json
from lib.score.davis import score_masks
from lib.score.tracking import fingerprint, track_masks
from lib.studies import uncertainty_measures as measures
from lib.studies.uncertainty_runs import (
    DEFAULT,
    DROPOUT,
    MEMBERS,
    SETTINGS,
    Setting,
    Study,
    prepare,
    run_folder,
    train_model,
    trained,
)


def kept(path: Path, make: Callable[[], dict]) -> dict:
    """The row at `path`, made when it is not there."""
    if not path.is_file():
        write_json(path, make())
    return json.loads(path.read_text())


def run_row(study: Study, setting: Setting, seed: int) -> dict:
    """One model: trained, its uncertainty judged, its features tracked."""
    folder = run_folder(study, setting, seed)

    def make() -> dict:
        model, losses = train_model(study, setting, seed, folder)
        report = measures.judged_model(SingleModel(model), study.test, study.calibration, study.gaps, model)
        row = {"case": setting.case, "seed": seed, "steps": len(losses)}
        row |= {"seconds": sum(record["seconds"] for record in losses), **tracked(study, model, folder), **report.row}
        row |= growth(study, model)
        return {"row": row, "per_clip": report.per_clip, "curve": report.curve}

    return kept(folder / "row.json", make)


def growth(study: Study, model: SiamMAE) -> dict[str, float]:
    """Does sigma rise with the gap? Kendall's tau with its interval, upward steps, sigma at the first and last gap."""
    found = trend(measures.by_gap(SingleModel(model), study.test, model)["sigma"])
    row = {"gap_kendall": found.kendall.value, "gap_low": found.kendall.low, "gap_high": found.kendall.high}
    steps_up = int((found.steps.value > 0).sum())
    ends = {"sigma_first_gap": found.mean.value[0], "sigma_last_gap": found.mean.value[-1]}
    return {name: float(value) for name, value in (row | ends).items()} | {"gap_steps_up": steps_up}


def tracked(study: Study, model: SiamMAE, folder: Path, confidence_fn: Callable | None = None) -> dict[str, float]:
    """J&F (percent) on the toy world's DAVIS for each of the preset's blocks; nothing where there is no DAVIS."""
    davis_root = study.root.parent / "davis2017"
    if not davis_root.is_dir():
        return {}
    davis, found = DavisDataset(davis_root), {}
    protocol = get_protocol(study.preset.protocol, "davis", input_size=study.preset.eval_size)
    for block in study.preset.blocks:
        features = partial(model.features, block=block)
        tracker = partial(
            propagate_masks, feature_fn=features, patch_size=model.patch_size, protocol=protocol,
            confidence_fn=confidence_fn,
        )  # fmt: skip
        record = {"weights": fingerprint(model), "block": block, "confidence": folder.name}
        predictions = track_masks(
            davis, tracker, folder / f"davis-block{block}", record, workers=torch.get_num_threads()
        )
        found[f"JF_block{block}"] = 100 * score_masks(davis, predictions)["JF_mean"]
    return found


def estimator_rows(study: Study) -> Iterable[tuple[str, dict]]:
    """The estimators that are no single run, and the baselines; those whose models are there."""
    if not (run_folder(study, DEFAULT, 0) / "row.json").is_file():
        return
    model = trained(study, DEFAULT, 0)
    estimators = {"visible subsets": lambda: VisibleSubsets(model), "fresh masks": lambda: FreshMasks(model)}
    if all((run_folder(study, DEFAULT, seed) / "row.json").is_file() for seed in range(MEMBERS)):
        estimators[f"ensemble of {MEMBERS}"] = lambda: DeepEnsemble(
            [trained(study, DEFAULT, s) for s in range(MEMBERS)]
        )
    if (run_folder(study, DROPOUT, 0) / "row.json").is_file():
        estimators["MC dropout"] = lambda: MCDropout(trained(study, DROPOUT, 0))

    def row(name: str, make_report: Callable) -> tuple[str, dict]:
        def make() -> dict:
            report = make_report()
            more = against_best_member(study, report.per_clip) if name.startswith("ensemble") else {}
            return {"row": {"case": name, **report.row, **more}, "per_clip": report.per_clip, "curve": report.curve}

        return name, kept(study.out / "estimators" / f"{name.replace(' ', '_')}.json", make)

    for name, build in estimators.items():
        asked = partial(measures.judged_model, test=study.test, calibration=study.calibration, gaps=study.gaps)
        yield row(name, lambda build=build, asked=asked: asked(build(), model=model))
    for name in measures.BASELINES:
        yield row(name, partial(judged_baseline, study, model, name))


def against_best_member(study: Study, ensemble: dict[str, list[float]]) -> dict[str, float]:
    """The ensemble's NLL minus its best member's, both as predicted, with the interval over clips."""
    folders = [run_folder(study, DEFAULT, seed) for seed in range(MEMBERS)]
    members = [json.loads((folder / "row.json").read_text())["per_clip"] for folder in folders]
    best = min(members, key=lambda member: np.mean(member["nll_raw"]))
    found = compare(ensemble, best, "nll_raw")
    names = ("nll_against_best", "nll_against_best_low", "nll_against_best_high")
    return dict(zip(names, found, strict=True))


def judged_baseline(study: Study, model: SiamMAE, name: str) -> Report:
    """A simple baseline around the model's own mean."""
    both = []
    for split in (study.test, study.calibration):
        base = measures.estimate(SingleModel(model), split, study.gaps, model.patch_size, model.norm_pix)
        both.append(measures.with_baseline(base, split, study.gaps, model.patch_size, name))
    return measures.judged(tuple(both), study.test, study.gaps)


def shuffled(confidence: FrameConfidence, frames: Iterable[np.ndarray]) -> Iterable[Tensor]:
    """The confidences at random places of each frame: what weighting does that knows nothing."""
    generator = torch.Generator().manual_seed(0)
    for cells in confidence(frames):
        yield cells.flatten()[torch.randperm(cells.numel(), generator=generator)].view(cells.shape)


def propagation_row(study: Study, seed: int, weighting: str, sharpness: float) -> dict:
    """J&F of one model with neighbours weighted by "confidence", or by the "shuffled" one."""
    folder = study.out / "propagation" / f"{weighting}-{sharpness:g}-seed{seed}"

    def make() -> dict:
        model = trained(study, DEFAULT, seed)
        confidence = FrameConfidence(model, study.preset.eval_size, sharpness)
        weigh = confidence if weighting == "confidence" else partial(shuffled, confidence)
        row = {"weighting": weighting, "sharpness": sharpness, "seed": seed}
        return {"row": row | tracked(study, model, folder, weigh)}

    return kept(folder / "row.json", make)


WEIGHTINGS = (("confidence", 1.0), ("confidence", 4.0), ("shuffled", 4.0))


# --- the tables ---------------------------------------------------------------------------------------------


def planned(seeds: int) -> list[tuple[Setting, int]]:
    """Every setting with its seeds, at most `seeds` of them but for the ensemble: first seeds first."""
    limit = {setting.case: min(setting.seeds, max(seeds, MEMBERS * (setting is DEFAULT))) for setting in SETTINGS}
    return [(s, seed) for seed in range(MEMBERS) for s in SETTINGS if seed < limit[s.case]]


def assemble(study: Study, tables: Path) -> list[Path]:
    """Write the tables from the rows that are there: 05_runs_toy.csv, 05_estimators_toy.csv, 05_propagation_toy.csv."""
    written = []
    for name, pattern in (("runs", "*-seed*"), ("estimators", "estimators"), ("propagation", "propagation/*")):
        files = sorted(study.out.glob(f"{pattern}/*.json" if name == "estimators" else f"{pattern}/row.json"))
        if files:
            rows = pd.DataFrame([json.loads(file.read_text())["row"] for file in files])
            written.append(tables / f"05_{name}_toy.csv")
            with atomic_path(written[-1]) as temporary:
                rows.to_csv(temporary, index=False, float_format="%.5g")
    return written


@cli
def main(arguments: list[str] | None = None) -> None:
    """The command line; see `--help`."""
    parser = argparse.ArgumentParser(prog="python -m lib.studies.uncertainty", description="The study of uncertainty.")
    parser.add_argument("--data", type=Path, required=True, help="a toy world with kinetics400 and davis2017")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs; rows finished there are kept")
    parser.add_argument("--tables", type=Path, required=True, help="folder for the tables, written from all rows there")
    parser.add_argument("--seeds", type=int, default=3, help="of the settings that are compared (default: 3)")
    parser.add_argument("--cases", nargs="+", choices=[s.case for s in SETTINGS], help="train these alone")
    parser.add_argument("--part", default="0/1", help="train only a share of the runs, as 0/2 and 1/2 in two processes")
    parser.add_argument("--epochs", type=int, help="fewer than the preset's, to try things out")
    args = parser.parse_args(arguments)
    chosen = [run for run in planned(args.seeds) if args.cases is None or run[0].case in args.cases]
    chosen = share(chosen, args.part)
    study = prepare(args.data, get_preset("toy", epochs=args.epochs), args.out)
    for setting, seed in chosen:
        row = run_row(study, setting, seed)["row"]
        print(f"{setting.case}, seed {seed}:", ", ".join(f"{k} {row[k]:.3f}" for k in SHOWN if k in row), flush=True)
    if args.part == "0/1":
        for name, found in estimator_rows(study):
            print(name, ", ".join(f"{k} {found['row'][k]:.3f}" for k in SHOWN if k in found["row"]), flush=True)
        for seed in range(args.seeds):
            for weighting, sharpness in WEIGHTINGS if (run_folder(study, DEFAULT, seed) / "row.json").is_file() else ():
                print(propagation_row(study, seed, weighting, sharpness)["row"], flush=True)
        print("wrote", ", ".join(map(str, assemble(study, args.tables))))


SHOWN = ("JF_block2", "JF_block-1", "rmse", "nll", "spearman", "ause_ratio", "ece", "ece_isotonic", "auroc_occluded")

if __name__ == "__main__":
    sys.exit(main())
