"""Ink for the uncertainty notebook: heat maps, growth with the gap, calibration, sparsification, scores with intervals.

Shapes: `G` gaps, `h w` patch grid, `L` levels. Titles are the caller's: they state what was found.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.errors import UserError
from lib.plots.style import BLUE, GREEN, GREY, INK, ORANGE, RED

PURPLE = "#7a4fa3"
COLORS = (ORANGE, BLUE, GREEN, PURPLE, RED, "#64b5cd", "#937860", INK)


def heat_pictures(maps: np.ndarray, low: float, high: float, side: int, name: str = "inferno") -> list[np.ndarray]:
    """Maps (G, h, w) in colour, each cell `side` pixels: a list of (h * side, w * side, 3) float; NaN is grey.

    Values are clipped to low..high. UserError when that is no range.
    """
    if not high > low:
        raise UserError(f"a colour scale from {low:g} to {high:g} has no range: give two different ends")
    pictures = colormaps[name](np.clip((maps - low) / (high - low), 0, 1))[..., :3]
    pictures[np.isnan(maps)] = 0.75
    return [picture.repeat(side, axis=0).repeat(side, axis=1) for picture in pictures]


def gap_figure(
    gaps: Sequence[int], bands: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], trained: int, title: str = ""
) -> tuple[Figure, pd.DataFrame]:
    """Curves over the gap with their bands; `bands`: name -> (mean, low, high), (G,) each. A line marks `trained`, the
    largest gap of the training. Returns the numbers, too.
    """
    figure, axis = plt.subplots(figsize=(7.5, 3.6))
    numbers = []
    for (name, (mean, low, high)), color in zip(bands.items(), COLORS, strict=False):
        axis.plot(gaps, mean, "o-", color=color, markersize=4, label=name)
        axis.fill_between(gaps, low, high, color=color, alpha=0.18, linewidth=0)
        numbers.append(pd.DataFrame({"measure": name, "gap": gaps, "mean": mean, "low": low, "high": high}))
    if gaps[0] <= trained < gaps[-1]:
        axis.axvline(trained, color=GREY, linestyle="--", linewidth=1)
        shown = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 9, "color": GREY}
        axis.annotate("largest gap in training", (trained, 0), (4, 5), **shown)
    axis.set(
        xlabel="gap between past and future, in frames at 30 fps",
        ylabel="root mean square over hidden pixels,\nin standard deviations of a patch",
    )
    axis.legend(fontsize=9)
    axis.set_title(title, fontsize=12, weight="bold")
    return figure, pd.concat(numbers)


def reliability_figure(
    curves: Mapping[str, Mapping[str, Sequence[float]]], title: str = ""
) -> tuple[Figure, pd.DataFrame]:
    """How far observed quantiles are from nominal ones, a panel an estimator; returns the numbers, too.

    curves: name -> {"nominal" and others}, (L,) each. A calibrated estimator stays at 0.
    """
    figure, axes = plt.subplots(1, len(curves), figsize=(2.9 * len(curves), 3.2), sharey=True, squeeze=False)
    numbers = []
    for axis, (name, found) in zip(axes[0], curves.items(), strict=True):
        nominal = np.asarray(found["nominal"])
        axis.axhline(0, color=GREY, linestyle="--", linewidth=1)
        for (kind, observed), color in zip(found.items(), (None, RED, BLUE, GREEN), strict=False):
            if kind != "nominal":
                axis.plot(nominal, np.asarray(observed) - nominal, color=color, linewidth=1.6, label=kind)
        axis.set(xlabel="nominal quantile", xlim=(0, 1))
        axis.set_title(f"{name}\n{_calibration_errors(found)}", fontsize=9)
        numbers.append(pd.DataFrame({"case": name, **found}))
    axes[0, 0].set_ylabel("share of truths below it,\nless the nominal share")
    axes[0, -1].legend(fontsize=8)
    figure.suptitle(title, fontsize=12, weight="bold")
    return figure, pd.concat(numbers)


def _calibration_errors(found: Mapping[str, Sequence[float]]) -> str:
    """The mean distance of each curve from the nominal quantiles, in words."""
    nominal = np.asarray(found["nominal"])
    away = {kind: np.abs(np.asarray(values) - nominal).mean() for kind, values in found.items() if kind != "nominal"}
    return ", ".join(f"{kind} {value:.3f}" for kind, value in away.items())


def sparsification_figure(
    curves: Mapping[str, np.ndarray], oracle: np.ndarray, removed: np.ndarray, title: str = ""
) -> tuple[Figure, pd.DataFrame]:
    """Error that is left when the most uncertain patches are taken away: name -> curve, all of one length (n,).

    `oracle` knows the errors; a random order stays at 1. Returns the numbers, too.
    """
    figure, axis = plt.subplots(figsize=(7.5, 3.8))
    for (name, curve), color in zip(curves.items(), COLORS, strict=False):
        axis.plot(100 * removed, curve, color=color, linewidth=1.6, label=name)
    axis.axhline(1, color=GREY, linestyle="--", linewidth=1, label="random order", zorder=5)
    axis.plot(100 * removed, oracle, color=INK, linestyle=":", linewidth=1.6, label="oracle: by the error")
    axis.set(xlabel="most uncertain patches removed (%)", ylabel="mean squared error of the rest,\nrelative to all")
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    axis.set_title(title, fontsize=12, weight="bold")
    return figure, pd.DataFrame({"removed": removed, "oracle": oracle, **curves})


def groups_figure(groups: Mapping[str, np.ndarray], title: str = "") -> tuple[Figure, pd.DataFrame]:
    """How sigma is distributed in each group of patches: name -> values (n,). Returns the histograms, too."""
    figure, axis = plt.subplots(figsize=(7.5, 3.2))
    edges = np.histogram_bin_edges(np.concatenate(list(groups.values())), 30)
    numbers = {"low": edges[:-1], "high": edges[1:]}
    for (name, values), color in zip(groups.items(), (BLUE, ORANGE, PURPLE, GREEN), strict=False):
        share = np.histogram(values, edges)[0] / len(values)
        axis.stairs(100 * share, edges, color=color, linewidth=1.8, label=f"{name} ({len(values)})")
        axis.axvline(np.median(values), color=color, linestyle=":", linewidth=1.4)
        numbers[name] = share
    axis.set(xlabel="predicted standard deviation of a patch (dotted: median)", ylabel="patches of the group (%)")
    axis.legend(fontsize=9)
    axis.set_title(title, fontsize=12, weight="bold")
    return figure, pd.DataFrame(numbers)


def scores_figure(
    rows: pd.DataFrame, panels: Mapping[str, tuple[str, float | None]], baselines: Sequence[str], title: str = ""
) -> Figure:
    """A row for each `case`, a panel for each measure: name -> (words, target or None); baselines are grey.

    Columns of `rows`: `case`, the measures, and `{measure}_low`, `{measure}_high` where there is an interval.
    """
    size = (3.1 * len(panels) + 1.5, 0.3 * len(rows) + 1.4)
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    colors = [GREY if case in baselines else ORANGE for case in rows["case"]]
    for axis, (measure, (words, target)) in zip(axes[0], panels.items(), strict=True):
        for place, (_, row) in enumerate(rows.iterrows()):
            low, high = row.get(f"{measure}_low", row[measure]), row.get(f"{measure}_high", row[measure])
            axis.plot([low, high], [place, place], color=colors[place], linewidth=2, alpha=0.5)
            axis.plot(row[measure], place, "o", color=colors[place], markersize=5)
        if target is not None:
            axis.axvline(target, color=INK, linestyle="--", linewidth=1)
        axis.set_xlabel(words)
        axis.grid(axis="y", visible=False)
    axes[0, 0].set_yticks(range(len(rows)), rows["case"])
    axes[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    figure.suptitle(title, fontsize=12, weight="bold")
    return figure


def seeds_panels(rows: pd.DataFrame, panels: Mapping[str, str], reference: str, title: str = "") -> Figure:
    """A dot for each seed, joined over the rows, and a diamond for the mean, a row for each `case`; `reference`'s mean
    is a dashed line. What a case is worth is its seeds' shift against the reference's, not the place of its diamond.

    Columns of `rows`: `case`, `seed` and the measures that `panels` names: measure -> words. UserError when no row is
    the reference's.
    """
    cases = list(dict.fromkeys(rows["case"]))
    if reference not in cases:
        raise UserError(f"no row of {reference!r} to compare with; there are {', '.join(cases)}")
    size = (3.4 * len(panels) + 1.5, 0.34 * len(cases) + 1.4)
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for axis, (measure, words) in zip(axes[0], panels.items(), strict=True):
        _seed_dots(axis, rows, cases, measure, reference)
        axis.set_xlabel(words)
        axis.grid(axis="y", visible=False)
    axes[0, 0].set_yticks(range(len(cases)), cases)
    axes[0, 0].invert_yaxis()
    figure.suptitle(title, fontsize=12, weight="bold")
    return figure


def _seed_dots(axis: Axes, rows: pd.DataFrame, cases: list[str], measure: str, reference: str) -> None:
    axis.axvline(rows.loc[rows["case"] == reference, measure].mean(), color=INK, linestyle="--", linewidth=1)
    for _, mine in rows.groupby("seed"):
        places = [cases.index(case) - 0.12 for case in mine["case"]]
        axis.plot(mine[measure], places, color=GREY, linewidth=0.8, alpha=0.5)
    for place, case in enumerate(cases):
        values = rows.loc[rows["case"] == case, measure].dropna()
        color = BLUE if case == reference else ORANGE
        axis.plot(values, np.full(len(values), place - 0.12), "o", color=color, alpha=0.45, markersize=5)
        axis.plot(values.mean(), place + 0.12, "D", color=color, markersize=6)
