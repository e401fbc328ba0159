"""MAE with and without wavelet attention on CIFAR-10: what the course report's loss of accuracy is made of.

A cell pre-trains without labels, probes the frozen encoder, measures the detail of reconstructions, and fine-tunes.
Rows see as many pictures, and of one seed the same crops, but those "at its rate", whose batches are others.
Shapes: `B` pictures, `S` side, `N` patches.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from lib import presets
from lib.checkpoints import Record, training_minutes
from lib.data.cifar import LabelledPictures, read_splits, some
from lib.data.picture_crops import PictureCrops, collate, enlarged
from lib.errors import UserError
from lib.evaluation.recognition import linear_probe, topk_accuracy
from lib.evaluation.spectrum import radial_spectra, sharpness
from lib.models.classifier import Classifier
from lib.models.mae import MAE
from lib.models.reported_mae import reported_mae
from lib.models.wavelet_mae import WaveletMAE
from lib.presets.pictures import CIFAR, CIFAR_FINE_TUNING, PictureFineTuning
from lib.runtime import dataset_root
from lib.studies.grid import Row, run_grid
from lib.studies.table import records
from lib.tokens.masking import mask_from_noise
from lib.tokens.maskings import get_masking
from lib.tokens.patches import denormalize_images, normalize_images, unpatchify
from lib.training import fit

SCALES = CIFAR
AT_ONCE = 500  # pictures measured at once
DRAWN = 1000  # test pictures whose reconstructions are measured


def wavelets(name: str, length: float = 1.0, **changes) -> Row:
    """A row of MAE with wavelet attention instead of its own."""
    return Row(name, changes, WaveletMAE, length)


def reported(name: str, length: float = 1.0, **changes) -> Row:
    """A row of the report's form: other details of attention, and wavelet attention, if any, beside it."""
    return Row(name, changes, reported_mae, length)


LONG_WARMUP = {"warmup_share": 0.8}  # the report's: 40 epochs of the 50 that are logged
BATCHES = {"batch_size": 16, "base_lr": 1e-3}  # the report's logs: 6.25e-5 at the peak
ITS_RATE = {**BATCHES, **LONG_WARMUP, "tuning": BATCHES}
SCRATCH = {"layer_decay": 1.0}  # what fine-tuning from random weights is better off with
TABLES = {
    "fair": (
        Row("MAE"),
        Row("MAE, 7 blocks", {"depth": 7}),  # the parameters of 4 with wavelets, nearly, which laptop and colab have
        Row("MAE, cells masked", {"masking": "cell"}),
        wavelets("wavelets, scatter"),
        wavelets("wavelets, cell", token_layout="cell"),
        wavelets("wavelets, pseudo-grid", token_layout="pseudo_grid"),
        wavelets("no wavelets, scatter", transform="regroup"),
    ),
    "reported": (
        reported("report's MAE"),
        reported("report's wavelets", wavelets=True),
        reported("report's wavelets, scatter", wavelets=True, token_layout="scatter"),
        reported("report's no wavelets, scatter", wavelets=True, token_layout="scatter", transform="regroup"),
    ),
    "schedule": (
        reported("report's MAE, long warm-up", **LONG_WARMUP),
        reported("report's wavelets, long warm-up", wavelets=True, **LONG_WARMUP),
    ),
    "untrained": (
        Row("MAE, untrained", {"tuning": SCRATCH}, length=0),
        wavelets("wavelets, untrained", 0, tuning=SCRATCH),
        reported("report's wavelets, untrained", 0, wavelets=True, tuning=SCRATCH),
    ),
    "its rate": (
        reported("report's MAE, its rate", **ITS_RATE),
        reported("report's wavelets, its rate", wavelets=True, **ITS_RATE),
        reported("report's MAE, untrained, its rate", 0, **ITS_RATE),
        reported("report's wavelets, untrained, its rate", 0, wavelets=True, **ITS_RATE),
    ),
}
ROWS = tuple(row for rows in TABLES.values() for row in rows)


def run(
    data: Path, out: Path, epochs: float | None, rows: Sequence[Row], preset: str = "toy", **grid
) -> pd.DataFrame | None:
    """The study on the CIFAR-10 at `data`, or in its cifar10/; `grid`: seeds and so on, of run_grid."""
    base, tuning = presets.get(CIFAR, preset, epochs=epochs), CIFAR_FINE_TUNING[preset]
    root = dataset_root(data, ("cifar10",))
    splits = None if grid.get("dry_run") else read_splits(root)
    measure = partial(measure_row, base, tuning, splits)
    return run_grid(rows, measure=measure, out=out, about=f"{data.name} {base} {tuning}", **grid)


def measure_row(
    base: presets.Schedule, tuning: PictureFineTuning, splits: Sequence[LabelledPictures], row: Row, seed: int,
    folder: Path,
) -> list[dict]:  # fmt: skip
    """Pre-train, if the row does, and measure; accuracies in percent of the test split. What was trained is deleted."""
    train, test = splits
    settings, tuning, model, losses = train_row(base, tuning, train, row, seed, folder)
    values = {"parameters": sum(part.numel() for part in model.encoder.parameters())}
    if losses:
        values |= {"epoch seconds": 60 * training_minutes(losses) / settings.epochs, **details(model, test)}
    labelled = some(train, tuning.labelled)
    values["probe"] = probe(model, some(labelled, tuning.probed), test)
    values["accuracy"] = finetune(model, tuning, labelled, test, seed, folder / "tuned")
    shutil.rmtree(folder)
    return records(values, step=len(losses), data=train.source)


