"""What stating an uncertainty costs: a training step with each head beside plain SiamMAE's.

Steps are those of `lib.training`, on random pairs, in the sizes of a preset; the ratio of the shortest ones counts.
"""

import argparse

import torch

from lib import presets
from lib.benchmark.timing import TrainingStep, add_device_arguments, best_times, check_counts, check_device, conditions
from lib.models.adaptive_sampler import AdaptiveMasking
from lib.models.evidential import EvidentialSiamMAE
from lib.models.guided_masking import GuidedSiamMAE
from lib.models.siammae import SiamMAE
from lib.models.variance_heads import GaussianSiamMAE
from lib.training import choose_precision

PLAIN = "plain SiamMAE"
SAMPLER = "AdaMAE's sampler"
MODELS = {
    PLAIN: (SiamMAE, {}),
    "Gaussian head": (GaussianSiamMAE, {}),
    "Gaussian head, detached": (GaussianSiamMAE, {"beta": 1.0, "detach_input": True}),
    "Gaussian head, dropout": (GaussianSiamMAE, {"dropout": 0.1}),
    "evidential head": (EvidentialSiamMAE, {}),
    "guided masking": (GuidedSiamMAE, {}),
    SAMPLER: (GaussianSiamMAE, {}),
}


def training_step(name: str, args: argparse.Namespace) -> TrainingStep:
    """A training step of a model, on the same random pairs each time."""
    settings = presets.SIAMMAE[args.preset]
    kind, arguments = MODELS[name]
    masking = {"masking": AdaptiveMasking(settings.mask_ratio)} if name == SAMPLER else {}
    with torch.device(args.device):
        model = kind(**settings.model_arguments(), **arguments, **masking)
    frames = (args.batch or settings.batch_size, 3, settings.image_size, settings.image_size)
    batch = {part: torch.randint(256, frames, dtype=torch.uint8).to(args.device) for part in ("past", "future")}
    batch["gap"] = torch.full(frames[:1], 16.0, device=args.device)
    return TrainingStep(model, batch, args.device, args.precision)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m lib.benchmark uncertainty`."""
    parser.add_argument("--preset", choices=presets.SIAMMAE, default="toy", help="sizes of the models (default: toy)")
    parser.add_argument("--batch", type=int, help="pairs of a step (default: the preset's)")
    parser.add_argument("--rounds", type=int, default=20, help="timed steps of each model, best counts (default: 20)")
    add_device_arguments(parser)


def run(args: argparse.Namespace) -> dict:
    """Measure and return the result."""
    check_counts(args, "batch", "rounds")
    check_device(args.device)
    steps = {name: training_step(name, args) for name in MODELS}
    for step in steps.values():
        step()  # makes the optimizer's state
    seconds = best_times(steps, args.rounds)
    rows = [{"model": name, "seconds": s, "time_ratio": s / seconds[PLAIN]} for name, s in seconds.items()]
    return {
        "preset": args.preset,
        "batch": args.batch or presets.SIAMMAE[args.preset].batch_size,
        "rounds": args.rounds,
        "precision": choose_precision(args.precision),
        "device": args.device,
        "rows": rows,
        **conditions(),
    }
