"""What wavelet attention costs: steps of pre-training and fine-tuning with it beside MAE's, at one size.

Steps are those of `lib.training`, on random pictures, in the sizes of a preset; the ratio of the shortest ones counts.
"""

import argparse

import torch

from lib.benchmark.timing import TrainingStep, add_device_arguments, best_times, check_counts, check_device, conditions
from lib.models.classifier import Classifier
from lib.models.mae import MAE
from lib.models.reported_mae import reported_mae
from lib.models.wavelet_mae import WaveletMAE
from lib.presets.pictures import CIFAR, CIFAR_FINE_TUNING
from lib.training import choose_precision

PLAIN = "MAE"
MODELS = {  # as lib.studies.wavelets calls them
    PLAIN: (MAE, {}),
    "MAE, 7 blocks": (MAE, {"depth": 7}),
    "wavelets, scatter": (WaveletMAE, {}),
    "wavelets, pseudo-grid": (WaveletMAE, {"token_layout": "pseudo_grid"}),
    "no wavelets, scatter": (WaveletMAE, {"transform": "regroup"}),
    "report's MAE": (reported_mae, {}),
    "report's wavelets": (reported_mae, {"wavelets": True}),
}
STAGES = {"pre-training": CIFAR, "fine-tuning": CIFAR_FINE_TUNING}
CLASSES = 10


def training_step(name: str, stage: str, args: argparse.Namespace) -> TrainingStep:
    """A step of a model's pre-training or fine-tuning, on the same random pictures each time."""
    settings, size = CIFAR[args.preset], args.batch or STAGES[stage][args.preset].batch_size
    kind, arguments = MODELS[name]
    model = kind(**settings.model_arguments() | arguments)
    if stage == "fine-tuning":
        regular = CIFAR_FINE_TUNING[args.preset].classifier_arguments()
        model = Classifier(model, settings.embed_dim, CLASSES, **regular)
    pictures = torch.randint(256, (size, 3, settings.image_size, settings.image_size), dtype=torch.uint8)
    batch = {"image": pictures.to(args.device), "label": torch.randint(CLASSES, (size,)).to(args.device)}
    return TrainingStep(model.to(args.device), batch, args.device, args.precision)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m lib.benchmark wavelets`."""
    parser.add_argument("--preset", choices=CIFAR, default="laptop", help="sizes of the models (default: laptop)")
    parser.add_argument("--batch", type=int, help="pictures of a step (default: the preset's)")
    parser.add_argument("--rounds", type=int, default=5, help="timed steps of each model, best counts (default: 5)")
    add_device_arguments(parser)


def run(args: argparse.Namespace) -> dict:
    """Measure and return the result."""
    check_counts(args, "batch", "rounds")
    check_device(args.device)
    rows = []
    for stage in STAGES:
        steps = {name: training_step(name, stage, args) for name in MODELS}
        for step in steps.values():
            step()  # makes the optimizer's state
        seconds = best_times(steps, args.rounds)
        rows += [
            {"model": name, "stage": stage, "seconds": s, "time_ratio": s / seconds[PLAIN]}
            for name, s in seconds.items()
        ]
    return {
        "preset": args.preset,
        "batch": args.batch,
        "rounds": args.rounds,
        "precision": choose_precision(args.precision),
        "device": args.device,
        "rows": rows,
        **conditions(),
    }
