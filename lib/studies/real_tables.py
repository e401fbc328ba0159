"""What the studies of real clips say: means over clips and seeds, and paired differences with their intervals."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from lib.data.jhmdb_outlines import source_of
from lib.errors import UserError
from lib.evaluation.intervals import Interval, crossed_bootstrap
from lib.studies.table import read_table

COSTS = ("samples", "CPU seconds")


def read_clips(path: str | Path) -> pd.DataFrame:
    """A line for each row, seed, block and clip of a study's table at `path`: `data`, and its J, F, JF in percent."""
    table = read_table(path)
    scored = table[table["clip"].notna()].astype({"block": "Int64"})
    keys = ["row", "seed", "block", "data", "clip"]
    lines = scored.pivot(index=keys, columns="metric", values="value").reset_index().rename_axis(columns=None)
    return lines if "JF" in lines else lines.assign(JF=lines[["J", "F"]].mean(axis=1))


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


def matrix(lines: pd.DataFrame, row: str, data: str, measure: str) -> pd.DataFrame:
    """Scores of one row on one data set: seeds x clips."""
    chosen = lines[(lines["row"] == row) & (lines["data"] == data)]
    if chosen.empty or chosen["block"].nunique() > 1:
        raise UserError(f"{row} on {data}: {chosen['block'].nunique()} blocks are there, choose the lines of one")
    return chosen.pivot(index="seed", columns="clip", values=measure)


def difference(lines: pd.DataFrame, ours: str, theirs: str, data: str, measure: str = "JF") -> tuple[Interval, list]:
    """Row `ours` minus `theirs`, clip by clip and seed by seed, with its interval; and each seed's mean difference.

    A row of one seed, such as an untrained network, stands against each seed of the other.
    """
    our, their = (matrix(lines, row, data, measure) for row in (ours, theirs))
    if len(their) == 1:
        their = pd.DataFrame(np.repeat(their.to_numpy(), len(our), axis=0), index=our.index, columns=their.columns)
    seeds, clips = our.index.intersection(their.index), our.columns.intersection(their.columns)
    pairs = our.loc[seeds, clips] - their.loc[seeds, clips]
    return crossed_bootstrap(pairs.to_numpy(), clips.map(source_of)), pairs.mean(axis=1).tolist()


def comparisons(lines: pd.DataFrame, pairs: Sequence[tuple[str, str]], measure: str = "JF") -> pd.DataFrame:
    """`difference` of each pair on each data set: a line each, with its ends and what it shows."""
    found = []
    for data in lines["data"].unique():
        for ours, theirs in pairs:
            interval, by_seed = difference(lines, ours, theirs, data, measure)
            verdict = "higher" if interval.low > 0 else "lower" if interval.high < 0 else "not shown"
            ends = {"mean": interval.value, "low": interval.low, "high": interval.high, "verdict": verdict}
            seeds = ", ".join(f"{value:+.1f}" for value in by_seed)
            found.append({"data": data, "row": ours, "minus": theirs, **ends, "each seed": seeds})
    return pd.DataFrame(found)


def against_default(lines: pd.DataFrame, costs: pd.DataFrame, default: str) -> pd.DataFrame:
    """Each row's J&F minus that of `default`, in the seeds that both have, and its CPU seconds over the default's."""
    seconds = costs.groupby("row")["CPU seconds"].mean()
    found = []
    for row in lines["row"].unique():
        (data,) = lines["data"].unique()
        interval, seeds = difference(lines, row, default, data)
        ends = {"JF": matrix(lines, row, data, "JF").to_numpy().mean(), "mean": interval.value}
        ends |= {"low": interval.low, "high": interval.high, "seeds": len(seeds)}
        found.append({"row": row, **ends, "time": seconds.get(row, np.nan) / seconds[default]})
    return pd.DataFrame(found)


def by_seed(lines: pd.DataFrame, measure: str = "JF") -> pd.DataFrame:
    """Means over clips, for lib.plots.bars.dot_panels: a line a `case` (row and block) and `seed`, a column a data set."""
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
