"""What the studies of real clips say: means over clips and seeds, and paired differences with their intervals."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from lib.data.jhmdb_outlines import source_of
from lib.errors import UserError
from lib.evaluation.intervals import Interval, crossed_bootstrap, crossed_interval
from lib.studies.table import read_table
from lib.studies.three_tasks import COPIED, RGB

COSTS = ("samples", "CPU seconds")
UNSEEDED = (RGB, COPIED)  # rows of one seed: nothing would be drawn anew


def read_clips(path: str | Path) -> pd.DataFrame:
    """A line for each row, seed, block and clip of a study's table at `path`: `data`, and its measures in percent.

    These are J, F and their mean JF where the study has them. Rows are in the study's order.
    """
    table = read_table(path)
    scored = table[table["clip"].notna()].astype({"block": "Int64"})
    keys = ["row", "seed", "block", "data", "clip"]
    lines = scored.pivot(index=keys, columns="metric", values="value").reset_index().rename_axis(columns=None)
    places = {row: place for place, row in enumerate(table["row"].unique())}
    lines = lines.sort_values("row", key=lambda rows: rows.map(places), kind="stable", ignore_index=True)
    return lines.assign(JF=lines[["J", "F"]].mean(axis=1)) if {"J", "F"} <= set(lines) else lines


def read_costs(path: str | Path) -> pd.DataFrame:
    """What training cost: a line for each row and seed with `samples`, `CPU seconds`, `steps`, `hardware`."""
    table = read_table(path)
    costs = table[table["metric"].isin(COSTS)]
    named = costs.pivot(index=["row", "seed"], columns="metric", values="value").reset_index()
    told = costs.groupby(["row", "seed"])[["step", "hardware"]].first().reset_index().rename(columns={"step": "steps"})
    return named.merge(told).rename_axis(columns=None)


def means(lines: pd.DataFrame, measures: Sequence[str] = ("JF", "J", "F")) -> pd.DataFrame:
    """Mean over clips of each row, data set and block, and over seeds: one line each, with the number of seeds."""
    keys = ["data", "row", "block"]
    by_seed = lines.groupby([*keys, "seed"], sort=False, dropna=False)[list(measures)].mean()
    found = by_seed.groupby(keys, sort=False, dropna=False).mean()
    return found.assign(seeds=by_seed.groupby(keys, sort=False, dropna=False).size()).reset_index()


def with_costs(found: pd.DataFrame, costs: pd.DataFrame) -> pd.DataFrame:
    """The lines of `means` with `samples`, and CPU minutes of training in a column for each hardware; NaN for none."""
    trained = costs[costs["samples"] > 0]
    samples = found["row"].map(trained.groupby("row")["samples"].mean()).round().astype("Int64")
    minutes = trained.pivot_table("CPU seconds", "row", "hardware").div(60).add_prefix("CPU minutes, ")
    return found.assign(samples=samples).join(minutes, on="row")


def matrix(lines: pd.DataFrame, row: str, data: str, measure: str) -> pd.DataFrame:
    """Scores of one row on one data set: seeds x clips."""
    chosen = lines[(lines["row"] == row) & (lines["data"] == data)]
    if chosen.empty or chosen["block"].nunique() > 1:
        raise UserError(f"{row} on {data}: {chosen['block'].nunique()} blocks are there, choose the lines of one")
    return chosen.pivot(index="seed", columns="clip", values=measure)


class Difference(NamedTuple):
    """A mean difference: its bootstrap interval, Student's, which knows how few the seeds are, and each seed's mean."""

    bootstrap: Interval
    student: Interval
    by_seed: list[float]

    def columns(self) -> dict[str, object]:
        """For a table; Student's interval decides."""
        low, high = self.student[1:]
        ends = {"mean": self.bootstrap.value, "low": self.bootstrap.low, "high": self.bootstrap.high}
        verdict = "higher" if low > 0 else "lower" if high < 0 else "not shown"
        return ends | {"t low": low, "t high": high, "verdict": verdict}


