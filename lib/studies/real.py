"""Real video, on clips that no training saw: does SiamMAE track better than MAE, and is it for motion?

MAE and SiamMAE have the same encoder and train for about as long (the table says how long). SiamMAE's clips and gaps
were chosen on held-out training clips (lib.studies.choices), and so was the encoder block that each is scored at.
"SiamMAE, gap 0" sees two crops of one frame instead of two frames, as CropMAE (arXiv 2403.17823), which claims that
motion is not needed; it is cropped otherwise, too, and sees the clips that are too short for the others' gaps.
"SiamMAE with MAE's loss" learns both from one pass (lib.models.joint_mae). Rows with patches of 6 or 12 pixels came
when those of 8 were known: on held-out clips the finer grid was better for all, and on the coarser one SiamMAE was
nearer to MAE. A cell is a row with a seed; its table has J and F of every clip.
"""

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from lib import presets
from lib.data.clips import read_clip
from lib.data.decoding import PAPER_FPS
from lib.evaluation.features import rgb_patch_features
from lib.models.joint_mae import JointMAE
from lib.models.mae import MAE
from lib.models.siammae import SiamMAE
from lib.presets.frame_pairs import FramePairs
from lib.score.tracking import fingerprint
from lib.studies.ablations import settings_of
from lib.studies.frame_pairs import pretrain
from lib.studies.grid import Row, run_grid
from lib.studies.real_data import MIX, RealData, Test, open_real
from lib.studies.three_tasks import COPIED, RGB, UNTRAINED, Method, evaluate

# Where lib.studies.choices starts; what it found better on held-out training clips for SiamMAE; and what MAE has
START = presets.get(
    presets.SIAMMAE, "laptop", encoder="shallow", decoder_embed_dim=192, decoder_depth=1, gap=(2, 8), batch_size=24,
    repeated_sampling=1, base_lr=8e-3, epochs=3200, warmup_epochs=160, save_every=200,
)  # fmt: skip
CHOSEN = {"mix": (60, 1), "gap": (4, 40)}  # more of the footage that moves, see RealData, and farther apart
MAE_CHANGES = {"mask_ratio": 0.75, "decoder_depth": 2, "base_lr": 5.3e-3}
SAMPLES, LONGER = 48_000, 1.6  # of SiamMAE, and how many times as many take MAE as long
BLOCK, MAE_BLOCK = 2, 3  # of the encoder
# As many patches, and clips are tracked on a finer or a coarser grid, too
FINER, COARSER = {"image_size": 48, "patch_size": 6}, {"image_size": 96, "patch_size": 12}
GRIDS = {"patches of 6": FINER, "patches of 12": COARSER}
BOTH = "SiamMAE with MAE's loss"
METHODS = (
    Row("SiamMAE", CHOSEN),
    Row("MAE", MAE_CHANGES, MAE, LONGER),
    Row(BOTH, CHOSEN | {"past_mask_ratio": 0.75}, JointMAE, 1.2),  # as many minutes
    Row("SiamMAE, gap 0", CHOSEN | {"gap": (0, 0), "second_crop": (0.3, 1.0)}),
    Row(UNTRAINED, length=0),
)
ON_GRIDS = ("SiamMAE", "MAE", UNTRAINED)  # of these, does another grid help what they learn, or all alike?
ROWS = (
    *METHODS,
    *(
        replace(row, name=f"{row.name}, {grid}", changes=row.changes | changes, seeds=1)
        for grid, changes in GRIDS.items()
        for row in METHODS
        if row.name in ON_GRIDS
    ),
    Row(RGB, length=0, seeds=1),
    Row(COPIED, length=0, seeds=1),
)

PAIRS = [("SiamMAE", rival) for rival in ("MAE", "SiamMAE, gap 0", UNTRAINED, RGB, COPIED)] + [("MAE", UNTRAINED)]
PAIRS += [(BOTH, rival) for rival in ("MAE", "SiamMAE", UNTRAINED)]
PAIRS += [(f"{name}, {grid}", name) for grid in GRIDS for name in ON_GRIDS]
PAIRS += [
    tuple(f"{name}, {grid}" for name in pair)
    for grid in GRIDS
    for pair in (("SiamMAE", "MAE"), ("SiamMAE", UNTRAINED), ("MAE", UNTRAINED))
]


