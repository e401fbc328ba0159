"""What a training step costs by masking, mask ratio, decoder depth and sampler: `python -m lib.benchmark masking`.

The memory columns of AdaMAE's Table 1 a, b, c and f (Bandara et al. 2023, arXiv 2211.09120), measured here beside
what the paper prints (batch 16 on one GPU, precision and attention kernel not stated), and the time of a step as well:
those of `lib.training`, on random clips. Ratios are to the paper's default: adaptive,
0.95, a sampler of one block of the encoder's width. Random masking at 0.95 is no row of the paper; the comparison with
it shows what the sampler alone costs.

Memory is what a step needs at least: weights, position tables, optimizer state and the batch, by their sizes, and the
most that the step holds at once on top, gradients and activations, by PyTorch's allocator (its trace on a CPU, its own
peak on a GPU). Not counted: what libraries allocate past PyTorch, fragments, and the interpreter. With one clip of a
large model the gradients at the end of the backward pass outweigh the activations, so its memory hardly tells designs
apart.

All designs train one encoder with one optimizer state, so that they fit in memory together and can take turns.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from lib.benchmark.timing import best_times, conditions
from lib.benchmark.training_step import TrainingStep, add_device_arguments, check_device
from lib.errors import UserError
from lib.models.adamae import AdaMAE
from lib.models.adaptive_sampler import OBJECTIVES
from lib.models.video_mae import VideoMAE
from lib.tokens.maskings import get_masking
from lib.training import choose_precision


@dataclass(frozen=True)
class Design:
    """What differs between two rows; `decoder_depth` None is the command line's, `sampler_width` a fraction of D."""

    masking: str = "adaptive"
    ratio: float = 0.95
    decoder_depth: int | None = None
    sampler_depth: int = 1
    sampler_width: float = 1.0
    sampler_mlp: bool = True


DEFAULT = Design()
HALF = Design(sampler_width=0.5)
ATTENTION = Design(sampler_width=0.5, sampler_mlp=False)
DEFAULT_GB = 14.4
# Table -> rows of (case, as figures/paper/adamae.csv has it, design, the paper's GB, None where it has no such row).
TABLES = {
    "a": [
        ("tube", Design("tube", 0.75), 16.2),
        ("tube", Design("tube", 0.9), 14.7),
        ("random", Design("random", 0.75), 16.2),
        ("random", Design("random", 0.9), 14.7),
        ("random", Design("random", 0.95), None),
        ("frame", Design("frame", 0.875), 12.8),
        ("adaptive", DEFAULT, DEFAULT_GB),
    ],
    "b": [
        ("adaptive", replace(DEFAULT, ratio=ratio), gb)
        for ratio, gb in ((0.98, 14.1), (0.95, DEFAULT_GB), (0.9, 15.1), (0.85, 15.9), (0.8, 16.9))
    ],
    "c": [
        (f"{depth} decoder block{'s' if depth > 1 else ''}", replace(DEFAULT, decoder_depth=depth), gb)
        for depth, gb in ((1, 9.2), (2, 11.0), (4, DEFAULT_GB), (8, 21.3))
    ],
    "f": [
        ("MLP", replace(DEFAULT, sampler_depth=0), 11.8),
        ("MHA, depth 1, width 384", HALF, 14.0),
        ("attention, width 384", ATTENTION, None),
        ("MHA, depth 1, width 768", DEFAULT, DEFAULT_GB),
        ("MHA, depth 2, width 384", replace(DEFAULT, sampler_depth=2, sampler_width=0.5), 17.1),
    ],
}
# What the paper claims of memory, what the sampler alone costs, and what a cheaper one would: (of, against, the
# paper's ratio of memory).
COMPARISONS = {
    "adaptive 0.95 against random 0.9": (DEFAULT, Design("random", 0.9), DEFAULT_GB / 14.7),
    "adaptive 0.95 against random 0.95": (DEFAULT, Design("random", 0.95), None),
    "sampler of D / 2 against random 0.9": (HALF, Design("random", 0.9), 14.0 / 14.7),
    "sampler of D / 2 against random 0.95": (HALF, Design("random", 0.95), None),
    "that without MLP against random 0.9": (ATTENTION, Design("random", 0.9), None),
    "that without MLP against random 0.95": (ATTENTION, Design("random", 0.95), None),
}
SIZES = {
    "num_frames": 16, "image_size": 224, "patch_size": 16, "embed_dim": 768, "depth": 12, "num_heads": 12,
    "decoder_embed_dim": 384, "decoder_depth": 4, "decoder_num_heads": 6,
}  # fmt: skip


class Trainer:
    """A model of one design and its training step on random clips; encoder and optimizer state may be another's."""

    def __init__(self, design: Design, args: argparse.Namespace, other: "Trainer | None" = None):
        with torch.device(args.device):
            model = build(design, args)
        if other is not None:
            model.encoder = other.model.encoder
        clips = (args.batch, 3, args.num_frames, args.image_size, args.image_size)
        batch = {"video": torch.randint(256, clips, dtype=torch.uint8).to(args.device)}
        self.step = TrainingStep(model, batch, args.device, args.precision)
        self.model, self.optimizer = self.step.model, self.step.optimizer.optimizer  # without Accelerate's shell
        if other is not None:
            self.optimizer.state = other.optimizer.state  # by parameter: only the encoder's entries are common

    def memory(self) -> int:
        """Bytes of a training step, as the module's head counts them. A step must have run: it makes the state."""
        parameters = list(self.model.parameters())
        tensors = [*parameters, *self.model.buffers(), *self.step.batch.values()]
        tensors += [value for p in parameters for value in self.optimizer.state[p].values() if torch.is_tensor(value)]
        return sum(tensor.nbytes for tensor in tensors) + peak_bytes(self.step, self.step.device)


