"""Uncertainty of SiamMAE's predictions, judged: train the models, ask all estimators, mask by uncertainty, track by it.

`python -m lib.uncertainty_study --data data/toy --out runs/uncertainty --tables figures` trains every row of SETTINGS
on the toy world's Kinetics clips and measures it on clips that no model has seen; then come the estimators that need
several models or passes, and label propagation weighted by confidence. A finished row is a JSON file in its folder
below `--out` and is not made again, so the study can be stopped and started; the tables are assembled from those
files. The notebook uses the same steps for its one run.

Shapes: `C` clips, `G` gaps, `n` hidden patches.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lib import uncertainty_measures as measures
from lib.config import Preset, get_preset
from lib.data.clips import FramePairs, StepBatches, collate_pairs
from lib.data.davis import DavisDataset
from lib.data.futures import futures_of_videos
from lib.data.kinetics import Clip, list_kinetics, scan_videos
from lib.errors import UserError, cli
from lib.evaluation.masks import propagate_masks
from lib.evaluation.protocols import get_protocol
from lib.models.confidence import FrameConfidence
from lib.models.evidential import EvidentialSiamMAE
from lib.models.siammae import SiamMAE
from lib.models.smart_masking import SmartSiamMAE
from lib.models.uncertainty import DeepEnsemble, MCDropout, SingleModel, VisibleSubsets
from lib.models.variance_heads import GaussianSiamMAE
from lib.models.vit import vit_size
from lib.run_files import Record, load_weights
from lib.runtime import atomic_path, dataset_root, write_json
from lib.scoring.davis import score_masks
from lib.toyworld.pairs import MovingPairs, toy_futures
from lib.tracking import fingerprint, track_masks
from lib.training import TrainOptions, train

GAPS = tuple(range(4, 49, 4))
TEST_CLIPS, CALIBRATION_CLIPS = 48, 24  # of the toy world, rendered for this alone
REAL_DRAWS = 6  # pasts from each real clip, of which there are few
MEMBERS = 5


@dataclass(frozen=True)
class Setting:
    """A model of the study; `seeds` of them are trained. `arguments` are those that differ from the preset's."""

    case: str
    model: type[SiamMAE] = GaussianSiamMAE
    arguments: dict = field(default_factory=dict)
    seeds: int = 1

    @property
    def oracle(self) -> bool:
        """Whether its batches must bring the true motion."""
        return self.arguments.get("score") == "batch"


DEFAULT = Setting("beta 0.5", arguments={"beta": 0.5}, seeds=MEMBERS)
PLAIN = Setting("plain SiamMAE", SiamMAE, seeds=3)
DROPOUT = Setting("dropout 0.1", arguments={"dropout": 0.1})
SETTINGS = (
    DEFAULT,
    PLAIN,
    Setting("beta 1, head detached", arguments={"beta": 1.0, "detach_input": True}, seeds=3),
    Setting("beta 0", arguments={"beta": 0.0}),
    Setting("beta 1", arguments={"beta": 1.0}),
    Setting("evidential", EvidentialSiamMAE),
    DROPOUT,
    Setting("easy-first", SmartSiamMAE, {"masking": "easy-first"}, seeds=3),
    Setting("hard-first", SmartSiamMAE, {"masking": "hard-first"}, seeds=3),
    Setting("curriculum", SmartSiamMAE, {"masking": "curriculum"}, seeds=3),
    Setting("true motion shown", SmartSiamMAE, {"masking": "easy-first", "score": "batch"}, seeds=3),
    Setting("true motion hidden", SmartSiamMAE, {"masking": "hard-first", "score": "batch"}, seeds=3),
    Setting("AdaMAE's sampler", arguments={"masking": "ours"}, seeds=3),
)


@dataclass(frozen=True)
class Study:
    """The data of a study and its scale."""

    preset: Preset
    root: Path
    out: Path
    clips: list[Clip]
    """To train on."""
    test: measures.Split
    calibration: measures.Split

    @property
    def gaps(self) -> list[int]:
        """Numbers of the gaps that training draws from; all measures but the growth with the gap are for these."""
        return self.test.upto(self.preset.gap[1])

    @property
    def steps(self) -> int:
        """Optimizer steps of every run."""
        return self.preset.steps(len(self.clips))


