"""Bars, dots with intervals, and distributions: one value for each case.

Scores are percent. "Times chance": how often visible cubes meet a region, divided by the region's share of the clip;
1 is random masking.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from scipy import stats

from lib.plots.style import BLUE, DARK, GREEN, GREY, LIGHT, ORANGE, PURPLE, headline

REGION_COLORS = {"moving objects": ORANGE, "static distractors": BLUE, "plain backdrop": LIGHT}
TASK_METRICS = {"objects": {"JF_mean": "J&F"}, "body parts": {"mIoU": "mIoU"},
                "joints": {"PCK@0.1": "PCK@0.1", "PCK@0.2": "PCK@0.2"}}  # fmt: skip


def dot_panels(
    rows: pd.DataFrame, panels: Mapping[str, str], lines: Mapping[str, float] | None = None,
    reference: str | None = None, colors: Mapping[str, str] | None = None, decimals: int | None = None, title: str = "",
) -> Figure:  # fmt: skip
    """A row for each `case`, a panel for each measure: a dot for its value, a line for its interval.

    Where cases have several rows, one a `seed`: a dot for each seed, joined over the cases, and a diamond for the mean.
    What a case is worth is then its seeds' shift against another's, not the place of its diamond.

    rows: columns `case`, the measures, `seed` or `{measure}_low` and `{measure}_high`. panels: measure -> words.
    lines: measure -> a dashed line, such as a target. reference: a case, blue, whose mean is the dashed line instead.
    colors: of cases that are not orange. decimals: of the mean, written below it.
    """
    cases = list(dict.fromkeys(rows["case"]))
    colors = dict.fromkeys(cases, ORANGE) | {reference: BLUE} | (colors or {})
    means = rows.groupby("case")[list(panels)].mean()
    levels = (lines or {}) if reference is None else means.loc[reference]
    seeds = rows["case"].duplicated().any()
    line = 0.5 if decimals is not None else 0.34 if seeds else 0.3
    size = min(3.4 * len(panels), 12.4) + 1.5, line * len(cases) + 1.4
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for axis, (measure, words) in zip(axes[0], panels.items(), strict=True):
        if measure in levels:
            axis.axvline(levels[measure], color=DARK, linestyle="--", linewidth=1)
        (_seed_dots if seeds else _interval_dots)(axis, rows, cases, measure, colors)
        for place, case in enumerate(cases if decimals is not None else ()):
            look = {"textcoords": "offset points", "ha": "center", "fontsize": 9, "color": colors[case]}
            mean = means.loc[case, measure]
            axis.annotate(f"{mean:.{decimals}f}", (mean, place + 0.12), (0, -15), **look)
        axis.set_xlabel(words)
        axis.grid(axis="y", visible=False)
    axes[0, 0].set_yticks(range(len(cases)), cases)
    axes[0, 0].set_ylim(len(cases) - 0.5, -0.5)
    headline(figure, title)
    return figure


def _interval_dots(axis: Axes, rows: pd.DataFrame, cases: list[str], measure: str, colors: Mapping[str, str]) -> None:
    for place, (_, row) in enumerate(rows.iterrows()):
        low, high = row.get(f"{measure}_low", row[measure]), row.get(f"{measure}_high", row[measure])
        axis.plot([low, high], [place, place], color=colors[cases[place]], linewidth=2, alpha=0.5)
        axis.plot(row[measure], place, "o", color=colors[cases[place]], markersize=5)


def _seed_dots(axis: Axes, rows: pd.DataFrame, cases: list[str], measure: str, colors: Mapping[str, str]) -> None:
    for _, mine in rows.groupby("seed"):
        places = [cases.index(case) - 0.12 for case in mine["case"]]
        axis.plot(mine[measure], places, color=GREY, linewidth=0.8, alpha=0.5)
    for place, case in enumerate(cases):
        values = rows.loc[rows["case"] == case, measure].dropna()
        axis.plot(values, np.full(len(values), place - 0.12), "o", color=colors[case], alpha=0.45, markersize=5)
        axis.plot(values.mean(), place + 0.12, "D", color=colors[case], markersize=6)


def task_bars(table: pd.DataFrame, data: Mapping[str, str]) -> Figure:
    """Bars of each method's scores, a panel a task; a task's further metrics are paler bars below the first.

    table: a row a `method`, columns of the tasks that were scored, NaN a dash. data: task -> the data set's name.
    """
    methods = list(table["method"])
    panels = {task: metrics for task, metrics in TASK_METRICS.items() if set(metrics) <= set(table)}
    highest = table[[column for metrics in panels.values() for column in metrics]].max(axis=None)
    figure, axes = plt.subplots(1, len(panels), figsize=(10, 0.42 * len(methods) + 1.1), sharey=True, squeeze=False)
    for axis, (task, metrics) in zip(axes[0], panels.items(), strict=True):
        thick, lowest = 0.7 / len(metrics), table[list(metrics)].mean(axis=1).argmin()  # there is room for names
        for index, (column, metric) in enumerate(metrics.items()):
            places = np.arange(len(methods)) + (index - (len(metrics) - 1) / 2) * thick
            colors = [_pale(ORANGE if method.startswith("SiamMAE") else BLUE, index) for method in methods]
            axis.barh(places, table[column].fillna(0), color=colors, height=thick)
            for row, (place, value) in enumerate(zip(places, table[column], strict=True)):
                known = "–" if np.isnan(value) else f"{value:.1f}"
                note = f"  {metric}" if row == lowest and len(metrics) > 1 else ""
                end = (np.nan_to_num(value), place)
                axis.annotate(known + note, end, (3, 0), textcoords="offset points", va="center", fontsize=8)
        axis.set(title=f"{task}\n{data[task]}", xlabel=f"{' and '.join(metrics.values())} (%)", xlim=(0, highest * 1.4))
        axis.set_xticks([tick for tick in axis.get_xticks() if 0 <= tick <= 100])
        axis.grid(visible=False)
    axes[0, 0].set_yticks(range(len(methods)), methods)
    axes[0, 0].invert_yaxis()
    return figure


def _pale(color: str, steps: int) -> tuple[float, ...]:
    """The colour, nearer to white with each step."""
    return tuple(1 - (1 - part) * 0.55**steps for part in to_rgb(color))


def regions_figure(rows: pd.DataFrame, title: str = "") -> tuple[Figure, pd.DataFrame]:
    """Motion or texture: how often each sampler's visible cubes meet each region, in bars that start at chance.

    Columns: `sampler`, `region` (a key of REGION_COLORS), `times_chance`; rows of one sampler and region are seeds,
    drawn as mean and 95 % t interval.
    """
    grouped = rows.groupby(["sampler", "region"], sort=False)["times_chance"]
    numbers = grouped.agg(mean="mean", interval="sem", seeds="size").reset_index()
    numbers["interval"] *= stats.t.ppf(0.975, numbers["seeds"] - 1)  # NaN of one seed
    seeds = numbers.groupby("sampler", sort=False)["seeds"].first()
    figure, axis = plt.subplots(figsize=(9, 0.62 * len(seeds) + 1.5))
    for index, (region, mine) in enumerate(numbers.groupby("region", sort=False)):
        mine = mine.set_index("sampler").reindex(seeds.index)
        look = {"color": REGION_COLORS[region], "height": 0.23, "capsize": 2, "error_kw": {"elinewidth": 1}}
        places = np.arange(len(seeds)) + 0.25 * (index - 1)
        axis.barh(places, mine["mean"] - 1, xerr=mine["interval"], left=1, label=region, **look)
    axis.axvline(1, color=DARK, linewidth=1.2)
    axis.set_yticks(range(len(seeds)), [f"{name} (n = {number})" for name, number in seeds.items()])
    axis.invert_yaxis()
    chance = "(1 = random masking; thin lines: 95 % t interval over seeds)"
    axis.set_xlabel(f"how often visible cubes lie there, times chance\n{chance}")
    axis.grid(axis="y", visible=False)
    axis.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    headline(figure, title)
    return figure, numbers


def gap_histogram(histogram: pd.DataFrame, paper: tuple[int, int] | None = None) -> Figure:
    """Bars of how many `pairs` were drawn at each `gap` (frames at 30 fps); the paper's range is shaded."""
    figure, axis = plt.subplots(figsize=(7, 2.6))
    axis.bar(histogram["gap"], histogram["pairs"], color=BLUE, width=0.85)
    axis.axhline(histogram["pairs"].mean(), color=DARK, linestyle="--", linewidth=1, label="mean")
    if paper:
        axis.axvspan(paper[0] - 0.5, paper[1] + 0.5, color=GREY, alpha=0.25, zorder=0, label="the paper's range")
    axis.set(xlabel="gap between the two frames, in frames at 30 fps", ylabel="pairs drawn")
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, ncols=2)
    return figure