def build(design: Design, args: argparse.Namespace) -> VideoMAE:
    """The model of a design, in the sizes of the command line."""
    sizes = {name: getattr(args, name) for name in SIZES} | {"mask_ratio": design.ratio}
    if design.decoder_depth is not None:
        sizes["decoder_depth"] = design.decoder_depth
    if design.masking != "adaptive":
        return VideoMAE(masking=get_masking(design.masking, design.ratio), **sizes)
    width = None if design.sampler_width == 1 else int(args.embed_dim * design.sampler_width)
    sampler = {"sampler_depth": design.sampler_depth, "sampler_dim": width, "sampler_mlp": design.sampler_mlp}
    return AdaMAE(args.variant, **sampler, **sizes)


def peak_bytes(work: Callable[[], None], device: torch.device) -> int:
    """The most bytes that PyTorch's allocator holds for `work` at once, beyond what it held before.

    On a CPU: the running sum of all it gives out and takes back. What `work` frees but did not allocate is not counted.
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as trace:
        work()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        trace.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((e["ts"], e["args"]["Bytes"]) for e in events if e.get("name") == "[memory]")
    return max(accumulate((bytes_ for _, bytes_ in changes), initial=0))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m lib.benchmark masking`."""
    parser.add_argument("--rows", nargs="+", choices=TABLES, default=list(TABLES), help="the paper's tables to show")
    parser.add_argument("--batch", type=int, default=2, help="clips of a step (default: 2)")
    parser.add_argument("--rounds", type=int, default=2, help="timed steps of each design, best counts (default: 2)")
    parser.add_argument("--variant", choices=OBJECTIVES, default="ours", help="of the sampler (default: ours)")
    add_device_arguments(parser)
    for name, value in SIZES.items():
        text = " except in table c" if name == "decoder_depth" else ""
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value, help=f"default: {value}{text}")


def run(args: argparse.Namespace) -> dict:
    """Measure and return the result; see the module's head."""
    for name in ("batch", "rounds", *SIZES):
        if getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be 1 or more, not {getattr(args, name)}")
    check_device(args.device)
    rows = [(table, *row) for table in args.rows for row in TABLES[table]]
    designs = {settled(design, args) for pair in COMPARISONS.values() for design in pair[:2]}
    designs |= {settled(design, args) for _, _, design, _ in rows}
    default = settled(DEFAULT, args)
    trainers, memory = {}, {}
    for design in [default, *sorted(designs - {default}, key=str)]:
        trainers[design] = Trainer(design, args, trainers.get(default))
        trainers[design].step()
        memory[design] = trainers[design].memory() / 2**20
    seconds = best_times({design: trainer.step for design, trainer in trainers.items()}, args.rounds)
    return _result(rows, seconds, memory, args)


def settled(design: Design, args: argparse.Namespace) -> Design:
    """The design with its decoder depth filled in, so that equal ones are measured once."""
    return design if design.decoder_depth else replace(design, decoder_depth=args.decoder_depth)


def _result(named: list[tuple], seconds: dict, memory: dict, args: argparse.Namespace) -> dict:
    default = settled(DEFAULT, args)
    rows = []
    for table, case, design, gb in named:
        design = settled(design, args)
        rows.append({
            "table": table, "case": case, "ratio": design.ratio, "seconds": seconds[design],
            "memory_mb": memory[design], "time_ratio": seconds[design] / seconds[default],
            "memory_ratio": memory[design] / memory[default], "paper_gb": gb,
            "paper_memory_ratio": gb and gb / DEFAULT_GB,
        })  # fmt: skip
    comparisons = {}
    for name, (left, right, paper) in COMPARISONS.items():
        a, b = settled(left, args), settled(right, args)
        comparisons[name] = {
            "time_ratio": seconds[a] / seconds[b], "memory_ratio": memory[a] / memory[b], "paper_memory_ratio": paper
        }  # fmt: skip
    return {
        "sizes": {name: getattr(args, name) for name in SIZES},
        "batch": args.batch,
        "rounds": args.rounds,
        "variant": args.variant,
        "precision": choose_precision(args.precision),
        "device": args.device,
        "rows": rows,
        "comparisons": comparisons,
        **conditions(),
    }


def show(result: dict) -> None:
    """Print what `run` returned."""
    sizes = " ".join(f"{name} {value}" for name, value in result["sizes"].items())
    print(f"{sizes}, batch {result['batch']}, {result['variant']}, precision {result['precision']}")
    print(f"{result['device']}, {result['hardware']}, {result['torch_threads']} threads; ratios to adaptive 0.95")
    print(
        f"  {'case':20} {'ratio':>6} {'seconds':>8} {'MB':>8} {'time':>6} {'memory':>7} {'paper: GB':>10} {'memory':>7}"
    )
    for row in result["rows"]:
        gb, paper = (
            f"{row[key]:.{n}f}" if row[key] else "-" for key, n in (("paper_gb", 1), ("paper_memory_ratio", 3))
        )
        print(
            f"{row['table']:2}{row['case']:20} {row['ratio']:6.3g} {row['seconds']:8.3f} {row['memory_mb']:8.0f} "
            f"{row['time_ratio']:6.3f} {row['memory_ratio']:7.3f} {gb:>10} {paper:>7}"
        )
    for name, pair in result["comparisons"].items():
        paper = f", memory in the paper {pair['paper_memory_ratio']:.3f}" if pair["paper_memory_ratio"] else ""
        print(f"{name}: time {pair['time_ratio']:.3f}, memory {pair['memory_ratio']:.3f}{paper}")