def run(data: Path, out: Path, epochs: float | None, rows: Sequence[Row], **grid) -> pd.DataFrame | None:
    """The study on the real clips below `data`; `grid`: seeds and so on, of run_grid."""
    if grid.get("dry_run"):  # which opens no clip
        return run_grid(rows, measure=None, out=out, **grid)
    real = open_real(data, START, choosing=False)
    base = presets.get({"real": START}, "real", epochs=epochs or SAMPLES / len(real.clips()))
    about = f"{about_of(real, base)}; SiamMAE: {CHOSEN}"
    return run_grid(rows, measure=partial(measure, base, real, out / "frames"), out=out, about=about, **grid)


def about_of(real: RealData, base: FramePairs) -> str:
    """What all cells of a grid share: clips, settings, and what is MAE's own."""
    return f"{real.about}; {base}; MAE: {MAE_CHANGES}, {LONGER} x"


def measure(base: FramePairs, real: RealData, frames: Path, row: Row, seed: int, folder: Path) -> list[dict]:
    """J and F of each clip, at the method's own block: records with `data`, `clip`, `block`; and what training cost."""
    if row.name in (COPIED, RGB):
        features = rgb_patch_features(base.patch_size) if row.name == RGB else None
        return clip_records(Method(row.name, features, base.patch_size), real.tests, folder, ("J", "F"))
    encoder, costs = train_row(base, real, frames, row, seed, folder)
    method = method_of(row.name, encoder, block_of(row))
    made = {key: costs[0][key] for key in ("step", "seconds")}
    return costs + [record | made for record in clip_records(method, real.tests, folder, ("J", "F"))]


def block_of(row: Row) -> int:
    """The encoder block that a row of this study is scored at."""
    return MAE_BLOCK if row.model is MAE else BLOCK


def train_row(
    base: FramePairs, real: RealData, frames: Path, row: Row, seed: int, folder: Path
) -> tuple[nn.Module, list[dict]]:
    """Train, if there is something to train: the encoder, and what it cost.

    That is `samples`, and `CPU seconds` of all cores together: so what was left of a run that broke off is deleted. A
    row with other clips (its change `mix`, see RealData, or a gap that not all reach) sees as many samples of them.
    """
    shutil.rmtree(folder, ignore_errors=True)
    settings, arguments = settings_of(base, row)
    clips = real.clips(arguments.pop("mix", MIX))
    clips = [clip for clip in clips if clip.info.reaches(settings.gap[1] / PAPER_FPS)]
    times = len(real.clips()) / len(clips)
    settings = replace(settings, epochs=settings.epochs * times, warmup_epochs=settings.warmup_epochs * times)
    if settings.cache_frames:
        for clip in set(clips):
            read_clip(clip, [0], settings.frame_size, frames)  # so that no run pays for what all use
    kind, start, losses = row.model or SiamMAE, time.process_time(), []
    if row.length:
        model, losses = pretrain(kind, settings, clips, seed, folder, frames, **arguments)
    else:
        torch.manual_seed(seed)
        model = kind(**settings.model_arguments() | arguments)
    cost = {"samples": len(losses) * settings.batch_size, "CPU seconds": time.process_time() - start}
    made = {"step": len(losses), "seconds": sum(record["seconds"] for record in losses)}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.encoder.eval().to(device), [{"metric": name, "value": cost[name], **made} for name in cost]


def method_of(name: str, encoder: nn.Module, block: int) -> Method:
    """The encoder's output of a block, as what carries masks."""
    features = partial(encoder.features, block=block)
    return Method(f"{name}, block {block}", features, encoder.patch_size, name, block, fingerprint(encoder))


def clip_records(method: Method, tests: dict[str, Test], folder: Path, measures: Sequence[str]) -> list[dict]:
    """J, F, or JF (their mean) of each clip of each test, in percent. What was predicted is deleted then."""
    table, device = [], "cuda" if torch.cuda.is_available() else "cpu"
    for name, (sequences, protocol, max_frames) in tests.items():
        scores = evaluate(method, "davis", sequences, protocol, folder / "predictions", max_frames, device)
        shutil.rmtree(folder / "predictions")
        for clip, objects in scores["sequences"].items():
            for measure in measures:
                parts = [f"{letter}_mean" for letter in measure]
                mean = np.mean([values[part] for values in objects.values() for part in parts])
                where = {"data": name, "clip": clip, "block": method.block}
                table.append({"metric": measure, "value": 100 * mean, **where})
    return table
