"""Ink for the AdaMAE notebook, part two: the method's diagram, and charts of what the sampler does, brings and costs.

`architecture_figure` is Figure 2 of Bandara et al. 2023 (arXiv 2211.09120); the charts hold the numbers of its Table 1.

Shapes: `N` cubes, `K` visible ones, `D` token width. "Times chance": how often visible cubes meet a region, divided by
the region's share of the clip; 1 is random masking. Rows are a DataFrame or what makes one; titles are the caller's.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from scipy import stats

from lib.errors import UserError, unknown
from lib.plots.clips import ClipSample, sample_pictures
from lib.plots.style import BLUE, GREEN, INK, ORANGE, RED

GREY, PURPLE = "#8c8c8c", "#7a4fa3"
REGION_COLORS = {"moving objects": ORANGE, "static distractors": BLUE, "plain backdrop": GREY}
COST_STYLES = {("ours", "memory"): (ORANGE, "o-"), ("ours", "time"): (GREEN, "s-"), ("paper", "memory"): (INK, "o--")}
Rows = pd.DataFrame | Sequence[Mapping]


# --- the method ---------------------------------------------------------------------------------------------


def architecture_figure(
    cubes: int, visible: int, embed_dim: int, decoder_embed_dim: int, sample: ClipSample | None = None
) -> Figure:
    """Figure 2: the parts of AdaMAE, and what each of its two losses trains.

    cubes, visible, embed_dim: N, K, D. sample: shown as the diagram's pictures, at its middle cube; boxes without it.
    The sampler's input is drawn behind a stop-gradient, as in the text; the released code lacks that one.
    """
    figure, axis = plt.subplots(figsize=(11.5, 4.83), layout="none")
    axis.set(xlim=(0, 138), ylim=(0, 58))
    axis.axis("off")
    pictures = {} if sample is None else sample_pictures(sample)
    _panel(axis, (2, 13), "video", pictures.get("video"))
    _panel(axis, (50, 34), f"probability of each of\nN = {cubes:,} cubes (red: high)", pictures.get("probability"))
    _panel(axis, (70, 34), f"mask: K = {visible:,} seen,\n{1 - visible / cubes:.1%} hidden", pictures.get("mask"))
    _panel(axis, (122, 13), "", pictures.get("prediction"))
    axis.text(128, 12.4, "reconstruction", ha="center", va="top", fontsize=8.5, color=INK)
    _box(axis, (19, 13), (15, 12), "tokenizer\n+ positions", BLUE, f"N x D = {cubes:,} x {embed_dim}")
    _box(axis, (69, 13), (14, 12), "keep the\nK drawn", GREY, "")
    _box(axis, (87, 13), (13, 12), "encoder", BLUE, f"K x D = {visible:,} x {embed_dim}")
    _box(axis, (104, 13), (14, 12), "decoder", BLUE, f"with mask tokens:\n{cubes:,} x {decoder_embed_dim}")
    axis.add_patch(FancyBboxPatch((18, 33), 26, 15, boxstyle="round,pad=0,rounding_size=1.2", fc="none", ec=ORANGE))
    axis.text(31, 45.8, "adaptive sampler", ha="center", va="center", fontsize=10, color=ORANGE, weight="bold")
    for x, name in ((19, "MHA"), (27, "Linear"), (35, "Softmax")):
        _box(axis, (x, 34.5), (8 if name == "Softmax" else 7, 9), name, ORANGE, "", fontsize=8.5)
    for start, end in ((14, 19), (34, 69), (83, 87), (100, 104), (118, 122)):
        _route(axis, [(start, 19), (end, 19)], INK)
    for points in ([(23, 25), (23, 34.5)], [(44, 40), (50, 40)], [(62, 40), (70, 40)], [(76, 34), (76, 25)]):
        _route(axis, points, INK)
    axis.text(51, 20, "tokens", ha="center", fontsize=9, color=INK)
    axis.text(66, 41, "draw", ha="center", fontsize=9, color=INK)
    _losses(axis)
    figure.subplots_adjust(0, 0, 1, 1)
    return figure


def _losses(axis: Axes) -> None:
    """The reconstruction loss leads to the MAE along the bottom, the sampling loss to the sampler along the top."""
    _box(axis, (119, 34), (17, 12), "reconstruction\nloss", RED, "error of hidden cubes")
    _box(axis, (89, 34), (17, 12), "sampling\nloss", PURPLE, "-log P of hidden x error")
    _route(axis, [(128, 25), (128, 34)], INK)
    _route(axis, [(119, 40), (106, 40)], INK)
    _stop(axis, (112.5, 40), (112.5, 43.2))
    _stop(axis, (23, 29), (31.5, 28.2))
    _route(axis, [(97.5, 46), (97.5, 54), (31, 54), (31, 48)], PURPLE, "--")
    axis.text(64, 55, "trains the sampler only", ha="center", fontsize=10, color=PURPLE, weight="bold")
    _route(axis, [(136, 40), (137, 40), (137, 5), (26.5, 5), (26.5, 13)], RED)
    for x in (111, 93.5):
        _route(axis, [(x, 5), (x, 13)], RED)
    axis.text(64, 1.5, "trains tokenizer, encoder and decoder", ha="center", fontsize=10, color=RED, weight="bold")


def _stop(axis: Axes, place: tuple[float, float], words: tuple[float, float]) -> None:
    """Two strokes across an arrow: no gradient flows back through it."""
    for shift in (-0.6, 0.6):
        x, y = place[0] + shift, place[1] + shift
        axis.plot([x - 1, x + 1], [y + 1.4, y - 1.4], color=RED, linewidth=2, zorder=4)
    axis.text(*words, "stop-gradient", ha="center", fontsize=8.5, color=RED)


def _panel(axis: Axes, corner: tuple[float, float], label: str, picture: np.ndarray | None) -> None:
    """A picture with its label above, or a box that waits for one."""
    x, y = corner
    axis.add_patch(FancyBboxPatch(corner, 12, 12, boxstyle="square,pad=0", fc="#eeeeee", ec=GREY, linewidth=2))
    if picture is not None:
        axis.imshow(picture, extent=(x, x + 12, y, y + 12), aspect="auto", zorder=2, interpolation="nearest")
    axis.text(x + 6, y + 12.5, label, ha="center", va="bottom", fontsize=8.5, color=INK)


def _box(
    axis: Axes, corner: tuple[float, float], size: tuple[float, float], name: str, color: str, note: str, fontsize=10
) -> None:
    """A part of the model: its name, and below it small what comes out."""
    axis.add_patch(FancyBboxPatch(corner, *size, boxstyle="round,pad=0,rounding_size=1", fc=color, ec="none"))
    x, y = corner[0] + size[0] / 2, corner[1] + size[1] / 2
    look = {"ha": "center", "va": "center", "color": "white"}
    axis.text(x, y + (1.5 if note else 0), name, fontsize=fontsize, weight="bold", **look)
    axis.text(x, corner[1] + (2.3 if "\n" in note else 1.8), note, fontsize=7.5, **look)


def _route(axis: Axes, points: Sequence[tuple[float, float]], color: str, style: str = "-") -> None:
    """A line through the points with an arrowhead at the last."""
    axis.plot(*zip(*points, strict=True), color=color, linestyle=style, linewidth=1.6, solid_capstyle="butt")
    tip = {"arrowstyle": "-|>", "mutation_scale": 13, "color": color, "linewidth": 0, "shrinkA": 0, "shrinkB": 0}
    axis.add_patch(FancyArrowPatch(points[-2], points[-1], **tip))


# --- charts -------------------------------------------------------------------------------------------------


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % t interval over independent seeds; NaN for fewer than two."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return float(values.mean()), float("nan")
    return float(values.mean()), float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def summarize(rows: Rows, keys: list[str], value: str) -> pd.DataFrame:
    """Per combination of `keys`, in order of appearance: columns `mean`, `interval` (half width, 95 %), `seeds`."""
    grouped = pd.DataFrame(rows).groupby(keys, sort=False)[value]
    found = [(*name, *mean_interval(values), len(values)) for name, values in grouped]
    return pd.DataFrame(found, columns=[*keys, "mean", "interval", "seeds"])


def seeds_figure(
    rows: Rows, chance: float, label: str = "top-1 accuracy (%)", title: str = ""
) -> tuple[Figure, pd.DataFrame]:
    """A dot for each seed, the mean for each method, and the chance level as a line.

    Columns: `method`, `seed`, `value`. Methods that begin with "adaptive" are orange. No intervals: of three seeds they
    say little and leave the scale; what decides are paired differences. Returns means and numbers of seeds, too.
    """
    rows = pd.DataFrame(rows)
    numbers = summarize(rows, ["method"], "value").drop(columns="interval")
    figure, axis = plt.subplots(figsize=(8, 0.5 * len(numbers) + 1.5))
    axis.axvline(chance, color=INK, linestyle="--", linewidth=1)
    axis.annotate("chance", (chance, 0), (3, 4), ("data", "axes fraction"), "offset points", fontsize=9, color=INK)
    for place, found in enumerate(numbers.itertuples()):
        color = ORANGE if found.method.startswith("adaptive") else BLUE
        mine = rows.loc[rows["method"] == found.method, "value"]
        axis.plot(mine, np.full(len(mine), place - 0.2), "o", color=color, alpha=0.45, markersize=5)
        axis.plot(found.mean, place + 0.1, "D", color=color, markersize=7)
        above = {"textcoords": "offset points", "ha": "center", "fontsize": 9, "color": color}
        axis.annotate(f"{found.mean:.1f}", (found.mean, place + 0.1), (0, -15), **above)
    axis.set_yticks(range(len(numbers)), numbers["method"])
    axis.set_ylim(len(numbers) - 0.3, -0.6)
    axis.set_xlabel(f"{label}; dots: seeds, diamond: their mean")
    axis.set_title(title, fontsize=12, weight="bold")
    axis.grid(axis="y", visible=False)
    return figure, numbers


def regions_figure(rows: Rows, title: str = "") -> tuple[Figure, pd.DataFrame]:
    """Motion or texture: how often each sampler's visible cubes meet each region, in bars that start at chance.

    Columns: `sampler`, `region` (a key of REGION_COLORS), `times_chance`; rows of one sampler and region are seeds,
    drawn as mean and 95 % interval. Returns the summary, too. Raises UserError for an unknown region.
    """
    numbers = _known_regions(summarize(rows, ["sampler", "region"], "times_chance"))
    samplers = list(numbers["sampler"].unique())
    figure, axis = plt.subplots(figsize=(9, 0.62 * len(samplers) + 1.5))
    for index, (region, color) in enumerate(REGION_COLORS.items()):
        mine = numbers[numbers["region"] == region].set_index("sampler")[["mean", "interval"]].reindex(samplers)
        places = np.arange(len(samplers)) + 0.25 * (index - 1)
        look = {"color": color, "height": 0.23, "label": region, "capsize": 2, "error_kw": {"elinewidth": 1}}
        axis.barh(places, mine["mean"] - 1, xerr=mine["interval"], left=1, **look)
    axis.axvline(1, color=INK, linewidth=1.2)
    seeds = numbers.groupby("sampler", sort=False)["seeds"].first()
    axis.set_yticks(range(len(samplers)), [f"{name} (n = {seeds[name]})" for name in samplers])
    axis.invert_yaxis()
    axis.set_xlabel(
        "how often visible cubes lie there, times chance\n(1 = random masking; thin lines: 95 % t interval over seeds)"
    )
    axis.grid(axis="y", visible=False)
    axis.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    figure.suptitle(title, fontsize=12, weight="bold")
    return figure, numbers


def _known_regions(rows: pd.DataFrame) -> pd.DataFrame:
    for region in rows["region"].unique():
        if region not in REGION_COLORS:
            raise unknown("region", region, REGION_COLORS)
    return rows


def sampling_curves(entropy: Rows, meetings: Rows, title: str = "") -> Figure:
    """The sampler in training: how spread its distribution is, and what its visible cubes meet.

    entropy: columns `step`, `entropy_share` (of log N; 1 is random masking). meetings: columns `step`, `region` (a key
    of REGION_COLORS), `times_chance`. Raises UserError for an unknown region.
    """
    entropy, meetings = pd.DataFrame(entropy), _known_regions(pd.DataFrame(meetings))
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2))
    left.plot(entropy["step"], entropy["entropy_share"], color=ORANGE)
    left.set(xlabel="optimizer step", ylabel="entropy, share of log N", title="how spread the distribution is")
    for region, rows in meetings.groupby("region", sort=False):
        rows = rows.sort_values("step")
        right.plot(rows["step"], rows["times_chance"], "o-", color=REGION_COLORS[region], markersize=4, label=region)
    right.set(xlabel="optimizer step", ylabel="times chance", title="what cubes drawn by it meet, on average")
    for axis in (left, right):
        axis.axhline(1, color=INK, linestyle="--", linewidth=1, label="random masking" if axis is right else None)
    left.annotate(
        "random masking", (1, 1), (-4, -12), ("axes fraction", "data"), "offset points", ha="right", fontsize=9
    )
    right.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=12, weight="bold")
    return figure


def cost_figure(rows: Rows, defaults: Mapping[str, float], title: str = "") -> tuple[Figure, pd.DataFrame]:
    """Memory and time against each factor, as ratios to the default's: the paper's beside ours.

    Columns: `factor` (a key of `defaults`), `value`, `source` and `measure` (a key of COST_STYLES), `amount` in any
    unit. defaults: factor -> value at which all ratios are 1. Returns the rows with a column `ratio`. Raises UserError
    when a series lacks its default.
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
        axis.axvline(default, color=GREY, linewidth=0.8, zorder=0)
        axis.axhline(1, color=GREY, linewidth=0.8, zorder=0)
        axis.set(xlabel=factor, xticks=sorted(rows.loc[rows["factor"] == factor, "value"].unique()))
        axis.grid(axis="x", visible=False)
    axes[0, 0].set_ylabel("ratio to the default")
    axes[0, 0].legend(fontsize=9)
    figure.suptitle(title, fontsize=12, weight="bold")
    return figure, pd.concat(parts)
