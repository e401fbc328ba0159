"""Curves: losses over steps, growth with the gap, calibration, sparsification, scores over gaps and objects."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from lib.plots.bars import REGION_COLORS
from lib.plots.style import BLUE, COLORS, DARK, GREEN, GREY, ORANGE, RED, headline, method_colors

BASELINES = ("nothing moves", "random match", "best possible cell")  # of correspondence
WINDOW = 20  # steps of a running mean


def loss_curve(
    curves: Mapping[str, list[dict]], units: str | Mapping[str, str], level: tuple[float, str] | None = None,
    log: bool = False,
) -> tuple[Figure, pd.DataFrame]:  # fmt: skip
    """Training losses against the step: every step faint, the mean of WINDOW steps around it strong.

    curves: name -> records with `step`, `loss`, `seconds`. units: what is on the axis, for all or by name; curves in
    other units get a panel of their own. level: a height to compare with, and its name.
    """
    units = dict.fromkeys(curves, units) if isinstance(units, str) else units
    panels = list(dict.fromkeys(units[name] for name in curves))
    figure, axes = plt.subplots(len(panels), figsize=(7, 0.7 + 2.5 * len(panels)), sharex=True, squeeze=False)
    numbers = []
    for (name, records), color in zip(curves.items(), (BLUE, ORANGE), strict=False):
        axis = axes[panels.index(units[name]), 0]
        frame = pd.DataFrame(records)[["step", "loss", "seconds"]].assign(system=name)
        axis.plot(frame["step"], frame["loss"], color=color, alpha=0.25, linewidth=0.8)
        # whole windows alone: a shorter mean at the start would jump when the first, high losses leave it
        whole = min(WINDOW, len(frame))
        smooth = frame["loss"].rolling(whole, center=True).mean()
        axis.plot(frame["step"], smooth, color=color, label=f"{name} (mean of {whole} steps)")
        numbers.append(frame)
    for axis, unit in zip(axes[:, 0], panels, strict=True):
        if level:
            axis.axhline(level[0], color=GREY, linestyle="--", linewidth=1, label=level[1])
        axis.set(ylabel=unit, yscale="log" if log else "linear")
        axis.legend()
    axes[-1, 0].set(xlabel="optimizer step")
    return figure, pd.concat(numbers)


def line_figure(
    curves: Mapping[str, pd.Series], xlabel: str, ylabel: str, level: tuple[float, str] | None = None,
    log: bool = False, title: str = "",
) -> tuple[Figure, pd.DataFrame]:  # fmt: skip
    """One line a curve over its index. level: a height to compare with, and its name. log: both axes."""
    figure, axis = plt.subplots(figsize=(7.5, 3.4))
    for (name, values), color in zip(curves.items(), COLORS, strict=False):
        axis.plot(values.index, values, "o-" if len(values) < 12 else "-", color=color, markersize=4, label=name)
    if level:
        axis.axhline(level[0], color=GREY, linestyle="--", linewidth=1, label=level[1])
    scale = "log" if log else "linear"
    axis.set(xlabel=xlabel, ylabel=ylabel, xscale=scale, yscale=scale)
    axis.legend(fontsize=8)
    headline(figure, title)
    numbers = pd.concat([pd.DataFrame({"curve": name, "x": part.index, "y": part}) for name, part in curves.items()])
    return figure, numbers


def sampling_curves(entropy: pd.DataFrame, meetings: pd.DataFrame, title: str = "") -> Figure:
    """AdaMAE's sampler in training: how spread its distribution is, and what its visible cubes meet.

    entropy: columns `step`, `entropy_share` (of log N; 1 is random masking). meetings: columns `step`, `region` (a key
    of REGION_COLORS), `times_chance`.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2))
    left.plot(entropy["step"], entropy["entropy_share"], color=ORANGE)
    left.set(xlabel="optimizer step", ylabel="entropy, share of log N", title="how spread the distribution is")
    for region, rows in meetings.groupby("region", sort=False):
        rows = rows.sort_values("step")
        right.plot(rows["step"], rows["times_chance"], "o-", color=REGION_COLORS[region], markersize=4, label=region)
    right.set(xlabel="optimizer step", ylabel="times chance", title="what cubes drawn by it meet, on average")
    for axis in (left, right):
        axis.axhline(1, color=DARK, linestyle="--", linewidth=1, label="random masking")
    right.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9)
    headline(figure, title)
    return figure


def gap_figure(
    gaps: Sequence[int], bands: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], trained: int, title: str = "",
    unit: str = "root mean square over hidden pixels,\nin standard deviations of a patch",
) -> tuple[Figure, pd.DataFrame]:  # fmt: skip
    """Curves over the gap with their bands, name -> (mean, low, high); a line marks the largest gap of the training."""
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
    axis.set(xlabel="gap between past and future, in frames at 30 fps", ylabel=unit)
    beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "frameon": False} if len(bands) > 5 else {}
    axis.legend(fontsize=9, **beside)
    headline(figure, title)
    return figure, pd.concat(numbers)