def histogram_panels(rows: pd.DataFrame, panels: Mapping[str, str], bins: int = 20) -> tuple[Figure, pd.DataFrame]:
    """A histogram for each column of `panels` (column -> words), and its numbers."""
    figure, axes = plt.subplots(1, len(panels), figsize=(3.4 * len(panels) + 0.6, 2.6), sharey=True, squeeze=False)
    numbers = []
    for axis, (column, words) in zip(axes[0], panels.items(), strict=True):
        counts, edges, _ = axis.hist(rows[column], bins=bins, color=BLUE)
        numbers.append(pd.DataFrame({"of": column, "from": edges[:-1], "to": edges[1:], "count": counts.astype(int)}))
        axis.set_xlabel(words)
    axes[0, 0].set_ylabel("clips")
    return figure, pd.concat(numbers)


def groups_figure(groups: Mapping[str, np.ndarray], title: str = "") -> tuple[Figure, pd.DataFrame]:
    """How sigma is distributed in each group of patches: name -> values (n,)."""
    figure, axis = plt.subplots(figsize=(7.5, 3.2))
    edges = np.histogram_bin_edges(np.concatenate(list(groups.values())), 30)
    numbers = {"low": edges[:-1], "high": edges[1:]}
    for (name, values), color in zip(groups.items(), (BLUE, ORANGE, PURPLE, GREEN), strict=False):
        numbers[name] = np.histogram(values, edges)[0] / len(values)
        axis.stairs(100 * numbers[name], edges, color=color, linewidth=1.8, label=f"{name} ({len(values)})")
        axis.axvline(np.median(values), color=color, linestyle=":", linewidth=1.4)
    axis.set(xlabel="predicted standard deviation of a patch (dotted: median)", ylabel="patches of the group (%)")
    axis.legend(fontsize=9)
    headline(figure, title)
    return figure, pd.DataFrame(numbers)
