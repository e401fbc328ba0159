"""SiamMAE from several past frames to several future ones: how wrong by horizon, and are the features better?

Pixels are predicted as they are: a normalised target says only how they differ from the true patch's mean, and could
neither be shown nor be predicted from again without the truth. Shapes: `I` pasts of held-out clips, `G` horizons, `S`
side of the crop, `N` patches. Times are in frames at 30 fps.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from lib import presets
from lib.checkpoints import Record
from lib.data.clips import collate_pairs
from lib.data.frame_groups import FrameGroups
from lib.data.futures import Futures
from lib.evaluation.extrapolation import extrapolate, optical_flow
from lib.models.several_frames import SeveralFrames
from lib.runtime import in_threads
from lib.studies import three_tasks
from lib.studies.grid import Row, run_grid
from lib.studies.table import records
from lib.studies.uncertainty_data import Split, Study, prepare
from lib.tokens.masking import Mask
from lib.tokens.painting import paint_prediction
from lib.tokens.patches import normalize_images, patchify
from lib.training import fit

SETTINGS = {"gap": (4, 48), "norm_pix": False, "blocks": (-1,)}
SCALES = {"toy": {**SETTINGS, "eval_frames": 20}, "laptop": SETTINGS}  # what differs from the preset
AGES = (4, 8, 12)  # of the earlier frames of held-out clips

# `futures` and `pasts` are how many frames of each a sample has. As many futures are predicted in all: with more of
# them in a sample there are fewer samples, but for the row "as many pasts".
PLAIN = Row("1 future, gap unknown", {"knows_time": False})
ONE, FOUR = Row("1 future"), Row("4 futures", {"futures": 4})
ROWS = (
    PLAIN,
    ONE,
    Row("2 futures", {"futures": 2}),
    FOUR,
    Row("8 futures", {"futures": 8}),
    Row("4 futures, as many pasts", {"futures": 4, "as_many": True}),
    Row("2 pasts, memory", {"pasts": 2}),
    Row("4 pasts, memory", {"pasts": 4}),
    Row("2 pasts, recurrent", {"pasts": 2, "join": "recurrent"}),
    Row("4 pasts, recurrent", {"pasts": 4, "join": "recurrent"}),
    *(Row(name, seeds=1) for name in ("copy of the past", "linear flow", "true patch colours")),
)
BASELINES = ("copy of the past", "linear flow", "true patch colours")


def run(
    data: Path, out: Path, epochs: float | None, rows: Sequence[Row], preset: str = "toy", **grid
) -> pd.DataFrame | None:
    """The study on the data at `data`; `grid`: seeds and so on, of run_grid."""
    settings = presets.get(presets.SIAMMAE, preset, **SCALES[preset] | ({"epochs": epochs} if epochs else {}))
    study = prepare(data, settings, out, ages=AGES)
    tasks = three_tasks.open_tasks(data)
    return run_grid(rows, measure=partial(measure_row, study, tasks), out=out, about=f"{data.name} {settings}", **grid)


def measure_row(study: Study, tasks: dict, row: Row, seed: int, folder: Path) -> list[dict]:
    """Squared errors of hidden patches by horizon, each predicted from the truth and, "rolled", from predictions;
    scores of the features. A baseline has the first alone.
    """
    if row.name in BASELINES:
        frames = baseline_frames(study.test.futures, row.name, study.preset.patch_size)
        return records(by_horizon("error", frames, study.test, study.preset.patch_size))
    model, losses = train_model(study, row, seed, folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device)
    number, pasts = row.changes.get("futures", 1), row.changes.get("pasts", 1)
    values = {}
    for name, rolled in (("error", False), ("rolled", True)):
        frames = predicted_frames(model, study.test, number, pasts, rolled)
        values |= by_horizon(name, frames, study.test, model.patch_size)
    settings = row.settings(study.preset)[0]
    values |= three_tasks.scores_of(model.encoder, tasks, settings, folder / "predictions", device)
    return records(values, step=len(losses))


def train_model(study: Study, row: Row, seed: int, folder: Path) -> tuple[SeveralFrames, list[Record]]:
    """Train, go on, or load; the model and its loss curve."""
    settings, groups, arguments = parts_of(study, row, seed)
    torch.manual_seed(seed)
    model = SeveralFrames(**settings.model_arguments(), **arguments)
    return model, fit(model, groups, settings, folder, seed, collate_pairs)


def parts_of(study: Study, row: Row, seed: int) -> tuple[presets.Schedule, FrameGroups, dict]:
    """The row's settings, samples to train on, and arguments of the model."""
    settings, arguments = row.settings(study.preset)
    numbers = {name: arguments.pop(name, 1) for name in ("pasts", "futures")}
    fewer = 1 if arguments.pop("as_many", False) else numbers["futures"]
    size = max(settings.repeated_sampling, settings.batch_size // fewer)  # samples a step
    longer = {"batch_size": size, "base_lr": settings.base_lr * settings.batch_size / size}  # the same rate, steps
    settings = presets.get({"row": settings}, "row", epochs=settings.epochs * size / settings.batch_size, **longer)
    names = ("image_size", "gap", "crop_scale", "repeated_sampling", "frame_size")
    given = {name: getattr(settings, name) for name in names}
    cache = study.frames if settings.cache_frames else None
    return settings, FrameGroups(study.clips, **numbers, **given, seed=seed, frame_cache=cache), arguments


# --- Predictions ---


@torch.inference_mode()
def predicted_frames(model: SeveralFrames, split: Split, number: int, pasts: int, rolled: bool) -> Tensor:
    """The futures, `number` of them at once: normalised frames (I, G, 3, S, S), predicted where hidden, else true.

    rolled: each lot is predicted from the last of the lot before, as it was predicted; else all from the true past.
    """
    device = next(model.parameters()).device
    futures, mask = split.futures, Mask(*(part.to(device) for part in split.mask))
    history = [*futures.earlier.flip(1).unbind(1)][len(futures.ages) - pasts + 1 :] + [futures.past]
    history = [normalize_images(frame.to(device)) for frame in history]
    times = [*(-age for age in reversed(futures.ages[: pasts - 1])), 0]
    truth, painted = normalize_images(futures.future.to(device)), []
    for start in range(0, len(futures.gaps), number):
        lot, gaps = truth[:, start : start + number], futures.gaps[start : start + number]
        now = times[-1]
        age = torch.tensor([[now - time for time in times]], device=device).expand(len(truth), -1)
        gap = torch.tensor([[gap - now for gap in gaps]], device=device).expand(len(truth), -1)
        repeated = Mask(*(part.repeat_interleave(lot.shape[1], dim=0) for part in mask))
        prediction, _ = model.predict(torch.stack(history, 1), age, lot, gap, repeated)
        parts = lot.flatten(0, 1), prediction.flatten(0, 1).float(), repeated.hidden, model.patch_size, model.norm_pix
        painted.append(paint_prediction(*parts).unflatten(0, lot.shape[:2]))
        if rolled:
            history, times = [*history[1:], painted[-1][:, -1]], [*times[1:], gaps[-1]]
    return torch.cat(painted, dim=1).cpu()


def baseline_frames(futures: Futures, name: str, patch_size: int) -> Tensor:
    """Guesses that need no training: normalised frames (I, G, 3, S, S). "true patch colours" knows the truth's."""
    past, truth = normalize_images(futures.past), normalize_images(futures.future)
    if name == "copy of the past":
        return past.unsqueeze(1).expand_as(truth)
    if name == "true patch colours":
        colors = F.avg_pool2d(truth.flatten(0, 1), patch_size)
        return F.interpolate(colors, scale_factor=patch_size).unflatten(0, truth.shape[:2])
    flows = in_threads(lambda pair: optical_flow(*pair), zip(futures.past, futures.earlier[:, 0], strict=True), 1)
    steps = [gap / futures.ages[0] for gap in futures.gaps]
    return torch.stack([extrapolate(frame, flow, steps) for frame, flow in zip(past, flows, strict=True)])


def by_horizon(name: str, frames: Tensor, split: Split, patch_size: int) -> dict[str, float]:
    """The mean squared error of the hidden patches at each horizon, in units of normalised pixels: "{name} +4"."""
    errors = errors_of(frames, split, patch_size).mean(dim=0)
    return {f"{name} +{gap}": float(error) for gap, error in zip(split.futures.gaps, errors, strict=True)}


def errors_of(frames: Tensor, split: Split, patch_size: int) -> Tensor:
    """Each past's mean squared error over its hidden patches: (I, G)."""
    wrong = (frames - normalize_images(split.futures.future)).square().flatten(0, 1)
    patches = patchify(wrong, patch_size).mean(dim=-1).unflatten(0, frames.shape[:2])  # (I, G, N)
    hidden = split.mask.hidden.unsqueeze(1).expand_as(patches)
    return (patches * hidden).sum(-1) / hidden.sum(-1)
