"""What suits MAE and SiamMAE on real clips, one change at a time, on people of JHMDB held out from training for this.

Why SiamMAE was behind MAE, and what it takes. A cell trains a third as long as those of lib.studies.real, whose tests
nothing here sees (films of several actions may be on both sides). Unless a row says otherwise, all of a method see as
many samples; what each costs is in the table as measured, by 15 % more or less.
"length" rows are the learning curves, over samples and CPU seconds.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import pandas as pd
import torch

from lib import presets
from lib.evaluation.features import FrameFeatures, place_share
from lib.models.designs import DesignedSiamMAE
from lib.models.joint_mae import JointMAE
from lib.models.mae import MAE
from lib.models.several_frames import SeveralFrames
from lib.models.vit import ViTEncoder
from lib.presets.frame_pairs import FramePairs
from lib.studies.ablations import changed, designed
from lib.studies.grid import Row, run_grid
from lib.studies.real import (
    BLOCK,
    CHOSEN,
    COARSER,
    FINER,
    LONGER,
    MAE_CHANGES,
    SAMPLES,
    START,
    about_of,
    clip_records,
    method_of,
    train_row,
)
from lib.studies.real_data import RealData, Test, open_real
from lib.studies.three_tasks import UNTRAINED

# Of these more is asked: how much of their features is of the place
PLACED = (
    "SiamMAE", "MAE", UNTRAINED, "positions on the past", "crop in crop", "gap 0, crop in crop", "JHMDB alone",
    "MAE, JHMDB alone", "Kinetics alone", "Kinetics alone, gap 4 to 24", "Kinetics alone, gap 4 to 48",
    "MAE, Kinetics alone",
)  # fmt: skip


def alone(name: str, length: float = 1.0, **changes) -> Row:
    """A row of MAE: what it has otherwise than its own default, and how much longer it trains."""
    return Row(name, MAE_CHANGES | changes, MAE, LONGER * length)


def moving(name: str, length: float, model: type | None = None, **changes) -> Row:
    """A row of SiamMAE, or of a relative, on the clips and gaps of lib.studies.real."""
    return Row(f"moving, {name}", CHOSEN | changes, model, length)


LR, MOVING = START.base_lr, "Kinetics ten times as often, gap 4 to 40"
TABLES = {
    "references": (Row(UNTRAINED, length=0), alone("MAE")),
    "visible patches": (
        *(changed(f"ratio {ratio}", mask_ratio=ratio) for ratio in (0.5, 0.75, 0.9)),
        changed("ratio 0.75, decoder depth 4", mask_ratio=0.75, decoder_depth=4),
        designed("half of the past hidden, too", past_mask_ratio=0.5),
        designed("half of the past hidden, too, ratio 0.75", past_mask_ratio=0.5, mask_ratio=0.75),
        changed("crops of 96 pixels", image_size=96),
        changed("patches of 6 pixels, crops of 48", **FINER),
        alone("MAE, patches of 6 pixels, crops of 48", **FINER),
        Row("untrained, patches of 6 pixels, crops of 48", FINER, length=0),
        changed("patches of 12 pixels, crops of 96", **COARSER),
        alone("MAE, patches of 12 pixels, crops of 96", **COARSER),
        Row("untrained, patches of 12 pixels, crops of 96", COARSER, length=0),
    ),
    "clips": (  # those of Kinetics are of moving cameras more often than JHMDB's
        changed("Kinetics ten times as often", mix=(60, 1)),
        changed("Kinetics ten times as often, gap 4 to 24", mix=(60, 1), gap=(4, 24)),
        changed(MOVING, **CHOSEN),
        changed(f"{MOVING}, decoder depth 2", **CHOSEN, decoder_depth=2),
        alone("MAE, Kinetics ten times as often", mix=(60, 1)),
        changed("Kinetics alone", mix=(6, 0)),
        changed("Kinetics alone, gap 4 to 24", mix=(6, 0), gap=(4, 24)),
        changed("Kinetics alone, gap 4 to 48", mix=(6, 0), gap=(4, 48)),
        changed("Kinetics alone, gap 4 to 24, decoder depth 2", mix=(6, 0), gap=(4, 24), decoder_depth=2),
        changed("JHMDB alone", mix=(0, 1)),
        alone("MAE, Kinetics alone", mix=(6, 0)),
        alone("MAE, JHMDB alone", mix=(0, 1)),
    ),
    "gap": tuple(changed(f"gap {low} to {high}", gap=(low, high)) for low, high in ((1, 4), (4, 12), (4, 24), (4, 36))),
    "crops": tuple(
        changed(f"crop {low} to {high}", crop_scale=(low, high)) for low, high in ((0.04, 0.15), (0.2, 0.6), (0.5, 1.0))
    ),
    "motion": (
        *(changed(f"of {tries} crops the one that moves most", crop_tries=tries) for tries in (2, 4, 8)),
        alone("MAE, of 4 crops the one that moves most", crop_tries=4),
    ),
    "decoder": (
        changed("decoder depth 2", decoder_depth=2),
        changed("decoder depth 4", decoder_depth=4),
        changed("decoder width 96", decoder_embed_dim=96),
        changed("decoder width 384", decoder_embed_dim=384),
        changed("positions on the past", memory_positions=True),
    ),
    "encoder": (changed("encoder depth 6", encoder="mini"),),
    "samples": (
        changed("2 pairs a clip read", length=0.5, repeated_sampling=2),
        Row(  # as many futures
            "4 futures of each past", {"futures": 4, "knows_time": False, "batch_size": 6, "base_lr": 4 * LR},
            SeveralFrames, 0.25,
        ),
        changed("half of the pairs still", still=0.5),
        changed("gap 0, crop in crop", gap=(0, 0), second_crop=(0.3, 1.0)),
        changed("crop in crop", second_crop=(0.3, 1.0)),
    ),
    "steps": (
        changed("half the rate", base_lr=LR / 2),
        changed("twice the rate", base_lr=2 * LR),
        changed("batch 12", batch_size=12, base_lr=2 * LR),
        changed("batch 64", batch_size=64, base_lr=LR * 24 / 64),
    ),
    "MAE": (
        alone("MAE, half the rate", base_lr=MAE_CHANGES["base_lr"] / 2),
        alone("MAE, twice the rate", base_lr=MAE_CHANGES["base_lr"] * 2),
        alone("MAE, batch 64", batch_size=64, base_lr=MAE_CHANGES["base_lr"] * 24 / 64),
        alone("MAE, decoder depth 1", decoder_depth=1),
        alone("MAE, decoder depth 4", decoder_depth=4),
        alone("MAE, decoder width 384", decoder_embed_dim=384),
        alone("MAE, encoder depth 6", encoder="mini"),
        alone("MAE, ratio 0.5", mask_ratio=0.5),
        alone("MAE, ratio 0.9", mask_ratio=0.9),
        alone("MAE, crop 0.2 to 0.6", crop_scale=(0.2, 0.6)),
    ),
    "three times as long": (  # as lib.studies.real trains, and on its clips and gaps; all take about as many minutes
        changed(f"{MOVING}, 3 x", 3, **CHOSEN),
        alone("MAE, Kinetics ten times as often, 3 x", 3, mix=CHOSEN["mix"]),
        moving("with MAE's loss, too, 3 x", 3, JointMAE),
        moving("with MAE's loss, too, past's ratio 0.75, 3 x", 3.6, JointMAE, past_mask_ratio=0.75),
        moving(
            "with MAE's loss, too, past's ratio 0.75, its decoder depth 2, 3 x", 3, JointMAE, past_mask_ratio=0.75,
            alone_depth=2,
        ),
        moving(
            "with MAE's loss, too, past's ratio 0.75, MAE's rate, 3 x", 3.6, JointMAE, past_mask_ratio=0.75,
            base_lr=MAE_CHANGES["base_lr"],
        ),
        moving("ratio 0.75, decoder depth 2, 3 x", 2.4, mask_ratio=0.75, decoder_depth=2),
        moving("half of the past hidden, too, 3 x", 3.9, DesignedSiamMAE, past_mask_ratio=0.5),
        moving("crop 0.2 to 0.6, 3 x", 3, crop_scale=(0.2, 0.6)),
        moving("decoder depth 2, 3 x", 2.6, decoder_depth=2),
        moving("half the rate, 3 x", 3, base_lr=LR / 2),
    ),
    "length": tuple(
        row
        for times in (2, 4, 8)
        for row in (changed(f"SiamMAE, {times} x", length=times), alone(f"MAE, {times} x", length=times))
    ),
}  # fmt: skip
ROWS = (Row("SiamMAE"), *(row for rows in TABLES.values() for row in rows))


def run(data: Path, out: Path, epochs: float | None, rows: Sequence[Row], **grid) -> pd.DataFrame | None:
    """The study on the real clips below `data`; `grid`: seeds and so on, of run_grid."""
    if grid.get("dry_run"):  # which opens no clip
        return run_grid(rows, measure=None, out=out, **grid)
    real = open_real(data, START, choosing=True)
    base = presets.get({"real": START}, "real", epochs=epochs or SAMPLES / 3 / len(real.clips()))
    return run_grid(
        rows, measure=partial(measure, base, real, out / "frames"), out=out, about=about_of(real, base), **grid
    )


def measure(base: FramePairs, real: RealData, frames: Path, row: Row, seed: int, folder: Path) -> list[dict]:
    """As lib.studies.real does, the mean of J and F alone; the run is deleted then, for nothing reads it."""
    encoder, table = train_row(base, real, frames, row, seed, folder)
    for block in (BLOCK,) if row.changes and row.model not in (MAE, JointMAE) else (2, 3):  # MAE's best is the last
        table += clip_records(method_of(row.name, encoder, block), real.tests, folder, ("JF",))
    if row.name in PLACED:
        table += place_records(row.name, encoder, real.tests, folder)
    shutil.rmtree(folder, ignore_errors=True)
    return table


def place_records(name: str, encoder: ViTEncoder, tests: dict[str, Test], folder: Path) -> list[dict]:
    """How much of these clips' features is their place alone, in percent, and the mean of J and F without that."""
    ((data, (sequences, protocol, _)),) = tests.items()
    method = method_of(name, encoder, BLOCK)
    device = next(encoder.parameters()).device
    videos = (
        FrameFeatures(clip.iter_frames(), method.features, encoder.patch_size, protocol, device) for clip in sequences
    )
    with torch.inference_mode():
        share, mean = place_share(chain.from_iterable(videos))
    without = replace(method, features=lambda images: method.features(images) - mean, weights="")
    scores = clip_records(without, tests, folder, ("JF",))
    records = [{"metric": "place share", "value": 100 * share, "data": data, "block": BLOCK}]
    return records + [record | {"metric": "JF without place"} for record in scores]
