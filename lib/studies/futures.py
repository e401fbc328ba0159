"""SiamMAE from several past frames to several future ones: how wrong by horizon, and are the features better?

Features come of normalised targets, as everywhere. These say only how pixels differ from the true patch's mean, so the
rows named "pixels" go on from such a model and learn to predict the pixels themselves: what they paint owes nothing to
the truth, and can be the past of a further prediction. Shapes: `I` pasts of held-out clips, `G` horizons, `S` side of
the crop, `P` patch side, `N` patches. Times are in frames at 30 fps.
"""

from collections.abc import Sequence
from dataclasses import replace
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
from lib.errors import UserError
from lib.evaluation.extrapolation import extrapolate, optical_flow
from lib.models.several_frames import SeveralFrames
from lib.presets.frame_pairs import FramePairs
from lib.runtime import in_threads
from lib.studies import ablations, three_tasks
from lib.studies.grid import Row, choose, run_folder, run_grid
from lib.studies.shipped import load_shipped
from lib.studies.table import records
from lib.studies.uncertainty_data import Split, Study, prepare
from lib.tokens.masking import Mask, random_mask
from lib.tokens.painting import paint_prediction
from lib.tokens.patches import normalize_images, target_patches
from lib.training import fit, options_of

SCALES = {
    "toy": replace(ablations.SCALES["toy"], gap=(4, 48)),
    "laptop": replace(presets.SIAMMAE["laptop"], gap=(4, 48), blocks=(-1,)),
}
AGES = (4, 8, 12)  # of the earlier frames of held-out clips

# `futures` and `pasts` are how many frames of each a sample has. A step predicts as many futures in all rows, so that
# with more of them in a sample there are fewer samples; but in the rows "as many pasts" it has as many samples.
BASELINES = ("copy of the past", "linear flow", "true patch colours")
FEATURES = (
    Row("1 future, gap unknown", {"knows_time": False}),
    Row("1 future"),
    Row("2 futures", {"futures": 2}),
    Row("4 futures", {"futures": 4}),
    Row("8 futures", {"futures": 8}),
    *(Row(f"{number} futures, as many pasts", {"futures": number, "as_many": True}) for number in (2, 4, 8)),
    Row("2 pasts, memory", {"pasts": 2}),
    Row("4 pasts, memory", {"pasts": 4}),
    Row("2 pasts, recurrent", {"pasts": 2, "join": "recurrent"}),
    Row("4 pasts, recurrent", {"pasts": 4, "join": "recurrent"}),
)
PIXELS = tuple(
    Row(f"pixels, {name}", {"futures": number, "norm_pix": False, "start": name}, length=2, stage=1)
    for name, number in (("1 future", 1), ("2 futures", 2), ("4 futures", 4), ("8 futures", 8))
)
ROWS = (*FEATURES, *PIXELS, *(Row(name, seeds=1) for name in BASELINES))


def run(
    data: Path, out: Path, epochs: float | None, rows: Sequence[Row], preset: str = "toy", **grid
) -> pd.DataFrame | None:
    """The study on the data at `data`; `grid`: seeds and so on, of run_grid."""
    settings = presets.get(SCALES, preset, epochs=epochs)
    study = None if grid.get("dry_run") else study_of(data, settings, out)  # which renders clips
    tasks = three_tasks.open_tasks(data)
    return run_grid(rows, measure=partial(measure_row, study, tasks), out=out, about=f"{data.name} {settings}", **grid)


def study_of(data: Path, settings: FramePairs, out: Path, **others) -> Study:
    """The data, with `own_masks`; others: of lib.studies.uncertainty_data.prepare."""
    study = prepare(data, settings, out, ages=AGES, **others)
    return replace(study, test=own_masks(study.test.futures, settings.patch_size, settings.mask_ratio))


