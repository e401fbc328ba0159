"""The video ladder measured: what it predicts and what its memory knows, one change at a time.

Beside it stand SiamMAE's predictions of the same frames and two that need no training. Shapes: `I` test clips, `F`
futures of each, `H W` pixels.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.utils.data import Dataset

from lib import presets
from lib.checkpoints import Record, training_minutes
from lib.data.clips import collate_pairs
from lib.data.frame_clips import FrameClips, FrameReader
from lib.data.frame_groups import FrameGroups
from lib.data.video import PAPER_FPS
from lib.errors import UserError
from lib.models.ladder_encoders import ResNetTaps, TokenTaps
from lib.models.several_frames import SeveralFrames
from lib.models.video_ladder import VideoLadder
from lib.presets.ladder import LADDER, Ladder
from lib.studies.grid import Row, choose, run_folder, run_grid
from lib.studies.hidden_states import accuracies
from lib.studies.ladder_data import FUTURES, MASK_RATIO, PATCH, Held, LadderData, held_out, open_data
from lib.studies.ladder_measures import baseline, circle_errors, loss_curve, patch_predictions, prediction_scores
from lib.studies.table import records
from lib.toyworld.circle import Circles
from lib.training import fit

SCALES = LADDER
CIRCLE_STEPS = 500
ONE, THREE = {"given": 5}, {"given": 3}  # of six frames
TABLES = {
    "circle": (
        Row("circle", {**THREE, "circle": True}),
        Row("circle, SSIM not clipped", {**THREE, "circle": True, "clipped": False}),
        Row("circle, extra step", {**THREE, "circle": True, "scratch": True}, seeds=1),
        Row("circle, 64 channels", {**THREE, "circle": True, "channels": 64}, seeds=1),
    ),
    "forms": (
        Row("three frames", THREE),
        Row("one frame", ONE),
        Row("one frame, longer", ONE, length=1.5),
        Row("one frame, nearest", {**ONE, "head": "nearest"}),
        Row("full resolution", {**ONE, "full_resolution": True}),
    ),
    "encoders": (
        Row("one frame, frozen", {**ONE, "frozen": True}),
        Row("one frame, SiamMAE's encoder", {**ONE, "frozen": True, "taps": "SiamMAE"}, stage=1),
        Row("one frame, its encoder untrained", {**ONE, "frozen": True, "taps": "untrained"}),
        Row("one frame, ImageNet's encoder", {**ONE, "frozen": True, "encoder_weights": "IMAGENET1K_V1"}),
        Row("untrained", ONE, length=0),
    ),
    "variants": (
        Row("three frames, extra step", {**THREE, "scratch": True}, seeds=1),
        Row("three frames, SSIM not clipped", {**THREE, "clipped": False}, seeds=1),
        Row("one frame, bilinear", {**ONE, "head": "bilinear"}, seeds=1),
        Row("one frame, map per channel", {**ONE, "per_channel": True}, seeds=1),
    ),
    "subsets": tuple(Row(f"{number} clips", {**THREE, "clips": number}, seeds=1) for number in (5, 20, 40)),
    "others": (
        Row("copy of the last frame", seeds=1),
        Row("optical flow", seeds=1),
        Row("RAFT's flow", seeds=1),
        Row("SiamMAE", {"norm_pix": True}),
        Row("SiamMAE, pixels", {"norm_pix": False}, length=2, stage=1),
    ),
}
ROWS = tuple(row for rows in TABLES.values() for row in rows)
FETCHING = (  # weights, which not every machine can
    "one frame, ImageNet's encoder",
    "RAFT's flow",
)
OFFLINE = tuple(row.name for row in ROWS if row.name not in FETCHING)
BASELINES = tuple(row.name for row in TABLES["others"][:3])


def run(
    data: Path, out: Path, epochs: float | None, rows: Sequence[Row], preset: str = "toy", **grid
) -> pd.DataFrame | None:
    """The study on the data at `data`; `grid`: seeds and so on, of run_grid."""
    settings = presets.get(LADDER, preset, epochs=epochs)
    study = held = None
    if not grid.get("dry_run"):
        study = open_data(data, settings, out / "frames")
        held = held_out(study)
    measure = partial(measure_row, settings, study, held)
    return run_grid(rows, measure=measure, out=out, about=f"{data.name} {settings}", **grid)


def measure_row(base: Ladder, data: LadderData, held: Held, row: Row, seed: int, folder: Path) -> list[dict]:
    """What a row is asked: see lib.studies.ladder_measures and lib.studies.hidden_states."""
    if row.name in BASELINES:
        return prediction_scores(baseline(row.name, held), held, baseline(BASELINES[0], held))
    if "norm_pix" in row.changes:
        model, losses = train_siammae(base, data, row, seed, folder)
        if model.norm_pix:  # it knows patches but for their means
            return loss_curve(losses)
        predicted = patch_predictions(model, held, PAPER_FPS / data.fps)
        scores = prediction_scores(predicted, held, baseline(BASELINES[0], held), step=len(losses))
        return [*scores, *loss_curve(losses)]
    model, losses, samples = train_ladder(base, data, row, seed, folder)
    common = {"step": len(losses) or None}
    values = {"parameters": sum(part.numel() for name, part in model.named_parameters() if "encoder" not in name)}
    values |= {"minutes": training_minutes(losses)} if losses else {}
    if "circle" in row.changes:
        return [*records(values | circle_errors(model, samples), **common), *loss_curve(losses)]
    if "clips" in row.changes:
        frames = torch.stack([samples[number]["video"].transpose(0, 1) for number in range(len(samples))])
        given, futures = frames.split([base.num_frames - FUTURES, FUTURES], dim=1)
        own = Held(given, futures, torch.ones_like(futures[:, :, 0], dtype=torch.bool), held.mask)
        scores = prediction_scores(ladder_predictions(model, own), own, baseline(BASELINES[0], own), masked=False)
        return [*records(values, **common), *scores, *loss_curve(losses)]
    scores = prediction_scores(ladder_predictions(model, held), held, baseline(BASELINES[0], held), **common)
    parts = [data.windows(videos, base.num_frames, windows=base.windows) for videos in (data.train, data.test)]
    known = accuracies(model, *parts, seed, folder / "states")
    shutil.rmtree(folder / "states")
    return [*records(values, **common), *scores, *known, *loss_curve(losses)]


# --- Training ---


def train_ladder(
    base: Ladder, data: LadderData, row: Row, seed: int, folder: Path
) -> tuple[VideoLadder, list[Record], Dataset]:
    """Train, if the row does, or go on, or load: the model, ready to be measured, its loss curve, its samples."""
    settings, arguments = row.settings(base)
    number, taps = arguments.pop("clips", 0), arguments.pop("taps", None)
    if arguments.pop("circle", False):
        samples = Circles()
        settings = circle_settings(settings, samples, CIRCLE_STEPS)
    elif number:  # for as many steps as the others, however few the clips
        windows = -(-number // len(data.train.clips))
        samples = data.windows(data.train, base.num_frames, windows=windows, only=number)
        epochs = row.length * base.steps(len(data.train.clips)) * base.batch_size / number
        settings = replace(settings, epochs=epochs, warmup_epochs=base.warmup_epochs * epochs / base.epochs)
    else:
        reader = FrameReader(base.num_frames, base.size, data.frames)
        samples = FrameClips(data.train, reader, settings.fps, settings.fps_epochs * max(1, row.length), seed)
    seen = siammae_encoder(base, data, taps == "SiamMAE", seed, folder.parent) if taps else None  # trained, or not
    torch.manual_seed(seed)
    encoder = TokenTaps(seen) if seen else ResNetTaps(settings.encoder_weights)
    model = VideoLadder(**settings.model_arguments(), **arguments, encoder=encoder)
    losses = fit(model, samples, settings, folder, seed) if row.length else []
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu"), losses, samples


def circle_settings(settings: Ladder, circles: Circles, steps: int) -> Ladder:
    """The settings for the circle: all sequences in each step, at the same learning rate."""
    rate = settings.base_lr * settings.batch_size / len(circles)
    size = tuple(circles.videos.shape[-2:])
    return replace(settings, size=size, batch_size=len(circles), base_lr=rate, epochs=steps)


def siammae_encoder(base: Ladder, data: LadderData, trained: bool, seed: int, out: Path) -> nn.Module:
    """The encoder of the study's SiamMAE, which is trained if it is to be and not there."""
    (row,) = choose(TABLES["others"], ["SiamMAE"])
    row = row if trained else replace(row, length=0)
    return train_siammae(base, data, row, seed, run_folder(out, row.name, seed))[0].encoder


