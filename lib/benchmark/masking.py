"""What a training step costs by masking, mask ratio, decoder depth and sampler.

The memory columns of AdaMAE's Table 1 a, b, c and f (Bandara et al. 2023, arXiv 2211.09120; batch 16 on one GPU), and
the time of a step of `lib.training`, on random clips. Ratios are to the paper's default: adaptive, 0.95, a sampler of
one block of the encoder's width. All designs train one encoder, so that they fit in memory together and take turns.
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

from lib.benchmark.timing import TrainingStep, add_device_arguments, best_times, check_counts, check_device, conditions
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
        ("tube", Design("tube", 0.75), 16.2), ("tube", Design("tube", 0.9), 14.7),
        ("random", Design("random", 0.75), 16.2), ("random", Design("random", 0.9), 14.7),
        ("random", Design("random", 0.95), None), ("frame", Design("frame", 0.875), 12.8),
        ("adaptive", DEFAULT, DEFAULT_GB),
    ],
    "b": [
        ("adaptive", Design(ratio=0.98), 14.1), ("adaptive", DEFAULT, DEFAULT_GB),
        ("adaptive", Design(ratio=0.9), 15.1), ("adaptive", Design(ratio=0.85), 15.9),
        ("adaptive", Design(ratio=0.8), 16.9),
    ],
    "c": [
        ("1 decoder block", Design(decoder_depth=1), 9.2), ("2 decoder blocks", Design(decoder_depth=2), 11.0),
        ("4 decoder blocks", Design(decoder_depth=4), DEFAULT_GB), ("8 decoder blocks", Design(decoder_depth=8), 21.3),
    ],
    "f": [
        ("MLP", Design(sampler_depth=0), 11.8), ("MHA, depth 1, width 384", HALF, 14.0),
        ("attention, width 384", ATTENTION, None), ("MHA, depth 1, width 768", DEFAULT, DEFAULT_GB),
        ("MHA, depth 2, width 384", Design(sampler_depth=2, sampler_width=0.5), 17.1),
    ],
}  # fmt: skip
# What the paper claims of memory, what the sampler alone costs (random masking at 0.95 is no row of the paper), and
# what a cheaper one would: (of, against, the paper's ratio of memory).
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


def training_step(design: Design, args: argparse.Namespace, first: TrainingStep | None = None) -> TrainingStep:
    """A step of the design on random clips, with the encoder and the optimizer state of the `first` one."""
    with torch.device(args.device):
        model = build(design, args)
    if first is not None:
        model.encoder = first.model.encoder
    clips = (args.batch, 3, args.num_frames, args.image_size, args.image_size)
    batch = {"video": torch.randint(256, clips, dtype=torch.uint8).to(args.device)}
    step = TrainingStep(model, batch, args.device, args.precision)
    if first is not None:
        step.optimizer.state = first.optimizer.state  # by parameter: only the encoder's entries are common
    return step


def memory_of(step: TrainingStep) -> int:
    """Bytes that a training step needs at least; it must have run once: that makes the state.

    Weights, position tables, optimizer state and the batch by their sizes, and the most that the step holds at once on
    top, gradients and activations. What libraries allocate past PyTorch and fragments are not counted.
    """
    parameters = list(step.model.parameters())
    tensors = [*parameters, *step.model.buffers(), *step.batch.values()]
    tensors += [value for p in parameters for value in step.optimizer.state[p].values() if torch.is_tensor(value)]
    return sum(tensor.nbytes for tensor in tensors) + peak_bytes(step, step.device)


def build(design: Design, args: argparse.Namespace) -> VideoMAE:
    """The model of a design, in the sizes of the command line."""
    sizes = {name: getattr(args, name) for name in SIZES} | {"mask_ratio": design.ratio}
    sizes["decoder_depth"] = design.decoder_depth or args.decoder_depth
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
    check_counts(args, "batch", "rounds", *SIZES)
    check_device(args.device)
    designs = {DEFAULT, *(design for table in args.rows for _, design, _ in TABLES[table])}
    designs |= {design for pair in COMPARISONS.values() for design in pair[:2]}
    # with the decoder's depth filled in, so that equal ones are measured once
    settled = {d: replace(d, decoder_depth=d.decoder_depth or args.decoder_depth) for d in designs}
    default = settled[DEFAULT]
    steps, memory = {}, {}
    for design in [default, *sorted({*settled.values()} - {default}, key=str)]:
        steps[design] = training_step(design, args, steps.get(default))
        steps[design]()
        memory[design] = memory_of(steps[design]) / 2**20
    seconds = best_times(steps, args.rounds)

    def ratios(of: Design, against: Design, paper: float | None) -> dict[str, float | None]:
        a, b = settled[of], settled[against]
        paper_ratio = {"paper_memory_ratio": paper}
        return {"time_ratio": seconds[a] / seconds[b], "memory_ratio": memory[a] / memory[b], **paper_ratio}

    rows = [
        {"table": table, "case": case, "ratio": design.ratio, "seconds": seconds[settled[design]],
         "memory_mb": memory[settled[design]], "paper_gb": gb, **ratios(design, DEFAULT, gb and gb / DEFAULT_GB)}
        for table in args.rows
        for case, design, gb in TABLES[table]
    ]  # fmt: skip
    return {
        "sizes": {name: getattr(args, name) for name in SIZES},
        "batch": args.batch,
        "rounds": args.rounds,
        "variant": args.variant,
        "precision": choose_precision(args.precision),
        "device": args.device,
        "rows": rows,
        "comparisons": {name: ratios(*pair) for name, pair in COMPARISONS.items()},
        **conditions(),
    }
