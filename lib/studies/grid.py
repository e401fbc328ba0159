"""A grid of runs: named rows times seeds, each cell made once, one tidy table out.

Any number of processes may work on it, on machines with a common disk: a cell is locked while it is made, and its file
appears whole or not at all. The operating system frees the locks of a process that dies; another takes its cell over.
"""

import math
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from filelock import FileLock, Timeout

from lib import presets
from lib.errors import UserError, unknown
from lib.provenance import hardware
from lib.runtime import atomic_path
from lib.studies.table import COLUMNS, read_table

WHOLE = "cell_seconds"  # in a cell's file alone: how long it took as a whole
PAUSE = 1.0  # seconds between two looks at cells that others hold


@dataclass(frozen=True)
class Row:
    """What differs from a base preset.

    changes: fields of the preset, and arguments of the model. model: its class, where rows differ in it. length: times
    the preset's epochs; 0: untrained. seeds: a number of its own. stage: it is made when all lower ones are.
    """

    name: str
    changes: Mapping = field(default_factory=dict)
    model: type | None = None
    length: float = 1.0
    seeds: int | None = None
    stage: int = 0

    def settings(self, base: presets.Schedule) -> tuple[presets.Schedule, dict]:
        """The preset with its fields changed, and the other changes: the model's arguments."""
        own = {setting.name for setting in fields(base)} & set(self.changes)
        given = {"epochs": base.epochs * self.length or None} | {name: self.changes[name] for name in own}
        arguments = {name: value for name, value in self.changes.items() if name not in own}
        return presets.get({"base": base}, "base", **given), arguments


class Cell(NamedTuple):
    """A row with a seed, and the folder of its run."""

    row: Row
    seed: int
    folder: Path

    @property
    def file(self) -> Path:
        """Its part of the table."""
        return self.folder.parent / "cells" / f"{self.folder.name}.csv"

    def __str__(self) -> str:
        return f"{self.row.name}, seed {self.seed}"


def run_folder(out: Path, name: str, seed: int) -> Path:
    """Where the row of this name trains with this seed."""
    return out / f"{re.sub(r'[^A-Za-z0-9.]+', '_', name)}-seed{seed}"


def choose(rows: Sequence[Row], names: Sequence[str] | None) -> list[Row]:
    """The rows of these names; all where none are given."""
    known = {row.name: row for row in rows}
    for name in names or ():
        if name not in known:
            raise unknown("row", name, known)
    return [known[name] for name in names or known]


def run_grid(
    rows: Sequence[Row], seeds: int, measure: Callable[[Row, int, Path], list[dict]], out: Path,
    minutes: float | None = None, about: str = "", dry_run: bool = False, partial: bool = False,
) -> pd.DataFrame | None:  # fmt: skip
    """Make all cells that are not there, wait for those that other processes hold, and return the whole table.

    None where cells are missing in the end: some failed, or `minutes` were over before they began. Both is printed.

    measure: of (row, seed, folder of the run) -> records with `metric`, `value` and, if known, other columns.
    about: the settings that all cells share; a folder with cells of others is refused.
    dry_run: make nothing, say how long it would take. partial: return what is there instead of None.
    """
    if seeds < 1:
        raise UserError(f"{seeds} seeds: give 1 or more")
    cells = [
        Cell(row, seed, run_folder(out, row.name, seed))
        for row in rows
        for seed in range(seeds if row.seeds is None else row.seeds)
    ]
    if len({cell.file for cell in cells}) < len(cells):
        raise UserError("two rows would write one file: give them names that differ in letters or digits")
    if dry_run:
        print(_plan(cells))
        return None
    _check_folder(out / "cells" / "about.txt", about)
    until, failed = time.monotonic() + 60 * (math.inf if minutes is None else minutes), set()
    for stage in sorted({row.stage for row in rows}):
        of_stage = sorted((cell for cell in cells if cell.row.stage == stage), key=lambda cell: cell.seed)
        while todo := [cell for cell in of_stage if not cell.file.is_file() and str(cell) not in failed]:
            free = [_attempt(cell, measure, failed) for cell in todo if time.monotonic() < until]
            if time.monotonic() >= until:
                break
            if not any(free):
                time.sleep(PAUSE)
    if missing := [str(cell) for cell in cells if not cell.file.is_file()]:
        broken = [name for name in missing if name in failed]
        words = f", {len(broken)} of them failed ({'; '.join(broken)})" if broken else ""
        print(f"{len(missing)} of {len(cells)} cells are still to do{words}: the same command goes on", flush=True)
    there = [read_table(cell.file).drop(columns=WHOLE, errors="ignore") for cell in cells if cell.file.is_file()]
    return pd.concat(there, ignore_index=True) if there and (partial or not missing) else None


def _plan(cells: Sequence[Cell]) -> str:
    """How many cells there are, how many are done, and how long the others would take at the pace of those."""
    tables = [read_table(cell.file) for cell in cells if cell.file.is_file()]
    paces = [table[WHOLE].iloc[0] for table in tables if WHOLE in table]
    todo, words = len(cells) - len(tables), f"{len(cells)} cells, {len(tables)} of them done"
    if not todo:
        return words
    if not paces:
        return f"{words}; how long one takes is not known before the first (try --minutes 1)"
    pace = sum(paces) / len(paces)
    return f"{words}; {todo} to do, about {todo * pace / 3600:.1f} hours in one process at {pace:.0f} s a cell"


def _check_folder(stamp: Path, about: str) -> None:
    """The cells of a folder must be of one grid."""
    if not stamp.is_file():
        with atomic_path(stamp) as temporary:
            temporary.write_text(about)
    if stamp.read_text() != about:
        raise UserError(f"{stamp.parent} holds cells of other settings or data: choose another folder, or delete it")


def _attempt(cell: Cell, measure: Callable, failed: set[str]) -> bool:
    """Make the cell, unless another process holds it; whether it was free."""
    try:
        with FileLock(cell.file.with_suffix(".lock"), timeout=0):
            if not cell.file.is_file():  # as it may be by now
                _make(cell, measure)
    except Timeout:
        return False
    except Exception as error:
        failed.add(str(cell))
        if not isinstance(error, UserError):  # a fault of the program: whoever repairs it needs more than a line
            traceback.print_exc()
        print(f"{cell}: failed: {error}", file=sys.stderr, flush=True)
    return True


def _make(cell: Cell, measure: Callable) -> None:
    """Measure, and write the cell's file whole or not at all."""
    start = time.perf_counter()
    measured = measure(cell.row, cell.seed, cell.folder)
    seconds = time.perf_counter() - start
    common = {"row": cell.row.name, "seed": cell.seed, "step": None, "seconds": seconds, "hardware": hardware()}
    common[WHOLE] = seconds
    table = pd.DataFrame([common | record for record in measured])
    with atomic_path(cell.file) as temporary:
        table[[*COLUMNS, *table.columns.difference(COLUMNS)]].to_csv(temporary, index=False)
    print(f"{cell}: {seconds:.0f} s", flush=True)
