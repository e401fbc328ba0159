"""Where in a video one can begin to decode: its keyframes, in a few numbers where they come at even distances.

A store of short groups of pictures has hundreds a file, and a data set hundreds of thousands of files.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Run(NamedTuple):
    """Keyframes at even distances: frame `number + i * every`, shown at `stamp + i * ticks`, i < `count`."""

    number: int
    stamp: int
    every: int = 1
    ticks: int = 0
    count: int = 1


def runs_of(keyframes: Iterable[tuple[int, int]]) -> tuple[Run, ...]:
    """Keyframes (number, stamp), rising, as few runs."""
    runs: list[Run] = []
    for number, stamp in keyframes:
        last = runs[-1] if runs else None
        if last and last.count == 1:
            runs[-1] = Run(last.number, last.stamp, number - last.number, stamp - last.stamp, 2)
        elif last and _at(last, last.count) == (number, stamp):
            runs[-1] = last._replace(count=last.count + 1)
        else:
            runs.append(Run(number, stamp))
    return tuple(runs)


def keyframe_before(runs: Sequence[Run], number: int) -> tuple[int, int]:
    """The keyframe (number, stamp) from which frame `number` is decoded: the last that is not after it."""
    run = next(run for run in reversed(runs) if run.number <= number)
    return _at(run, min((number - run.number) // run.every, run.count - 1))


def _at(run: Run, place: int) -> tuple[int, int]:
    return run.number + place * run.every, run.stamp + place * run.ticks


def to_text(runs: Sequence[Run]) -> str:
    """Runs in one cell of a table."""
    return " ".join(":".join(map(str, run)) for run in runs)


def from_text(text: str) -> tuple[Run, ...]:
    """What `to_text` wrote; ValueError for anything else."""
    rows = [[int(number) for number in word.split(":")] for word in text.split()]
    if any(len(row) != len(Run._fields) or row[2] < 1 for row in rows):
        raise ValueError(text)
    return tuple(Run(*row) for row in rows)
