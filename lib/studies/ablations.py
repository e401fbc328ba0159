"""SiamMAE's ablations (its Tables 2 and 3), and rotation: one thing is changed at a time, all else is the default.

A cell trains with half the preset's batch, at its learning rate and for as many steps, and scores fewer frames, so that
the whole grid fits into an afternoon of a laptop; the rows named "full length", with the whole batch, say whether the
order holds. On real clips a cell is as the preset, but for half as long. Of one seed the rows draw the same clips,
gaps, crops and flips, unless they change these; rows of fixed gaps or of other crops draw others of the rest, too.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from lib import presets
from lib.data.video import Clip
from lib.models.designs import DesignedSiamMAE
from lib.models.mae import MAE
from lib.models.siammae import SiamMAE
from lib.presets.frame_pairs import FramePairs
from lib.studies import three_tasks
from lib.studies.frame_pairs import pretrain, training_clips
from lib.studies.grid import Row, run_grid
from lib.studies.table import records
from lib.tokens.maskings import get_masking

TOY = {"epochs": 120.0, "batch_size": 32, "base_lr": 8e-3, "eval_frames": 20, "blocks": (-1,)}
SCALES = {  # the default's settings
    "toy": presets.get(presets.SIAMMAE, "toy", **TOY),
    "laptop": presets.get(presets.SIAMMAE, "laptop", epochs=800.0),
}
LONG = {"length": 2, "whole_batch": True}  # for the toy world, the preset itself

DEFAULT = Row("default")


def designed(name: str, length: float = 1.0, **changes) -> Row:
    """A row of a relative of SiamMAE."""
    return Row(name, changes, DesignedSiamMAE, length)


def changed(name: str, length: float = 1.0, **changes) -> Row:
    """A row of SiamMAE itself."""
    return Row(name, changes, length=length)


# Each table's rows; the default, which each is compared with, is left out. Whatever a name says is all that differs.
# Where an epoch has more samples, there are fewer epochs: all rows see as many pairs, and as many in the warm-up.
TABLES = {
    "reference": (Row("untrained", length=0), Row("MAE, single frames, ratio 0.75", {"mask_ratio": 0.75}, MAE)),
    "designs": (
        designed("siamese encoder, cross decoder", decoder_design="cross"),
        designed("siamese encoder, joint decoder", decoder_design="joint"),
        designed("joint encoder, cross-self decoder", encoder_design="joint"),
        designed("joint encoder, cross decoder", encoder_design="joint", decoder_design="cross"),
        designed("joint encoder, joint decoder (FrameMAE)", encoder_design="joint", decoder_design="joint"),
    ),
    "masks": (
        changed("grouped", masking="grouped"),
        changed("grid", masking="grid"),
        designed("symmetric, ratio 0.5", mask_ratio=0.5, past_mask_ratio=0.5),
        designed("symmetric, ratio 0.75", mask_ratio=0.75, past_mask_ratio=0.75),
        designed("symmetric, ratio 0.95", past_mask_ratio=0.95),
        designed(
            "FrameMAE, symmetric, ratio 0.75", encoder_design="joint", decoder_design="joint", mask_ratio=0.75,
            past_mask_ratio=0.75,
        ),
    ),
    "ratios": tuple(changed(f"ratio {ratio}", mask_ratio=ratio) for ratio in (0.5, 0.75, 0.9, 0.975)),
    "decoders": (
        changed("depth 1", decoder_depth=1),
        changed("depth 4", decoder_depth=4),
        changed("width 64", decoder_embed_dim=64),
        changed("width 256", decoder_embed_dim=256),
    ),
    "gaps": (
        *(changed(f"gap {gap}", gap=(gap, gap)) for gap in (4, 8, 16, 32, 48)),
        changed("gap 4 to 48", gap=(4, 48)),
        changed("gap 0, same crop", gap=(0, 0)),
        changed("gap 0, crop in crop", gap=(0, 0), second_crop=(0.3, 1.0)),
        changed("default gap, crop in crop", second_crop=(0.3, 1.0)),
    ),
    "augmentations": (
        changed("no crop, no flip", crop_scale=(1.0, 1.0), flip=False),
        changed("flip alone", crop_scale=(1.0, 1.0)),
        changed("crop alone", flip=False),
        changed("crop 0.05 to 0.15", crop_scale=(0.05, 0.15)),
        changed("crop 0.2 to 1", crop_scale=(0.2, 1.0)),
        changed("crop 0.5 to 1", crop_scale=(0.5, 1.0)),
        changed("colour jitter 0.4, both alike", color_jitter=0.4),
        changed("colour jitter 0.4, future alone", color_jitter=0.4, future_alone=True),
    ),
    "rotations": (
        *(changed(f"both up to {turn}°", rotation=float(turn)) for turn in (5, 10, 20, 45, 90)),
        *(changed(f"future up to {turn}°", rotation=float(turn), future_alone=True) for turn in (5, 10, 20, 45, 90)),
    ),
    "targets": (changed("raw pixels", norm_pix=False),),
    "sampling": (
        changed("1 pair a clip", length=2, repeated_sampling=1),
        changed("4 pairs a clip", length=0.5, repeated_sampling=4),
    ),
    "full length": (
        changed("full length, default", **LONG),
        designed("full length, siamese encoder, joint decoder", **LONG, decoder_design="joint"),
        changed("full length, ratio 0.75", **LONG, mask_ratio=0.75),
        changed("full length, gap 0, crop in crop", **LONG, gap=(0, 0), second_crop=(0.3, 1.0)),
        changed("full length, both up to 20°", **LONG, rotation=20.0),
    ),
}  # fmt: skip
ROWS = (DEFAULT, *(row for rows in TABLES.values() for row in rows))
SHORT = {row.name.removeprefix("full length, "): row.name for row in TABLES["full length"]}  # name -> its long one
REAL = (
    "default", "ratio 0.75", "gap 0, crop in crop", "siamese encoder, joint decoder", "both up to 20°",
    "colour jitter 0.4, both alike",
)  # fmt: skip


def run(
    data: Path, out: Path, epochs: float | None, rows: Sequence[Row], preset: str = "toy",
    base: FramePairs | None = None, **grid,
) -> pd.DataFrame | None:  # fmt: skip
    """The study on the data at `data`. base: the default's settings, instead of the preset's with so many epochs.

    grid: seeds and so on, of run_grid.
    """
    base = base or presets.get(SCALES, preset, epochs=epochs)
    measure = partial(measure_row, base, training_clips(data), three_tasks.open_tasks(data), out / "frames")
    return run_grid(rows, measure=measure, out=out, about=f"{data.name} {base}", **grid)


def settings_of(base: FramePairs, row: Row) -> tuple[FramePairs, dict]:
    """The row's settings and arguments of the model. The warm-up is as large a part of each row's run."""
    settings, arguments = row.settings(base)
    changes = {"warmup_epochs": base.warmup_epochs * (row.length or 1)}
    if arguments.pop("whole_batch", False):  # at the same learning rate
        changes |= {"batch_size": 2 * settings.batch_size, "base_lr": settings.base_lr / 2}
    return replace(settings, **changes), arguments


def measure_row(
    base: FramePairs, clips: list[Clip], tasks: dict, frames: Path, row: Row, seed: int, folder: Path
) -> list[dict]:
    """Train if there is something to train, and score; the trained weights are deleted then, for nothing reads them."""
    settings, arguments = settings_of(base, row)
    if name := arguments.pop("masking", None):
        arguments["masking"] = get_masking(name, settings.mask_ratio)
    kind, device = row.model or SiamMAE, "cuda" if torch.cuda.is_available() else "cpu"
    if row.length:
        model, losses = pretrain(kind, settings, clips, seed, folder, frames, **arguments)
    else:
        torch.manual_seed(seed)
        model, losses = kind(**settings.model_arguments() | arguments), []
    parameters = sum(parameter.numel() for parameter in model.parameters())
    scores = three_tasks.scores_of(model.encoder.eval().to(device), tasks, settings, folder / "predictions", device)
    shutil.rmtree(folder)
    return records(scores | {"parameters": parameters}, step=len(losses))
