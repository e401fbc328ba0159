"""For every benchmark: fair timing of alternatives, peak memory, and the conditions a number holds under."""

import argparse
import sys
import time
from collections.abc import Callable, Mapping

import torch

from lib.errors import UserError
from lib.provenance import hardware

try:
    import resource
except ImportError:  # Windows
    resource = None


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


def peak_memory_mb() -> float | None:
    """The most memory this process has held at once so far, MB (2**20 bytes); None where the system does not say."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, Linux kilobytes


def conditions() -> dict[str, str | int]:
    """What a time depends on besides the code: the device in words, and the threads of PyTorch."""
    return {"hardware": hardware(), "torch_threads": torch.get_num_threads()}
