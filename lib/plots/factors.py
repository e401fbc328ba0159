"""One factor at a time: scores and costs against each setting of it, a panel a factor."""

import math
from collections.abc import Mapping, Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.plots.style import DARK, GREEN, LIGHT, ORANGE

YES_NO = {"True": "yes", "False": "no"}
FACTOR_LABELS = {"top_k": "top-k", "queue": "queue (frames)", "radius": "radius (cells)"}
COST_STYLES = {("ours", "memory"): (ORANGE, "o-"), ("ours", "time"): (GREEN, "s-"), ("paper", "memory"): (DARK, "o--")}


def sensitivity_figure(table: pd.DataFrame) -> Figure:
    """J&F of one method against one factor of the protocol at a time, a panel each; the base has a line and a ring.

    Columns: `factor`, `value` (numbers, or words for a choice), `is_base`, `JF_mean` (percent).
    """
    factors = table["factor"].unique()
    lines = math.ceil(len(factors) / 4)
    columns = math.ceil(len(factors) / lines)
    figure, axes = plt.subplots(lines, columns, figsize=(10, 2.4 * lines + 0.2), sharey=True, squeeze=False)
    for axis in axes.flat[len(factors) :]:
        axis.remove()
    for axis, factor in zip(axes.flat, factors, strict=False):
        _factor_panel(axis, table[table["factor"] == factor])
        label = FACTOR_LABELS.get(factor, factor.replace("_", " "))
        axis.set(xlabel=label, ylabel="J&F (%)" if axis in axes[:, 0] else "")
    return figure


def _factor_panel(axis: Axes, rows: pd.DataFrame) -> None:
    """Numbers as a line, on a log axis where they are spread; words as dots."""
    words = rows["value"].astype(str)  # of a table from a file all are text
    numbers = pd.to_numeric(words, errors="coerce")
    is_number = bool(np.isfinite(numbers).all())
    rows = rows.assign(place=numbers if is_number else range(len(rows))).sort_values("place")
    base = rows[rows["is_base"].astype(bool)].iloc[0]
    axis.axvline(base["place"], color=DARK, linewidth=0.8, zorder=1)
    above = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "center"}
    axis.annotate("base", (base["place"], 1), (0, 2), **above, fontsize=8, color=DARK)
    axis.plot(rows["place"], rows["JF_mean"], "o-" if is_number else "o", color=ORANGE, markersize=4)
    axis.scatter(base["place"], base["JF_mean"], s=75, facecolor="none", edgecolor=ORANGE, linewidth=1.5)
    axis.grid(axis="x", visible=False)
    if is_number:
        _number_ticks(axis, list(rows["place"]), base["place"])
    else:
        axis.set_xticks(range(len(words)), [fill(YES_NO.get(word, word), 10) for word in words], fontsize=8)
        axis.set_xlim(-0.5, len(words) - 0.5)


def _number_ticks(axis: Axes, values: Sequence[float], base: float) -> None:
    """A tick at each value; labels where there is room, the base value's always."""
    smallest = next(value for value in values if value > 0)
    if values[-1] >= 5 * smallest:
        axis.set_xscale("log") if values[0] > 0 else axis.set_xscale("symlog", linthresh=smallest, linscale=0.5)
    where = axis.xaxis.get_transform().transform(np.array(values, float))
    where = (where - where[0]) / (where[-1] - where[0])
    shown: list[int] = []
    for index in sorted(range(len(values)), key=lambda i: (values[i] != base, where[i] not in (0, 1), where[i])):
        if all(abs(where[index] - where[other]) >= 0.13 for other in shown):
            shown.append(index)
    labels = [f"{value:g}" if index in shown else "" for index, value in enumerate(values)]
    axis.set_xticks(values, labels, fontsize=8)
    axis.set_xticks([], minor=True)


def cost_figure(rows: Sequence[Mapping], defaults: Mapping[str, float]) -> tuple[Figure, pd.DataFrame]:
    """Memory and time against each factor, as ratios to the default's: the paper's beside ours.

    rows: `factor` (a key of `defaults`), `value`, `source` and `measure` (a key of COST_STYLES), `amount` in any unit.
    defaults: factor -> value at which all ratios are 1.
    """
    rows, parts = pd.DataFrame(rows), []
    figure, axes = plt.subplots(1, len(defaults), figsize=(10, 3.4), sharey=True, squeeze=False)
    for axis, (factor, default) in zip(axes[0], defaults.items(), strict=True):
        for (source, measure), series in rows[rows["factor"] == factor].groupby(["source", "measure"], sort=False):
            base = series.loc[series["value"] == default, "amount"].item()
            series = series.sort_values("value").assign(ratio=series["amount"] / base)
            color, style = COST_STYLES[source, measure]
            axis.plot(series["value"], series["ratio"], style, color=color, markersize=5, label=f"{measure}, {source}")
            parts.append(series)
        axis.axvline(default, color=LIGHT, linewidth=0.8, zorder=0)
        axis.axhline(1, color=LIGHT, linewidth=0.8, zorder=0)
        axis.set(xlabel=factor, xticks=sorted(rows.loc[rows["factor"] == factor, "value"].unique()))
        axis.grid(axis="x", visible=False)
    axes[0, 0].set_ylabel("ratio to the default")
    axes[0, 0].legend(fontsize=9)
    return figure, pd.concat(parts)
