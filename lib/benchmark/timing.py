"""For every benchmark: its options checked, alternatives timed in turns, training steps to be timed, peak memory, and
the conditions a number holds under.
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping
from itertools import repeat

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from lib.errors import UserError
from lib.provenance import hardware
from lib.training import TrainOptions, fast_cpu_attention, gradient_steps, parameter_groups

try:
    import resource
except ImportError:  # Windows
    resource = None

LEARNING_RATE = 1e-5  # of timed training steps: small, so that the model stays what it was
MANY = 10**9  # steps of their schedule, which so is flat


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every benchmark of training steps."""
    parser.add_argument("--precision", default="auto", help="auto, bf16 or no, as in training (default: auto)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")


def check_device(device: str) -> None:
    """The device must be there."""
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise UserError(f"--device {device} is not there: choose cpu, or cuda on a machine that has it")


def check_counts(args: argparse.Namespace, *names: str, least: int = 1) -> None:
    """Options that are given must be `least` or more."""
    for name in names:
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} must be {least} or more, not {value}")


def best_times(alternatives: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The shortest of `rounds` runs of each alternative, seconds of wall-clock time.

    All take turns in every round, so that a machine that slows down or has other work does not favour one of them;
    the shortest run is the one with the least of that. On a GPU the work is waited for.
    """
    best = dict.fromkeys(alternatives, float("inf"))
    for _ in range(rounds):
        for name, run in alternatives.items():
            best[name] = min(best[name], timed(run)[0])
    return best


def timed(work: Callable[[], object]) -> tuple[float, object]:
    """Seconds that the work takes, and what it returns."""
    _wait()
    start = time.perf_counter()
    result = work()
    _wait()
    return time.perf_counter() - start, result


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class TrainingStep:
    """Called, it does a whole step of `lib.training` on one batch, which is on the device. No gradient is left."""

    def __init__(self, model: nn.Module, batch: dict[str, Tensor], device: str, precision: str):
        self.batch, size = batch, len(next(iter(batch.values())))
        accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no")
        self.optimizer = torch.optim.AdamW(parameter_groups(model, 0.05), lr=0.0, betas=(0.9, 0.95), fused=True)
        self.model, optimizer = accelerator.prepare(model.train(), self.optimizer)
        options = TrainOptions(MANY, size, LEARNING_RATE * 256 / size, precision=precision)
        self.steps = gradient_steps(accelerator, self.model, optimizer, repeat(batch), options)
        self.device = accelerator.device

    def __call__(self) -> None:
        """One step more."""
        with fast_cpu_attention(self.device, getattr(self.model, "sequence_length", 0)):
            next(self.steps)


def peak_memory_mb() -> float | None:
    """The most memory this process has held at once so far, MB (2**20 bytes); None where the system does not say."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, Linux kilobytes


def conditions() -> dict[str, str | int]:
    """What a time depends on besides the code: the device in words, and the threads of PyTorch."""
    return {"hardware": hardware(), "torch_threads": torch.get_num_threads()}
