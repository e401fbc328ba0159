"""How much faster label propagation is than the usual code, and whether both give the same labels.

The usual code, as the published evaluations have it: the whole affinity of a chunk of queries with every cell of every
context frame, a mask for what lies outside the neighbourhood, then the top k over all of it.
Shapes: `S` context frames, `N` = h * w cells, `D` feature width, `K` label channels.
"""

import argparse

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.benchmark.timing import check_counts, conditions, peak_memory_mb, timed
from lib.evaluation.propagation import propagate
from lib.evaluation.protocols import Protocol, get_protocol

CLASSES = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The benchmark's own options."""
    parser.add_argument("--height", type=int, default=60, help="cells (default: 60)")
    parser.add_argument("--width", type=int, default=110, help="cells (default: 110)")
    parser.add_argument("--channels", type=int, default=384, help="feature width (default: 384)")
    parser.add_argument("--protocol", default="cropmae", help="whose queue, radius and top_k (default: cropmae)")
    parser.add_argument("--queue", type=int, help="context frames besides frame 0")
    parser.add_argument("--radius", type=int, help="cells")
    parser.add_argument("--top-k", type=int, help="neighbours that are averaged")
    parser.add_argument("--rounds", type=int, default=3, help="timed frames (default: 3)")
    parser.add_argument("--chunk", type=int, default=500, help="queries at once in the usual code (default: 500)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: cpu)")


def run(args: argparse.Namespace) -> dict:
    """Time both on the same frames in turns, once the queue is full; compare their soft labels and arg max.

    The peak memory is the process's before the usual code has run.
    """
    check_counts(args, "height", "width", "channels", "rounds", "chunk")
    given = {name: getattr(args, name) for name in ("queue", "radius", "top_k") if getattr(args, name) is not None}
    protocol, grid = get_protocol(args.protocol, **given), (args.height, args.width)
    warm_up = protocol.queue + 2  # frame 0, a full queue of others, and one frame for the caches

    def frame(index: int) -> Tensor:
        """Random features (D, h, w), always the same."""
        generator = torch.Generator().manual_seed(index)
        return torch.randn(args.channels, *grid, generator=generator).to(args.device)

    first = torch.randint(CLASSES, grid, generator=torch.Generator().manual_seed(0)).to(args.device)
    first = F.one_hot(first).permute(2, 0, 1).float()
    stream = propagate((frame(index) for index in range(warm_up + args.rounds)), first, protocol)
    past, ours, usual, memory, errors, same = [next(stream) for _ in range(warm_up)], [], [], None, [], []
    for index in range(warm_up, warm_up + args.rounds):
        seconds, labels = timed(lambda: next(stream))
        ours.append(seconds)
        memory = memory or peak_memory_mb()
        context = [0, *range(index - protocol.queue, index)]  # the queue is full
        keys = torch.stack([_cells(frame(i)) for i in context])
        values = torch.stack([past[i].flatten(1).T for i in context])
        query = _cells(frame(index))
        seconds, expected = timed(lambda: usual_code(query, keys, values, grid, protocol, args.chunk))  # noqa: B023
        usual.append(seconds)
        found = labels.flatten(1).T
        errors.append(float((found - expected).abs().max()))
        same.append(float((found.argmax(1) == expected.argmax(1)).double().mean()))
        past.append(labels)
    of_protocol = {name: getattr(protocol, name) for name in ("queue", "radius", "top_k")}
    return {
        "grid": list(grid),
        "channels": args.channels,
        "context_frames": protocol.queue + 1,
        "protocol": {"name": args.protocol, **of_protocol},
        "seconds_per_frame": min(ours),
        "usual_seconds_per_frame": min(usual),
        "ratio": min(usual) / min(ours),
        "largest_difference": max(errors),
        "share_of_equal_labels": min(same),
        "peak_memory_mb": memory,
        **conditions(),
    }


def usual_code(
    query: Tensor, keys: Tensor, values: Tensor, grid: tuple[int, int], protocol: Protocol, chunk: int
) -> Tensor:
    """Labels (N, K) of the queries (N, D): whole affinity with keys (S, N, D), mask, top k, values (S, N, K)."""
    far = _far(grid, protocol).to(query.device)
    labels = []
    for start in range(0, len(query), chunk):
        affinity = torch.einsum("qd,snd->qsn", query[start : start + chunk], keys)
        masked = affinity if protocol.mask_first_frame else affinity[:, 1:]
        masked.masked_fill_(far[start : start + chunk, None], -torch.inf)
        scores, nearest = affinity.flatten(1).topk(protocol.top_k, dim=1)
        weights = (scores / protocol.temperature).softmax(dim=1)
        labels.append(torch.einsum("qk,qkc->qc", weights, values.flatten(0, 1)[nearest]))
    return torch.cat(labels)


def _far(grid: tuple[int, int], protocol: Protocol) -> Tensor:
    """Bool (N, N): which cells lie outside each other's neighbourhood."""
    places = torch.cartesian_prod(*map(torch.arange, grid))
    down, right = (places[:, None] - places).abs().unbind(-1)
    if protocol.shape == "disc":
        return down**2 + right**2 >= protocol.radius**2
    return torch.maximum(down, right) > protocol.radius


def _cells(frame: Tensor) -> Tensor:
    return F.normalize(frame, dim=0).flatten(1).T.contiguous()
