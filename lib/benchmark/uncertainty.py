"""What stating an uncertainty costs: a training step with each head beside plain SiamMAE's, `python -m lib.benchmark
uncertainty`.

Forward, backward and AdamW as `lib.training` does them, on random pairs, in the sizes of a preset. All models take
turns, so that a machine that slows down favours none; the ratio of the shortest steps counts. Models share nothing.
"""

import argparse
from collections.abc import Callable

import torch

from lib.benchmark.timing import best_times, conditions
from lib.errors import UserError
from lib.models.evidential import EvidentialSiamMAE
from lib.models.guided_masking import SmartSiamMAE
from lib.models.siammae import SiamMAE
from lib.models.variance_heads import GaussianSiamMAE
from lib.models.vit import vit_size
from lib.presets.frame_pairs import PRESETS, get_preset
from lib.training import choose_precision, fast_cpu_attention, parameter_groups

PLAIN = "plain SiamMAE"
MODELS = {
    PLAIN: (SiamMAE, {}),
    "Gaussian head": (GaussianSiamMAE, {}),
    "Gaussian head, detached": (GaussianSiamMAE, {"beta": 1.0, "detach_input": True}),
    "Gaussian head, dropout": (GaussianSiamMAE, {"dropout": 0.1}),
    "evidential head": (EvidentialSiamMAE, {}),
    "smart masking": (SmartSiamMAE, {}),
    "AdaMAE's sampler": (GaussianSiamMAE, {"masking": "ours"}),
}


def trainer(name: str, args: argparse.Namespace) -> Callable[[], None]:
    """A whole training step of a model, on the same random pairs each time."""
    preset, device = get_preset(args.preset), torch.device(args.device)
    kind, extra = MODELS[name]
    with device:
        model = kind(**preset.model_arguments(vit_size(preset.encoder)), mask_ratio=preset.mask_ratio, **extra)
    frames = (args.batch or preset.batch_size, 3, preset.image_size, preset.image_size)
    batch = {part: torch.randint(256, frames, dtype=torch.uint8).to(device) for part in ("past", "future")}
    batch["gap"] = torch.full(frames[:1], 16.0, device=device)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.05), lr=1e-5, betas=(0.9, 0.95), fused=True)
    bf16 = choose_precision(args.precision) == "bf16"

    def step() -> None:
        with fast_cpu_attention(device, getattr(model, "sequence_length", 0)):
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss, _ = model(batch)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return step


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m lib.benchmark uncertainty`."""
    parser.add_argument("--preset", choices=PRESETS, default="toy", help="sizes of the models (default: toy)")
    parser.add_argument("--batch", type=int, help="pairs of a step (default: the preset's)")
    parser.add_argument("--rounds", type=int, default=20, help="timed steps of each model, best counts (default: 20)")
    parser.add_argument("--precision", default="auto", help="auto, bf16 or no, as in training (default: auto)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")


def run(args: argparse.Namespace) -> dict:
    """Measure and return the result. Raises UserError for a batch or a device that cannot be."""
    if args.batch is not None and args.batch < 1:
        raise UserError(f"--batch must be 1 or more, not {args.batch}")
    if args.device not in ("cpu", "cuda") or (args.device == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"--device {args.device} is not there: choose cpu, or cuda on a machine that has it")
    steps = {name: trainer(name, args) for name in MODELS}
    for step in steps.values():
        step()  # makes the optimizer's state
    seconds = best_times(steps, args.rounds)
    rows = [{"model": name, "seconds": s, "time_ratio": s / seconds[PLAIN]} for name, s in seconds.items()]
    given = {"preset": args.preset, "batch": args.batch or get_preset(args.preset).batch_size, "rounds": args.rounds}
    return {**given, "precision": choose_precision(args.precision), "device": args.device, "rows": rows, **conditions()}


def show(result: dict) -> None:
    """Print what `run` returned."""
    print(f"preset {result['preset']}, {result['batch']} pairs a step, precision {result['precision']}")
    print(f"{result['device']}, {result['hardware']}, {result['torch_threads']} threads; ratios to {PLAIN}")
    for row in result["rows"]:
        print(f"{row['model']:26} {row['seconds']:8.3f} s {row['time_ratio']:7.3f}")