def reliability_figure(
    curves: Mapping[str, Mapping[str, Sequence[float]]], title: str = ""
) -> tuple[Figure, pd.DataFrame]:
    """How far observed quantiles are from nominal ones, a panel an estimator: name -> {"nominal" and others}. Below the
    name: the mean distance of its curves from 0, the calibrated.
    """
    figure, axes = plt.subplots(1, len(curves), figsize=(2.9 * len(curves), 3.2), sharey=True, squeeze=False)
    numbers = []
    for axis, (name, found) in zip(axes[0], curves.items(), strict=True):
        nominal = np.asarray(found["nominal"])
        away = {kind: np.asarray(observed) - nominal for kind, observed in found.items() if kind != "nominal"}
        axis.axhline(0, color=GREY, linestyle="--", linewidth=1)
        for (kind, values), color in zip(away.items(), (RED, BLUE, GREEN), strict=False):
            axis.plot(nominal, values, color=color, linewidth=1.6, label=kind)
        axis.set(xlabel="nominal quantile", xlim=(0, 1))
        errors = ", ".join(f"{kind} {np.abs(values).mean():.3f}" for kind, values in away.items())
        axis.set_title(f"{name}\n{errors}", fontsize=9)
        numbers.append(pd.DataFrame({"case": name, **found}))
    axes[0, 0].set_ylabel("share of truths below it,\nless the nominal share")
    axes[0, -1].legend(fontsize=8)
    headline(figure, title)
    return figure, pd.concat(numbers)


def sparsification_figure(
    curves: Mapping[str, np.ndarray], oracle: np.ndarray, removed: np.ndarray, title: str = ""
) -> tuple[Figure, pd.DataFrame]:
    """Error that is left when the most uncertain patches are taken away; a random order stays at 1."""
    figure, axis = plt.subplots(figsize=(7.5, 3.8))
    for (name, curve), color in zip(curves.items(), COLORS, strict=False):
        axis.plot(100 * removed, curve, color=color, linewidth=1.6, label=name)
    axis.axhline(1, color=GREY, linestyle="--", linewidth=1, label="random order", zorder=5)
    axis.plot(100 * removed, oracle, color=DARK, linestyle=":", linewidth=1.6, label="oracle: by the error")
    axis.set(xlabel="most uncertain patches removed (%)", ylabel="mean squared error of the rest,\nrelative to all")
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    headline(figure, title)
    return figure, pd.DataFrame({"removed": removed, "oracle": oracle, **curves})


def objects_figure(table: pd.DataFrame) -> Figure:
    """J&F against the number of objects in the first frame, a line a method, `spread` as error bars.

    Columns: `method`, `num_objects`, `JF_mean` and `spread` (percent), `sequences` (how many have so many objects).
    """
    colors = method_colors(table["method"])
    figure, axis = plt.subplots(figsize=(10, 3.8))
    for index, (method, color) in enumerate(colors.items()):
        mine = table[table["method"] == method].sort_values("num_objects")
        places = mine["num_objects"] + 0.05 * (index - (len(colors) - 1) / 2)
        look = {"fmt": "o-", "color": color, "markersize": 5, "capsize": 2, "elinewidth": 1}
        axis.errorbar(places, mine["JF_mean"], mine["spread"], **look)
    counts = table.groupby("num_objects")["sequences"].max()
    axis.set_xticks(counts.index, [f"{objects}\n({n} clip{'s' * (n != 1)})" for objects, n in counts.items()])
    axis.set(xlabel="objects in the first frame", ylabel="J&F (%), bars: standard deviation")
    axis.set_xlim(counts.index.min() - 0.3, counts.index.max() + 0.2)
    axis.grid(axis="x", visible=False)
    label_ends(axis, table.sort_values("num_objects").groupby("method", sort=False)["JF_mean"].last(), colors)
    return figure


def correspondence_figure(table: pd.DataFrame) -> Figure:
    """How well cells are found again, a line a method; BASELINES are grey and dashed.

    Columns: `method`, `gap` (frames), `share_within_cell` (percent), `end_point_error` (pixels).
    """
    colors = method_colors(table["method"], BASELINES)
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6))
    panels = (
        ("share_within_cell", "found within one cell (%)", "higher is better"),
        ("end_point_error", "end-point error (pixels)", "lower is better"),
    )
    for axis, (column, name, better) in zip(axes, panels, strict=True):
        for method, color in colors.items():
            mine = table[table["method"] == method].sort_values("gap")
            axis.plot(mine["gap"], mine[column], "--" if method in BASELINES else "o-", color=color, markersize=4)
        axis.set(xlabel="gap (frames)", xticks=sorted(table["gap"].unique()), ylabel=name, title=better)
        axis.set_ylim(bottom=0)
        axis.grid(axis="x", visible=False)
        label_ends(axis, table.sort_values("gap").groupby("method", sort=False)[column].last(), colors)
    return figure


def label_ends(axis: Axes, ends: pd.Series, colors: Mapping[str, str]) -> None:
    """Each method's name right of the axis, at its last value; names that would overlap move apart."""
    low, high = axis.get_ylim()
    axis.set_ylim(low, high)
    ends = ends.dropna().sort_values()
    steps = 0.07 * (high - low) * np.arange(len(ends))
    places = isotonic_regression(ends - steps).x + steps  # as near as possible to their lines, a step apart
    for method, place in zip(ends.index, places, strict=True):
        style = {"va": "center", "fontsize": 9, "color": colors[method]}
        axis.annotate(method, (1, place), (6, 0), ("axes fraction", "data"), "offset points", **style)