def own_masks(futures: Futures, patch_size: int, mask_ratio: float) -> Split:
    """The clips with a random mask for each future, as in training, always the same: of shapes (I, G, ...)."""
    sizes = futures.future.shape[:2]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mask = random_mask(sizes.numel(), (futures.past.shape[-1] // patch_size) ** 2, mask_ratio)
    return Split(futures, Mask(*(part.unflatten(0, sizes) for part in mask)))


def measure_row(study: Study, tasks: dict, row: Row, seed: int, folder: Path) -> list[dict]:
    """Squared errors of hidden patches by horizon, and scores of the features.

    "normalised +4" is the error of normalised patches, 1 for a grey guess; "pixels +4" that of pixels; "rolled +4" that
    of pixels predicted from predictions. A row has those that it can have.
    """
    size = study.preset.patch_size
    if row.name in BASELINES:
        values = by_horizon("pixels", guess_errors(study.test, row.name, size, False), study.test)
        if row.name != "true patch colours":  # without contrast, there is nothing to normalise
            values |= by_horizon("normalised", guess_errors(study.test, row.name, size, True), study.test)
        return records(values)
    model, losses = train_model(study, row, seed, folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device)
    numbers = row.changes.get("futures", 1), row.changes.get("pasts", 1)
    measures = {"normalised": False} if model.norm_pix else {"pixels": False, "rolled": True}
    values = {}
    for name, rolled in measures.items():
        patches = predicted_patches(model, study.test, *numbers, rolled)
        values |= by_horizon(name, errors_of(patches, study.test, size, model.norm_pix), study.test)
    settings = row.settings(study.preset)[0]
    values |= three_tasks.scores_of(model.encoder, tasks, settings, folder / "predictions", device)
    return records(values, step=len(losses))


def train_model(
    study: Study, row: Row, seed: int, folder: Path, shipped: Path | None = None
) -> tuple[SeveralFrames, list[Record]]:
    """Train, go on, or load; the model and its loss curve. A row that starts from another has that trained first.

    shipped: a file of committed weights, which serves if it is of just this run and nothing is trained in the folder.
    """
    settings, groups, arguments = parts_of(study, row, seed)
    start = arguments.pop("start", None)
    torch.manual_seed(seed)
    model = SeveralFrames(**settings.model_arguments(), **arguments)
    begun = (folder / "last.pt").is_file()
    if shipped and not begun and (losses := load_shipped(model, shipped, options_of(settings, groups, seed))):
        return model.eval(), losses
    if start and not begun:
        (first,) = choose(FEATURES, [start])
        before, _ = train_model(study, first, seed, run_folder(study.out, first.name, seed))
        model.load_state_dict(before.state_dict())
    return model, fit(model, groups, settings, folder, seed, collate_pairs)


def parts_of(study: Study, row: Row, seed: int) -> tuple[presets.Schedule, FrameGroups, dict]:
    """The row's settings, samples to train on, and arguments of the model."""
    settings, arguments = row.settings(study.preset)
    numbers = {name: arguments.pop(name, 1) for name in ("pasts", "futures")}
    fewer = 1 if arguments.pop("as_many", False) else numbers["futures"]
    size = settings.batch_size // fewer  # samples a step
    if size < settings.repeated_sampling:
        least = fewer * settings.repeated_sampling
        raise UserError(f"batch_size {settings.batch_size} is too small for the row {row.name!r}: use {least} or more")
    longer = {"batch_size": size, "base_lr": settings.base_lr * settings.batch_size / size}  # the same rate, steps
    settings = presets.get({"row": settings}, "row", epochs=settings.epochs * size / settings.batch_size, **longer)
    names = ("image_size", "gap", "crop_scale", "repeated_sampling", "frame_size")
    given = {name: getattr(settings, name) for name in names}
    cache = study.frames if settings.cache_frames else None
    return settings, FrameGroups(study.clips, **numbers, **given, seed=seed, frame_cache=cache), arguments


# --- Predictions ---


@torch.inference_mode()
def predicted_patches(model: SeveralFrames, split: Split, number: int, pasts: int, rolled: bool = False) -> Tensor:
    """The futures, `number` of them at once, in the loss's target space: (I, G, N, P*P*3).

    rolled: each lot is predicted from the last of the lot before, painted where hidden; else all from the true past.
    """
    device = next(model.parameters()).device
    futures, mask = split.futures, Mask(*(part.to(device) for part in split.mask))
    history = [*futures.earlier[:, : pasts - 1].flip(1).unbind(1), futures.past]
    history = [normalize_images(frame.to(device)) for frame in history]
    times = [*(-age for age in reversed(futures.ages[: pasts - 1])), 0]
    truth, predicted = normalize_images(futures.future.to(device)), []
    for start in range(0, len(futures.gaps), number):
        lot, gaps, now = truth[:, start : start + number], futures.gaps[start : start + number], times[-1]
        age = torch.tensor([[now - time for time in times]], device=device).expand(len(truth), -1)
        gap = torch.tensor([[gap - now for gap in gaps]], device=device).expand(len(truth), -1)
        masks = Mask(*(part[:, start : start + number].flatten(0, 1) for part in mask))
        prediction, _ = model.predict(torch.stack(history, 1), age, lot, gap, masks)
        predicted.append(prediction.float())
        if rolled:
            hidden = mask.hidden[:, start + lot.shape[1] - 1]
            given = lot[:, -1], predicted[-1][:, -1], hidden, model.patch_size, model.norm_pix
            history, times = [*history[1:], paint_prediction(*given)], [*times[1:], gaps[-1]]
    return torch.cat(predicted, dim=1).cpu()


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


def guess_errors(split: Split, name: str, patch_size: int, norm_pix: bool) -> Tensor:
    """`errors_of` a guess of `baseline_frames`: (I, G)."""
    frames = baseline_frames(split.futures, name, patch_size)
    patches = target_patches(frames.flatten(0, 1), patch_size, norm_pix).unflatten(0, frames.shape[:2])
    return errors_of(patches, split, patch_size, norm_pix)


def by_horizon(name: str, errors: Tensor, split: Split) -> dict[str, float]:
    """The mean of `errors_of` at each horizon: "{name} +4" and so on."""
    return {f"{name} +{gap}": float(error) for gap, error in zip(split.futures.gaps, errors.mean(dim=0), strict=True)}


def errors_of(patches: Tensor, split: Split, patch_size: int, norm_pix: bool) -> Tensor:
    """Each past's mean squared error over its hidden patches, of predictions (I, G, N, P*P*3): (I, G)."""
    truth = normalize_images(split.futures.future)
    target = target_patches(truth.flatten(0, 1), patch_size, norm_pix).unflatten(0, truth.shape[:2])
    errors, hidden = (patches - target).square().mean(dim=-1), split.mask.hidden  # (I, G, N)
    return (errors * hidden).sum(-1) / hidden.sum(-1)
