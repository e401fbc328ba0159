"""What a course report's parameter counts and logs say of the models and schedules behind them.

The report names no configuration. Its numbers do: exactly for one model and both schedules, nearly for the other model.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from torch import nn

REPORTED_CLASSES = 100

PATCH_VALUES = {  # (side of the enlarged picture, patch side) -> patches, and values of each
    (side, patch): ((side // patch) ** 2, 3 * patch**2)
    for side, patch in product((32, 64, 96, 128, 224, 256, 384), (2, 4, 8, 14, 16, 32))
    if side % patch == 0 and 4 <= side // patch <= 64
}


class Shape(NamedTuple):
    """A Vision Transformer: its numbers, and what kinds of it differ in."""

    side: int
    patch: int
    dim: int
    depth: int
    heads: int
    mlp: int
    classes: int
    head_dim: int
    biases: bool  # of queries, keys and values
    patch_norms: bool  # LayerNorms before and behind the embedding of patches


def parameters(shape: Shape) -> int:
    """Parameters of the classifier: patches, class token, learned positions, blocks, last LayerNorm, linear head."""
    tokens, values = PATCH_VALUES[shape.side, shape.patch]
    dim, inner = shape.dim, shape.heads * shape.head_dim
    attention = 3 * dim * inner + inner * dim + dim + 3 * inner * shape.biases
    mlp = 2 * dim * shape.mlp + shape.mlp + dim
    embedding = values * dim + dim + (2 * values + 2 * dim) * shape.patch_norms
    positions = (tokens + 2) * dim  # with the class token's, and that token
    around = embedding + positions + 2 * dim + (dim + 1) * shape.classes
    return around + shape.depth * (attention + mlp + 4 * dim)


def shapes() -> Iterator[Shape]:
    """A wide grid of shapes that people use; heads are of 64 or 32, or share the width."""
    dims, depths, heads = (192, 256, 384, 512, 768, 1024), range(1, 25), (3, 4, 6, 8, 12, 16)
    for (side, patch), dim, depth, number, classes in product(PATCH_VALUES, dims, depths, heads, (10, 100, 1000)):
        for mlp in sorted({dim, 2 * dim, 4 * dim, 512, 1024, 2048, 3072}):
            for head_dim in sorted({32, 64, dim // number}):
                for biases, norms in product((False, True), repeat=2):
                    yield Shape(side, patch, dim, depth, number, mlp, classes, head_dim, biases, norms)


def find(count: int) -> tuple[list[Shape], int]:
    """The shapes of exactly `count` parameters, and how many were tried."""
    tried, found = 0, []
    for shape in shapes():
        tried += 1
        if parameters(shape) == count:
            found.append(shape)
    return found, tried


def classifier_parameters(model: nn.Module, num_classes: int) -> int:
    """Parameters of its encoder, whose last norm stands before a linear head, and of that head."""
    width = model.architecture["embed_dim"]
    return sum(part.numel() for part in model.encoder.parameters()) + (width + 1) * num_classes


# --- The model with wavelets ---


def wavelet_parts(dim: int, mlp: int) -> dict[str, int]:
    """Parameters of each part that Wave-ViT's public code puts into a block, at a width without striding."""
    quarter = dim // 4
    return {
        "queries": dim * dim + dim,
        "narrowing": dim * quarter + quarter + 2 * quarter,  # with its BatchNorm
        "filter": 9 * dim * dim + dim + 2 * dim,  # with its BatchNorm
        "keys and values": 2 * dim + 2 * dim * dim + 2 * dim,  # with a LayerNorm
        "projection": (dim + quarter) * dim + dim,
        "depth-wise convolution in the MLP": 9 * mlp + mlp,
    }


def common_divisor(parts: Mapping[str, int], power: int = 2) -> int:
    """The largest power of 2 that divides all parts."""
    divisor = 1
    while all(part % (divisor * power) == 0 for part in parts.values()):
        divisor *= power
    return divisor


# --- Schedules ---


class CosineSchedule(NamedTuple):
    """Warm-up and cosine as MAE's code has them: the rate changes with every batch, and peaks at base * batch / 256."""

    epochs: int
    warmup: int
    batch: int
    base: float  # per 256 pictures
    least: float


def logged_rate(schedule: CosineSchedule, epochs: Sequence[int], pictures: int) -> np.ndarray:
    """What MAE's code logs as an epoch's learning rate, the mean over its batches: float64, of epochs from 0."""
    epochs = np.asarray(epochs)
    batches, peak = pictures // schedule.batch, schedule.base * schedule.batch / 256
    step = np.pi / (schedule.epochs - schedule.warmup) / batches  # of the cosine's angle
    first = np.pi * (epochs - schedule.warmup) / (schedule.epochs - schedule.warmup)
    mean = np.sin(batches * step / 2) / (batches * np.sin(step / 2)) * np.cos(first + (batches - 1) * step / 2)
    cosine = schedule.least + (peak - schedule.least) * 0.5 * (1 + mean)
    rising = peak * (epochs + (batches - 1) / (2 * batches)) / max(schedule.warmup, 1)
    return np.where(epochs < schedule.warmup, rising, cosine)


def find_schedule(logged: Mapping[int, float], pictures: int = 50_000) -> list[tuple[float, CosineSchedule]]:
    """All schedules of a wide grid, the best first, with how far they are from the logged rates at most, relatively."""
    epochs, rates = np.array(list(logged)), np.array(list(logged.values()))
    lengths = [length for length in (50, 60, 75, 80, 90, 100, 120, 150, 200, 300, 400, 800) if length > max(epochs)]
    bases, leasts = (1e-4, 1.5e-4, 3e-4, 5e-4, 1e-3, 2e-3), (0.0, 1e-7, 1e-6, 1e-5)
    grid = product(lengths, range(min(lengths)), (8, 16, 32, 64, 128), bases, leasts)
    fits = [
        (float(np.abs(logged_rate(schedule, epochs, pictures) / rates - 1).max()), schedule)
        for schedule in (CosineSchedule(*numbers) for numbers in grid)
    ]
    return sorted(fits)