def train_row(
    base: presets.Schedule, tuning: PictureFineTuning, train: LabelledPictures, row: Row, seed: int, folder: Path
) -> tuple[presets.Schedule, PictureFineTuning, MAE, list[Record]]:
    """Pre-train, if the row does, or go on, or load: `parts_of` it, its model ready to be measured, and the curve."""
    settings, tuning, model = parts_of(base, tuning, row, seed)
    losses = []
    if row.length:
        crops = PictureCrops(some(train, settings.pictures), settings.image_size, settings.crop_area, seed)
        losses = fit(model, crops, settings, folder, seed, collate)
    return settings, tuning, model.eval().to("cuda" if torch.cuda.is_available() else "cpu"), losses


def parts_of(
    base: presets.Schedule, tuning: PictureFineTuning, row: Row, seed: int
) -> tuple[presets.Schedule, PictureFineTuning, MAE]:
    """The row's settings of pre-training and fine-tuning, and its model with the seed's first weights."""
    settings, arguments = row.settings(base)
    tuning = presets.get({"base": tuning}, "base", **arguments.pop("tuning", {}))
    if share := arguments.pop("warmup_share", None):
        settings = replace(settings, warmup_epochs=share * settings.epochs)
    if name := arguments.pop("masking", None):
        arguments["masking"] = get_masking(name, settings.mask_ratio)
    torch.manual_seed(seed)
    return settings, tuning, (row.model or MAE)(**settings.model_arguments(), **arguments)


def finetune(
    model: MAE, settings: PictureFineTuning, labelled: LabelledPictures, test: LabelledPictures, seed: int, folder: Path
) -> float:
    """Train encoder and classifier, which changes the model; accuracy in the end, percent of the test split."""
    shape = model.architecture
    classifier = Classifier(model, shape["embed_dim"], len(labelled.classes), **settings.classifier_arguments())
    crops = PictureCrops(labelled, shape["image_size"], settings.crop_area, seed)
    fit(classifier, crops, settings, folder, seed, collate)
    scores = by_batches(classifier.logits, test, shape["image_size"])
    return 100 * topk_accuracy(scores, torch.from_numpy(test.labels), ks=(1,))[1]


def probe(model: MAE, train: LabelledPictures, test: LabelledPictures) -> float:
    """Accuracy of a linear classifier of the mean token, percent of the test split."""

    def mean_token(images: Tensor) -> Tensor:
        return model.features(images).mean(dim=(2, 3))

    known, unknown = (by_batches(mean_token, part, model.architecture["image_size"]) for part in (train, test))
    scores = linear_probe(known, torch.from_numpy(train.labels), unknown)
    return 100 * topk_accuracy(scores, torch.from_numpy(test.labels), ks=(1,))[1]


@torch.inference_mode()
def by_batches(function: Callable[[Tensor], Tensor], pictures: LabelledPictures, image_size: int) -> Tensor:
    """What the function makes of the pictures, normalised, in float32 on the CPU; it runs where its model is."""
    device, parts = "cuda" if torch.cuda.is_available() else "cpu", []
    for start in range(0, len(pictures.images), AT_ONCE):
        images = enlarged(pictures.images[start : start + AT_ONCE], image_size)
        parts.append(function(normalize_images(images.to(device))).float().cpu())
    return torch.cat(parts)


# --- Reconstructions ---


def details(model: MAE, test: LabelledPictures) -> dict[str, float]:
    """Of predictions of DRAWN of the test pictures by a model of plain pixels: squared "error" in units of
    normalised pixels, "sharpness" as a part of the truth's, and by ring of frequencies "power" and "agreement", the
    amplitude that is in phase with the truth, both as parts of the truth's.
    """
    step = max(1, len(test.images) // DRAWN)
    images = normalize_images(enlarged(test.images[::step][:DRAWN], model.architecture["image_size"]))
    parts = [hidden_pictures(model, part.to(next(model.parameters()).device)).cpu() for part in images.split(AT_ONCE)]
    predicted = torch.cat(parts)
    values = {"error": float((predicted - images).square().mean())}
    predicted, truth = denormalize_images(predicted), denormalize_images(images)
    values["sharpness"] = float(sharpness(predicted).mean() / sharpness(truth).mean())
    spectra = radial_spectra(predicted, truth)
    for name, power in (("power", spectra.predicted), ("agreement", spectra.shared)):
        shares = (power / spectra.truth).tolist()
        values |= {f"{name} {ring}": share for ring, share in enumerate(shares, start=1)}
    return values


@torch.inference_mode()
def hidden_pictures(model: MAE, images: Tensor, seed: int = 0) -> Tensor:
    """Normalised pictures, float (B, 3, S, S), of which every patch was predicted while it was hidden.

    The patches of a picture are dealt into lots of as many as are visible, 4 lots at a mask ratio of 0.75. Each lot in
    turn is visible and shows the model what it predicts the next lot from.
    """
    patches = model.encoder.patch_embed(images)
    with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        torch.manual_seed(seed)
        mask = model.masking(patches, model.grid)
    visible, ranks = mask.keep.shape[1], mask.restore  # (B, N)
    lots, rest = divmod(ranks.shape[1], visible)
    if rest:
        raise UserError(f"{ranks.shape[1]} patches are no whole lots of {visible} visible ones: change mask_ratio")
    pictures = []
    for lot in range(lots):
        turned = (ranks - lot * visible) % ranks.shape[1]
        pictures.append(model.predict(images, mask_from_noise(turned, visible))[0].float())
    by = (ranks // visible - 1) % lots  # the lot that a patch is predicted from
    chosen = torch.stack(pictures).gather(0, by[None, :, :, None].expand(1, -1, -1, pictures[0].shape[-1]))[0]
    return unpatchify(chosen, model.patch_size, model.grid[1:])
