"""The tidy tables of the grids, a line for each measured value, and the wide form that plots and notebooks read."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from lib.runtime import atomic_path

# step: after how many optimizer steps the value was measured. seconds: that these took, or else the whole cell.
COLUMNS = ("row", "seed", "step", "metric", "value", "seconds", "hardware")


def records(metrics: Mapping[str, float], **more) -> list[dict]:
    """A record for each metric; `more` is what they have in common: step, seconds, or the name of another row."""
    return [{"metric": name, "value": value, **more} for name, value in metrics.items()]


def read_table(path: str | Path) -> pd.DataFrame:
    """The tidy table at `path`."""
    return pd.read_csv(path, dtype={"step": "Int64"})


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write a tidy table, values with five digits."""
    with atomic_path(path) as temporary:
        table.astype({"step": "Int64"}).to_csv(temporary, index=False, float_format="%.5g")


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """A line for each row and seed: these two, `steps`, `seconds`, and a column with the value of each metric."""
    keys = ["row", "seed"]
    values = table.pivot(index=keys, columns="metric", values="value")[table["metric"].unique()]
    ends = table.groupby(keys, sort=False).agg(steps=("step", "max"), seconds=("seconds", "max"))
    return ends.join(values).reset_index()


def chosen(lines: pd.DataFrame, names: Sequence[str] | Mapping[str, str], seeds: int | None = None) -> pd.DataFrame:
    """The lines of a wide table whose rows are named, in the names' order and perhaps in other words; `row` becomes
    `case`. seeds: only so many, from 0.
    """
    words = names if isinstance(names, Mapping) else {name: name for name in names}
    named = pd.concat([lines[lines["row"] == name].assign(row=word) for name, word in words.items()])
    named = named if seeds is None else named[named["seed"] < seeds]
    return named.rename(columns={"row": "case"})
