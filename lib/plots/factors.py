"""One factor at a time: scores and costs against each setting of it, a panel a factor."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.errors import UserError
from lib.plots.curves import label_ends
from lib.plots.style import DARK, GREEN, LIGHT, ORANGE, headline, method_colors

YES_NO = {"True": "yes", "False": "no"}
FACTOR_LABELS = {
    "top_k": "top-k",
    "queue": "queue (frames)",
    "radius": "radius (cells)",
    "input_size": "input size (pixels)",
}
COST_STYLES = {("ours", "memory"): (ORANGE, "o-"), ("ours", "time"): (GREEN, "s-"), ("paper", "memory"): (DARK, "o--")}


def sensitivity_figure(table: pd.DataFrame) -> Figure:
    """J&F against one factor of the protocol at a time, a panel each; the base value has a line and a ring.

    Columns: `factor`, `value` (numbers, or words for a choice), `is_base`, `JF_mean` (percent), and `method` where
    there are several.
    """
    table = table if "method" in table else table.assign(method="")
    colors = method_colors(table["method"])
    factors = list(table["factor"].unique())
    lines = -(-len(factors) // 4)
    columns = -(-len(factors) // lines)
    figure, axes = plt.subplots(lines, columns, figsize=(10, 2.4 * lines + 0.2), sharey=True, squeeze=False)
    for axis in axes.flat[len(factors) :]:
        axis.remove()
    ends = {}
    for axis, factor in zip(axes.flat, factors, strict=False):
        rows = table[table["factor"] == factor]
        ends[factor] = _factor_panel(axis, rows.assign(value=rows["value"].astype(str)), colors)
        label = FACTOR_LABELS.get(factor, factor.replace("_", " "))
        axis.set(xlabel=label, ylabel="J&F (%)" if axis in axes[:, 0] else "")
    if len(colors) > 1:
        elsewhere = table.groupby("method")["JF_mean"].last()
        label_ends(axes[0, -1], ends[factors[columns - 1]].combine_first(elsewhere), colors, gap=0.09)
    return figure


def _factor_panel(axis: Axes, rows: pd.DataFrame, colors: Mapping[str, str]) -> pd.Series:
    """One factor: numbers as lines, on a log axis where they are spread; words as dots. `value` is text here.

    Returns each method's score at the last value.
    """
    base = rows.loc[rows["is_base"].astype(bool), "value"].unique()
    if len(base) != 1:
        raise UserError(f"factor {rows['factor'].iloc[0]} has {len(base)} base values; mark one in the column is_base")
    words = list(rows["value"].unique())
    numbers = pd.to_numeric(pd.Series(words), errors="coerce")
    is_number = bool(np.isfinite(numbers).all())
    place = dict(zip(words, numbers if is_number else range(len(words)), strict=True))
    rows = rows.assign(place=rows["value"].map(place)).sort_values("place")
    axis.axvline(place[base[0]], color=DARK, linewidth=0.8, zorder=1)
    above = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "center"}
    axis.annotate("base", (place[base[0]], 1), (0, 2), **above, fontsize=8, color=DARK)
    for index, (method, color) in enumerate(colors.items()):
        mine = rows[rows["method"] == method]
        aside = 0 if is_number else 0.08 * (index - (len(colors) - 1) / 2)
        axis.plot(mine["place"] + aside, mine["JF_mean"], "o-" if is_number else "o", color=color, markersize=4)
        ring = mine[mine["value"] == base[0]]
        axis.scatter(ring["place"] + aside, ring["JF_mean"], s=75, facecolor="none", edgecolor=color, linewidth=1.5)
    axis.grid(axis="x", visible=False)
    if is_number:
        _number_ticks(axis, sorted(place.values()), place[base[0]])
    else:
        axis.set_xticks(range(len(words)), [fill(YES_NO.get(word, word), 10) for word in words], fontsize=8)
        axis.set_xlim(-0.5, len(words) - 0.5)
    return rows.groupby("method")["JF_mean"].last()


def _number_ticks(axis: Axes, values: Sequence[float], base: float) -> None:
    """A tick at each value; labels where there is room, the base value's always."""
    positive = [value for value in values if value > 0]
    if positive and values[0] >= 0 and values[-1] >= 5 * positive[0]:
        axis.set_xscale("log") if values[0] > 0 else axis.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
    where = axis.xaxis.get_transform().transform(np.array(values, float))
    where = (where - where[0]) / ((where[-1] - where[0]) or 1)
    shown: list[int] = []
    for index in sorted(range(len(values)), key=lambda i: (values[i] != base, where[i] not in (0, 1), where[i])):
        if all(abs(where[index] - where[other]) >= 0.13 for other in shown):
            shown.append(index)
    labels = [f"{value:g}" if index in shown else "" for index, value in enumerate(values)]
    axis.set_xticks(values, labels, fontsize=8)
    axis.set_xticks([], minor=True)


def cost_figure(
    rows: pd.DataFrame | Sequence[Mapping], defaults: Mapping[str, float], title: str = ""
) -> tuple[Figure, pd.DataFrame]:
    """Memory and time against each factor, as ratios to the default's: the paper's beside ours.

    Columns: `factor` (a key of `defaults`), `value`, `source` and `measure` (a key of COST_STYLES), `amount` in any
    unit. defaults: factor -> value at which all ratios are 1. Returns the rows with a column `ratio`.
    """
    rows = pd.DataFrame(rows)
    figure, axes = plt.subplots(1, len(defaults), figsize=(10, 3.4), sharey=True, squeeze=False)
    parts = []
    for axis, (factor, default) in zip(axes[0], defaults.items(), strict=True):
        for (source, measure), series in rows[rows["factor"] == factor].groupby(["source", "measure"], sort=False):
            base = series.loc[series["value"] == default, "amount"]
            if len(base) != 1:
                raise UserError(f"{source} {measure} has {len(base)} rows at {factor} {default:g}; it needs one")
            series = series.sort_values("value").assign(ratio=lambda frame, base=base: frame["amount"] / base.item())
            color, style = COST_STYLES[source, measure]
            axis.plot(series["value"], series["ratio"], style, color=color, markersize=5, label=f"{measure}, {source}")
            parts.append(series)
        axis.axvline(default, color=LIGHT, linewidth=0.8, zorder=0)
        axis.axhline(1, color=LIGHT, linewidth=0.8, zorder=0)
        axis.set(xlabel=factor, xticks=sorted(rows.loc[rows["factor"] == factor, "value"].unique()))
        axis.grid(axis="x", visible=False)
    axes[0, 0].set_ylabel("ratio to the default")
    axes[0, 0].legend(fontsize=9)
    headline(figure, title)
    return figure, pd.concat(parts)