def prepare(data: str | Path, preset: Preset, out: str | Path, test: int = TEST_CLIPS, gaps: tuple = GAPS) -> Study:
    """The clips to train on and the held-out ones, kept in `out`: of the toy world `test` new clips, and half as many
    for calibration; of real videos those of a `val` split, or a part of all when there is none.

    Raises UserError for data that cannot be read, and too few clips.
    """
    root, out = dataset_root(data, ["kinetics400"]), Path(out)
    clips = scan_videos(list_kinetics(root, "train")).clips
    shape = {"gaps": gaps, "image_size": preset.image_size, "crop_scale": preset.crop_scale}
    if (root.parent / "manifest.json").is_file():
        make = partial(toy_futures, **shape, patch_size=preset.patch_size)
        makers = [partial(make, test, seed=1), partial(make, max(2, test // 2), seed=2)]
    else:
        clips, *parts = held_out_videos(root, clips)
        make = partial(futures_of_videos, **shape, frame_size=preset.frame_size, draws=REAL_DRAWS)
        makers = [partial(make, part, seed=seed) for seed, part in enumerate(parts, start=1)]
    splits = []
    for name, maker in zip(("test", "calibration"), makers, strict=True):
        kept = out / f"{name}-{test}x{len(gaps)}-{preset.image_size}.pt"
        if not kept.is_file():
            measures.save_futures(kept, maker())
        splits.append(measures.masked(measures.load_futures(kept), preset.patch_size, preset.mask_ratio, seed=0))
    return Study(preset, root, out, clips, *splits)


def held_out_videos(root: Path, clips: list[Clip]) -> tuple[list[Clip], list[Clip], list[Clip]]:
    """Clips to train on, to test on, to calibrate on: the val split shared out, or every fourth clip for each."""
    if (root / "val").is_dir():
        val = scan_videos(list_kinetics(root, "val")).clips
        parts = clips, val[0::2], val[1::2]
    else:
        parts = [clip for k, clip in enumerate(clips) if k % 4 < 2], clips[2::4], clips[3::4]
    if min(map(len, parts[1:])) < 2:
        raise UserError(f"{root}: {len(clips)} clips leave fewer than 2 to test or calibrate on; give 8 or more")
    return parts


# --- training -----------------------------------------------------------------------------------------------


def build_model(study: Study, setting: Setting, seed: int) -> SiamMAE:
    """An untrained model of the preset's size."""
    torch.manual_seed(seed)
    arguments = study.preset.model_arguments(vit_size(study.preset.encoder)) | {"mask_ratio": study.preset.mask_ratio}
    if setting.arguments.get("masking") == "curriculum":
        arguments["curriculum_steps"] = study.steps * study.preset.accumulation
    return setting.model(**arguments, **setting.arguments)


def train_model(study: Study, setting: Setting, seed: int, folder: str | Path) -> tuple[SiamMAE, list[Record]]:
    """Train on the preset's schedule as notebooks/03_pretrain does, or resume, or load; the model and its curve."""
    preset = study.preset
    pairs: Dataset = FramePairs(
        study.clips, preset.image_size, preset.gap, preset.crop_scale, repeated_sampling=preset.repeated_sampling,
        seed=seed, frame_size=preset.frame_size, frame_cache=study.out / "frames" if preset.cache_frames else None,
    )  # fmt: skip
    if setting.oracle:
        pairs = MovingPairs(pairs, study.root.parent, preset.patch_size)
    micro = preset.batch_size // preset.accumulation // preset.repeated_sampling
    options = TrainOptions(
        steps=study.steps, batch_size=preset.batch_size, base_lr=preset.base_lr, seed=seed,
        warmup_steps=preset.warmup_steps(len(study.clips)), weight_decay=preset.weight_decay,
        accumulation=preset.accumulation, save_every=preset.save_every,
    )  # fmt: skip

    def make_loader(first: int) -> DataLoader:
        batches = StepBatches(len(study.clips), micro, study.steps * preset.accumulation, seed, first)
        return DataLoader(pairs, batch_sampler=batches, collate_fn=collate_pairs, num_workers=preset.workers)

    model = build_model(study, setting, seed)
    losses = train(model, make_loader, options, folder)
    load_weights(model, Path(folder) / "last.pt")
    return model.eval(), losses


def run_folder(study: Study, setting: Setting, seed: int) -> Path:
    """Where a run lives."""
    return study.out / f"{setting.case}-seed{seed}".replace(" ", "_").replace(",", "").replace("'", "")


def trained(study: Study, setting: Setting, seed: int) -> SiamMAE:
    """A model of a finished run. Raises UserError where it has not been trained."""
    model = build_model(study, setting, seed)
    return load_weights(model, run_folder(study, setting, seed) / "last.pt").eval()


# --- rows ---------------------------------------------------------------------------------------------------


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
        return {"row": row, "per_clip": report.per_clip, "curve": report.curve}

    return kept(folder / "row.json", make)


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
        predictions = track_masks(davis, tracker, folder / f"davis-block{block}", record)
        found[f"JF_block{block}"] = 100 * score_masks(davis, predictions, workers=1)["JF_mean"]
    return found


def estimator_rows(study: Study) -> Iterable[tuple[str, dict]]:
    """The estimators that are no single run, and the baselines; those whose models are there."""
    members = [seed for seed in range(MEMBERS) if (run_folder(study, DEFAULT, seed) / "last.pt").is_file()]
    if not members:
        return
    model = trained(study, DEFAULT, members[0])
    estimators = {"visible subsets": lambda: VisibleSubsets(model)}
    if len(members) == MEMBERS:
        estimators[f"ensemble of {MEMBERS}"] = lambda: DeepEnsemble([trained(study, DEFAULT, s) for s in members])
    if (run_folder(study, DROPOUT, 0) / "last.pt").is_file():
        estimators["MC dropout"] = lambda: MCDropout(trained(study, DROPOUT, 0))

    def row(name: str, make_report: Callable) -> tuple[str, dict]:
        def make() -> dict:
            report = make_report()
            return {"row": {"case": name, **report.row}, "per_clip": report.per_clip, "curve": report.curve}

        return name, kept(study.out / "estimators" / f"{name.replace(' ', '_')}.json", make)

    for name, build in estimators.items():
        yield row(
            name, lambda build=build: measures.judged_model(build(), study.test, study.calibration, study.gaps, model)
        )
    for name in measures.BASELINES:
        yield row(name, partial(judged_baseline, study, model, name))


def judged_baseline(study: Study, model: SiamMAE, name: str):
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
    parser = argparse.ArgumentParser(prog="python -m lib.uncertainty_study", description="The study of uncertainty.")
    parser.add_argument("--data", type=Path, required=True, help="a toy world with kinetics400 and davis2017")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs; rows finished there are kept")
    parser.add_argument("--tables", type=Path, required=True, help="folder for the tables, written from all rows there")
    parser.add_argument("--seeds", type=int, default=3, help="of the settings that are compared (default: 3)")
    parser.add_argument("--cases", nargs="+", choices=[s.case for s in SETTINGS], help="train these alone")
    parser.add_argument("--part", default="0/1", help="train only a share of the runs, as 0/2 and 1/2 in two processes")
    parser.add_argument("--epochs", type=int, help="fewer than the preset's, to try things out")
    args = parser.parse_args(arguments)
    part, _, parts = args.part.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and int(part) < int(parts)):
        raise UserError(f"part {args.part!r} must be like 0/2 or 1/2")
    study = prepare(args.data, get_preset("toy", epochs=args.epochs), args.out)
    chosen = [run for run in planned(args.seeds) if args.cases is None or run[0].case in args.cases]
    for setting, seed in chosen[int(part) :: int(parts)]:
        row = run_row(study, setting, seed)["row"]
        print(f"{setting.case}, seed {seed}:", ", ".join(f"{k} {row[k]:.3f}" for k in SHOWN if k in row), flush=True)
    if parts == "1":
        for name, found in estimator_rows(study):
            print(name, ", ".join(f"{k} {found['row'][k]:.3f}" for k in SHOWN if k in found["row"]), flush=True)
        for seed in range(args.seeds):
            for weighting, sharpness in WEIGHTINGS if (run_folder(study, DEFAULT, seed) / "last.pt").is_file() else ():
                print(propagation_row(study, seed, weighting, sharpness)["row"], flush=True)
        print("wrote", ", ".join(map(str, assemble(study, args.tables))))


SHOWN = ("JF_block2", "JF_block-1", "rmse", "nll", "spearman", "ause_ratio", "ece", "ece_isotonic", "auroc_occluded")

if __name__ == "__main__":
    sys.exit(main())