def train_siammae(
    base: Ladder, data: LadderData, row: Row, seed: int, folder: Path
) -> tuple[SeveralFrames, list[Record]]:
    """SiamMAE, from one past frame to one of those that the ladder predicts, on the same videos.

    A model of pixels goes on from one of normalised patches, as in lib.studies.futures.
    """
    if base.size[0] != base.size[1]:
        raise UserError(f"size {base.size}: SiamMAE is built for square frames; choose other rows, or a square size")
    gap = PAPER_FPS / data.fps
    settings = replace(
        presets.SIAMMAE["toy"], image_size=base.size[0], patch_size=PATCH, mask_ratio=MASK_RATIO, crop_scale=(0.5, 1.0),
        frame_size=96, gap=(round(gap), round(FUTURES * gap)), norm_pix=row.changes["norm_pix"],
    )  # fmt: skip
    epochs = 5 * base.epochs * (row.length or 1)
    settings = replace(settings, epochs=epochs, warmup_epochs=epochs / 20)
    names = ("image_size", "gap", "crop_scale", "repeated_sampling", "frame_size")
    pairs = {name: getattr(settings, name) for name in names}
    torch.manual_seed(seed)
    model = SeveralFrames(**settings.model_arguments())
    if not row.length:
        return model.eval(), []
    if not model.norm_pix and not (folder / "last.pt").is_file():
        (first,) = choose(TABLES["others"], ["SiamMAE"])
        before, _ = train_siammae(base, data, first, seed, run_folder(folder.parent, first.name, seed))
        model.load_state_dict(before.state_dict())
    clips = [clip for clip in data.train.clips if clip.info.reaches(settings.gap[1] / PAPER_FPS)]
    groups = FrameGroups(clips, **pairs, seed=seed, frame_cache=data.frames)
    with FileLock(folder.with_suffix(".lock")):  # rows of other processes may want the same model
        losses = fit(model, groups, settings, folder, seed, collate_pairs)
    return model.to("cuda" if torch.cuda.is_available() else "cpu"), losses


@torch.inference_mode()
def ladder_predictions(model: VideoLadder, held: Held) -> Tensor:
    """The futures by a ladder that is given the last frames: float (I, F, 3, H, W), on the CPU."""
    device = next(model.parameters()).device
    given = held.given[:, -model.given :].to(device).float() / 255
    return torch.cat([model.predict(part, FUTURES).float().cpu() for part in given.split(16)])
