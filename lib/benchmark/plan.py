"""What a pre-training would take: disk, download, the decoding of videos, a GPU's hours and what they cost.

Known are the data set's sizes as published, the arithmetic of a step (counted here), and how fast this machine does one
(timed here). How fast frames come is read from what `python -m lib.benchmark data` wrote. A GPU's peak is its maker's
figure (dense; bf16, or fp32 where it knows none); how much of that training reaches, and what an hour costs, are
assumptions, and options.
"""

import argparse
import json
import math
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lib import presets
from lib.benchmark.data import STORE, USUAL
from lib.benchmark.timing import TrainingStep, best_times, check_counts, conditions
from lib.errors import UserError
from lib.fetch.datasets import DATASETS
from lib.models.siammae import SiamMAE
from lib.presets.frame_pairs import FramePairs
from lib.runtime import REPO_ROOT

CLIPS = {"kinetics400": (240_436, 19_796)}  # of the training split, as its copy holds them, and of the other
PEAKS = {"T4": 8.1, "RTX 4090": 165, "A100": 312, "H100": 989}  # 10^12 operations a second; a T4 knows no bf16
PRICES = {"T4": 0.35, "RTX 4090": 0.4, "A100": 1.5, "H100": 2.5}  # US dollars an hour; assumptions, late in 2026
MEASURED = REPO_ROOT / "figures" / "measured" / "benchmark_data.json"
SOURCES = {"as re-implementations do": USUAL, "from the store": STORE}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m lib.benchmark plan`."""
    add = parser.add_argument
    add("--data", choices=CLIPS, default="kinetics400", help="data set (default: kinetics400)")
    add("--clips", type=int, help="so many of its clips (default: all of the training split)")
    add("--preset", choices=presets.SIAMMAE, default="paper", help="settings of SiamMAE (default: paper)")
    add("--epochs", type=float, help="instead of the preset's")
    add("--gpu", choices=PEAKS, default="A100", help="(default: A100)")
    add("--utilization", type=float, default=0.3, help="of the GPU's peak, assumed (default: 0.3)")
    add("--price", type=float, help="US dollars an hour of the GPU (default: an assumption)")
    add("--megabits", type=float, default=200, help="of the network, a second (default: 200)")
    add("--speeds", type=Path, default=MEASURED, help="what `lib.benchmark data` wrote (default: the committed one)")


def run(args: argparse.Namespace) -> dict:
    """The plan, in the units that the names say, and how long this machine would take."""
    check_counts(args, "clips")
    settings = presets.get(presets.SIAMMAE, args.preset, epochs=args.epochs)
    found = plan(settings, args.data, args.clips, args.gpu, args.utilization, args.price, args.megabits, args.speeds)
    told = {"preset": f"{args.preset}, {settings.epochs:g} epochs"}
    return {**told, **found, **here(settings, found["pairs"]), **conditions()}


def plan(
    settings: FramePairs, data: str = "kinetics400", clips: int | None = None, gpu: str = "A100",
    utilization: float = 0.3, price: float | None = None, megabits: float = 200, speeds: Path = MEASURED,
) -> dict:  # fmt: skip
    """What SiamMAE with these settings takes on a GPU; arguments as the options of the command."""
    if not 0 < utilization <= 1 or not 0 < megabits < math.inf or not 0 <= (price or 0) < math.inf:
        raise UserError("--utilization must be above 0 and at most 1, --megabits above 0, --price 0 or more")
    clips = clips or CLIPS[data][0]
    if clips > sum(CLIPS[data]):
        raise UserError(f"--clips {clips}: {data} has {sum(CLIPS[data]):,}")
    part, pairs, operations = (
        clips / sum(CLIPS[data]),
        settings.steps(clips) * settings.batch_size,
        operations_of(settings),
    )
    gpu_rate = PEAKS[gpu] * 1e12 * utilization / operations
    hours, told = pairs / gpu_rate / 3600, PRICES[gpu] if price is None else price
    return {
        "data": f"{data}, {clips:,} clips",
        "pairs": pairs,
        "operations_a_pair": operations,
        **disk_of(data, part, megabits, speeds),
        "gpu": f"{gpu}, at {utilization:g} of {PEAKS[gpu]}e12 operations a second (assumed)",
        "gpu_pairs_a_second": gpu_rate,
        "gpu_hours": hours,
        "cost_usd": hours * told,
        "price": f"{told:g} US dollars an hour" + (" (assumed)" if price is None else ""),
        **feeding(gpu_rate, speeds),
    }


def operations_of(settings: FramePairs, pairs: int = 2) -> float:
    """Floating point operations of a training step, forward and backward, for each pair; counted, not estimated."""
    model, batch = SiamMAE(**settings.model_arguments()), batch_of(settings, pairs)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # others' attention counts as nothing
        model(batch)[0].backward()
    return counter.get_total_flops() / pairs


def batch_of(settings: FramePairs, pairs: int) -> dict[str, torch.Tensor]:
    """Pairs of random pictures."""
    shape = (pairs, 3, settings.image_size, settings.image_size)
    return {name: torch.randint(256, shape, dtype=torch.uint8) for name in ("past", "future")}


def disk_of(name: str, part: float, megabits: float, speeds: Path) -> dict[str, float]:
    """What is fetched, how long that takes, and what lies on the disk: the videos, and their store."""
    fetched, unpacked = (size * part for size in DATASETS[name].gigabytes)
    store = unpacked * row_of(speeds, STORE)["disk_ratio"]
    hours = fetched * 8000 / megabits / 3600
    return {"fetch_gb": fetched, "fetch_hours": hours, "videos_gb": unpacked, "store_gb": store}


def feeding(pairs_a_second: float, speeds: Path) -> dict[str, float]:
    """How many CPU cores, each as fast as the measured one, keep the GPU busy."""
    rates = {words: row_of(speeds, source)["pairs_per_cpu_second"] for words, source in SOURCES.items()}
    return {f"cores_to_feed_it_{words.replace(' ', '_')}": pairs_a_second / rate for words, rate in rates.items()}


def row_of(speeds: Path, source: str) -> dict:
    """A row of what `lib.benchmark data` wrote."""
    try:
        rows = json.loads(speeds.read_text())["rows"]
        row = next(row for row in rows if row["source"] == source)
        if not (row["disk_ratio"] > 0 and row["pairs_per_cpu_second"] > 0):
            raise ValueError(row)
        return row
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        words = f"python -m lib.benchmark data --videos DIR --json {speeds.name}"
        raise UserError(f"{speeds}: no such table of speeds, or not {source!r} in it; make it: {words}") from None


def here(settings: FramePairs, pairs: int, batch: int = 4) -> dict[str, float]:
    """How long this machine's CPU would take, by one timed step of a few pairs."""
    model = SiamMAE(**settings.model_arguments())
    step = TrainingStep(model, batch_of(settings, batch), "cpu", "auto")
    step()  # makes the optimizer's state
    rate = batch / best_times({"step": step}, 3)["step"]
    return {"cpu_pairs_a_second": rate, "cpu_hours": pairs / rate / 3600}