def difference(lines: pd.DataFrame, ours: str, theirs: str, data: str, measure: str = "JF") -> Difference:
    """Row `ours` minus `theirs`, clip by clip and, in the seeds that both have, seed by seed.

    A row of UNSEEDED, of which there is but one, stands against each seed of the other.
    """
    our, their = (matrix(lines, row, data, measure) for row in (ours, theirs))
    if set(our.columns) != set(their.columns):
        raise UserError(f"{ours} and {theirs} on {data}: scored on other clips; score both on the same")
    if theirs in UNSEEDED:
        their = _repeated(their, our.index)
    elif ours in UNSEEDED:
        our = _repeated(our, their.index)
    seeds = our.index.intersection(their.index)
    pairs = our.loc[seeds] - their.loc[seeds, our.columns]
    films = pairs.columns.map(source_of)
    values = pairs.to_numpy()
    return Difference(crossed_bootstrap(values, films), crossed_interval(values, films), pairs.mean(axis=1).tolist())


def _repeated(scores: pd.DataFrame, seeds: pd.Index) -> pd.DataFrame:
    return pd.DataFrame(np.repeat(scores.to_numpy()[:1], len(seeds), axis=0), index=seeds, columns=scores.columns)


def comparisons(lines: pd.DataFrame, pairs: Sequence[tuple[str, str]], measure: str = "JF") -> pd.DataFrame:
    """`difference` of each pair on each data set: a line each, with its ends and what it shows."""
    found = []
    for data in lines["data"].unique():
        for ours, theirs in pairs:
            compared = difference(lines, ours, theirs, data, measure)
            seeds = ", ".join(f"{value:+.1f}" for value in compared.by_seed)
            found.append({"data": data, "row": ours, "minus": theirs, **compared.columns(), "each seed": seeds})
    return pd.DataFrame(found)


def against_default(lines: pd.DataFrame, costs: pd.DataFrame, default: str) -> pd.DataFrame:
    """Each row's J&F minus that of `default`, in the seeds that both have, and its CPU seconds over the default's.

    `time` is NaN where the two were not measured on the same hardware.
    """
    seconds = costs.pivot_table("CPU seconds", "row", "hardware")
    times = (seconds / seconds.loc[default]).mean(axis=1)
    found = []
    for row in lines["row"].unique():
        (data,) = lines["data"].unique()
        compared = difference(lines, row, default, data)
        scores = {"JF": matrix(lines, row, data, "JF").to_numpy().mean(), "seeds": len(compared.by_seed)}
        found.append({"row": row, **scores, **compared.columns(), "time": times.get(row, np.nan)})
    return pd.DataFrame(found)


def by_seed(lines: pd.DataFrame, measure: str = "JF") -> pd.DataFrame:
    """Means over clips for lib.plots.bars.dot_panels: a line a `case` (row, block) and `seed`, a column a data set."""
    cases = lines["row"] + lines["block"].map(lambda block: "" if pd.isna(block) else f", block {block}")
    found = lines.assign(case=cases).pivot_table(measure, ["case", "seed"], "data", sort=False).reset_index()
    return found.rename_axis(columns=None)


def places(path: str | Path, block: int) -> pd.DataFrame:
    """How much of the features is their place: a line each row and seed of `choices` of which that was asked.

    JF; `JF without place`, once each place's mean is taken off; `place share`, the part of the variance that this is.
    """
    table = read_table(path)
    asked = table[table["metric"].isin(["JF", "JF without place", "place share"]) & (table["block"] == block)]
    found = asked.pivot_table("value", ["row", "seed"], "metric", sort=False)
    return found.dropna().reset_index().rename_axis(columns=None)


def curve(lines: pd.DataFrame, costs: pd.DataFrame, row: str) -> pd.DataFrame:
    """JF, `samples` and `CPU seconds` of a row and of those called as it, but "N x" as long; means over seeds."""
    rows = [name for name in lines["row"].unique() if name == row or re.fullmatch(rf"{row}, \d+ x", name)]
    found = lines[lines["row"].isin(rows)].groupby("row")["JF"].mean().to_frame()
    cost = costs.groupby("row")[list(COSTS)].mean()
    return found.join(cost).sort_values("samples").reset_index(drop=True)
