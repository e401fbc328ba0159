"""Ink for the evaluation notebook: pictures of what was predicted, and curves and bars of the scores.

`tasks_figure` follows SiamMAE's Figure 3, `heat` its Figure 5 (Gupta et al. 2023). One colour stands for one method:
SiamMAE is orange. Shapes: `H W` pixels, `h w` feature grid (cells). Scores are percent.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import cycle
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from lib.errors import UserError
from lib.plots.style import BLUE, GREEN, GREY, INK, ORANGE, RED, draw_rows, row_aspects

SIAM_SHADES = (ORANGE, "#a8541f", "#f0b893")
OTHER_COLORS = (BLUE, GREEN, RED, "#8172b3", "#64b5cd", "#937860")
SMOOTH = 3  # skeletons are drawn this many times too large and shrunk

# Joints in JHMDB's order: neck, belly, face, then right and left shoulder, hip, elbow, knee, wrist, ankle.
JOINT_NUMBER = 15
FACE = 2
LIMBS = (
    (0, 2), (0, 1), (0, 3), (3, 7), (7, 11), (0, 4), (4, 8), (8, 12),
    (1, 5), (5, 9), (9, 13), (1, 6), (6, 10), (10, 14),
)  # fmt: skip
BASELINES = ("nothing moves", "random match", "best possible cell")
YES_NO = {"True": "yes", "False": "no"}
FACTOR_LABELS = {
    "top_k": "top-k",
    "queue": "queue (frames)",
    "radius": "radius (cells)",
    "input_size": "input size (pixels)",
}


# --- pictures -----------------------------------------------------------------------------------------------


def draw_joints(frame: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """A skeleton over a lightened frame: right side blue, left side orange -> (H, W, 3) float in 0..1.

    `frame`: (H, W, 3) uint8. `joints`: (15, 2) pixels, x first, in JHMDB's order; (-1, -1) or NaN is a lost joint,
    and no limb with one is drawn. Joints may lie outside the frame. Raises UserError if there are not 15 joints.
    """
    if joints.shape != (JOINT_NUMBER, 2):
        raise UserError(f"joints are {joints.shape}; expected ({JOINT_NUMBER}, 2), x and y of JHMDB's joints")
    height, width = frame.shape[:2]
    light = Image.fromarray(255 - (255 - frame) // 2)
    canvas = light.resize((SMOOTH * width, SMOOTH * height), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(canvas)
    seen = np.isfinite(joints).all(axis=1) & (joints != -1).any(axis=1)
    places = SMOOTH * joints + SMOOTH // 2  # the middle of a pixel stays its middle
    thick = max(2.0, min(height, width) / 70) * SMOOTH
    # white first, so that limbs show on a background of their own colour, too
    for extra in (0.7 * thick, 0.0):
        for start, end in LIMBS:
            if seen[start] and seen[end]:
                ends = [tuple(places[start]), tuple(places[end])]
                pen.line(ends, fill="white" if extra else _side_color(end), width=round(thick + extra))
        for joint in np.flatnonzero(seen):
            radius = (1.6 if joint == FACE else 0.9) * thick + extra / 2
            pen.circle(tuple(places[joint]), radius, fill="white" if extra else _side_color(joint))
    return np.asarray(canvas.reduce(SMOOTH)) / 255


def _side_color(joint: int) -> str:
    return INK if joint <= FACE else BLUE if joint % 2 else ORANGE


def heat(frame: np.ndarray, values: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """A map over a greyed frame, bright where it is high -> (H, W, 3) float in 0..1.

    `frame`: (H, W, 3) uint8. `values`: (h, w) float, upsampled bilinearly. `limits`: values of the darkest and the
    brightest colour, those beyond are clipped; default the map's own range. Give limits to compare maps.
    Raises UserError if a value is not finite or the limits do not rise.
    """
    if not np.isfinite(values).all():
        raise UserError("the map holds NaN or infinity; mask it before drawing")
    if limits is not None and limits[0] >= limits[1]:
        raise UserError(f"limits must rise, not {limits}")
    low, high = limits or (values.min(), values.max())
    height, width = frame.shape[:2]
    scaled = Image.fromarray(((values - low) / ((high - low) or 1)).clip(0, 1).astype(np.float32))
    level = np.asarray(scaled.resize((width, height), Image.Resampling.BILINEAR)).clip(0, 1)
    color = plt.get_cmap("inferno")(level)[..., :3]
    grey = np.asarray(Image.fromarray(frame).convert("L"))[..., None] / 255
    return 0.4 * (0.25 + 0.75 * grey) + 0.6 * color


def tasks_figure(rows: Mapping[str, Sequence], titles: Sequence[str] | Mapping[str, Sequence[str]]) -> Figure:
    """Rows of pictures in one block a task, as SiamMAE's Figure 3.

    A row's label is "task: row", as in "DAVIS: truth"; rows of one task stand together. `titles`: above the columns of
    the first block, or a mapping from task to those above its block. Pictures of one row are of one size.
    """
    blocks: dict[str, dict[str, Sequence]] = {}
    for label, pictures in rows.items():
        task, _, row = label.partition(": ")
        blocks.setdefault(task, {})[row] = pictures
    if not isinstance(titles, Mapping):
        titles = {next(iter(blocks)): titles}
    columns = max(len(pictures) for pictures in rows.values())
    column = (10 - 0.55) / columns  # inches; the labels take the rest
    heights = [column * sum(row_aspects(block)) + (0.4 if task in titles else 0.2) for task, block in blocks.items()]
    figure = plt.figure(figsize=(10, sum(heights)))
    parts = figure.subfigures(len(blocks), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, (task, block) in zip(parts, blocks.items(), strict=True):
        draw_rows(part, block, titles.get(task, ()), columns)
        part.supylabel(task, fontsize=11, weight="bold")
    return figure


# --- curves and bars ----------------------------------------------------------------------------------------


def sensitivity_figure(table: pd.DataFrame) -> Figure:
    """J&F against one factor of the protocol at a time, a panel each; the base value has a line and a ring.

    Columns: `factor`, `value` (numbers, or words for a choice), `is_base`, `JF_mean` (percent), and `method` where
    there are several. Raises UserError if a factor has no base value, or more than one.
    """
    table = table if "method" in table else table.assign(method="")
    colors = _method_colors(table["method"])
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
        _label_ends(axes[0, -1], ends[factors[columns - 1]].combine_first(elsewhere), colors, gap=0.09)
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
    axis.axvline(place[base[0]], color=INK, linewidth=0.8, zorder=1)
    above = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "ha": "center"}
    axis.annotate("base", (place[base[0]], 1), (0, 2), **above, fontsize=8, color=INK)
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


def objects_figure(table: pd.DataFrame) -> Figure:
    """J&F against the number of objects in the first frame, a line a method, `spread` as error bars.

    Columns: `method`, `num_objects`, `JF_mean` and `spread` (percent), `sequences` (how many have so many objects).
    """
    colors = _method_colors(table["method"])
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
    _label_ends(axis, table.sort_values("num_objects").groupby("method", sort=False)["JF_mean"].last(), colors)
    return figure


def correspondence_figure(table: pd.DataFrame, baselines: Collection[str] = BASELINES) -> Figure:
    """How well cells are found again after `gap` frames: share of them (percent) and error (pixels), a line a method.

    Columns: `method`, `gap` (frames), `share_within_cell` (percent), `end_point_error` (pixels). The methods in
    `baselines` are grey and dashed.
    """
    colors = _method_colors(table["method"], baselines)
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6))
    panels = (
        ("share_within_cell", "found within one cell (%)", "higher is better"),
        ("end_point_error", "end-point error (pixels)", "lower is better"),
    )
    for axis, (column, name, better) in zip(axes, panels, strict=True):
        for method, color in colors.items():
            mine = table[table["method"] == method].sort_values("gap")
            axis.plot(mine["gap"], mine[column], "--" if method in baselines else "o-", color=color, markersize=4)
        axis.set(xlabel="gap (frames)", xticks=sorted(table["gap"].unique()), ylabel=name, title=better)
        axis.set_ylim(bottom=0)
        axis.grid(axis="x", visible=False)
        _label_ends(axis, table.sort_values("gap").groupby("method", sort=False)[column].last(), colors)
    return figure


def score_panels(table: pd.DataFrame) -> Figure:
    """Bars of each method's scores, a panel a task; a task's further metrics are paler bars below the first.

    Columns: `method`, `task`, `metric`, `value` (percent); all in the order of their first appearance. A method
    without a value has a dash.
    """
    methods = list(table["method"].unique())
    tasks = list(table["task"].unique())
    figure, axes = plt.subplots(1, len(tasks), figsize=(10, 0.42 * len(methods) + 1.1), sharey=True, squeeze=False)
    for axis, task in zip(axes[0], tasks, strict=True):
        scores = table[table["task"] == task].pivot(index="method", columns="metric", values="value").reindex(methods)
        metrics = list(table.loc[table["task"] == task, "metric"].unique())
        thick, lowest = 0.7 / len(metrics), scores.mean(axis=1).argmin()  # beside short bars there is room for names
        for index, metric in enumerate(metrics):
            places = np.arange(len(methods)) + (index - (len(metrics) - 1) / 2) * thick
            colors = [_pale(ORANGE if method.startswith("SiamMAE") else BLUE, index) for method in methods]
            axis.barh(places, scores[metric].fillna(0), color=colors, height=thick)
            for row, (place, value) in enumerate(zip(places, scores[metric], strict=True)):
                known = "–" if np.isnan(value) else f"{value:.1f}"
                note = f"  {metric}" if row == lowest and len(metrics) > 1 else ""
                end = (np.nan_to_num(value), place)
                axis.annotate(known + note, end, (3, 0), textcoords="offset points", va="center", fontsize=8)
        axis.set(title=task, xlabel=f"{' and '.join(metrics)} (%)", xlim=(0, table["value"].max() * 1.4))
        axis.set_xticks([tick for tick in axis.get_xticks() if 0 <= tick <= 100])
        axis.grid(visible=False)
    axes[0, 0].set_yticks(range(len(methods)), methods)
    axes[0, 0].invert_yaxis()
    return figure


def _pale(color: str, steps: int) -> tuple[float, ...]:
    """The colour, nearer to white with each step."""
    return tuple(1 - (1 - part) * 0.55**steps for part in to_rgb(color))


def _method_colors(methods: Sequence[str], baselines: Collection[str] = ()) -> dict[str, str]:
    """One colour for each method, in the order given: SiamMAE orange, baselines grey."""
    siam, other = cycle(SIAM_SHADES), cycle(OTHER_COLORS)
    return {
        method: GREY if method in baselines else next(siam if method.startswith("SiamMAE") else other)
        for method in dict.fromkeys(methods)
    }


def _label_ends(axis: Axes, ends: pd.Series, colors: Mapping[str, str], gap: float = 0.07) -> None:
    """Each method's name right of the axis, at its last value; names that would overlap move apart.

    `gap`: the least distance of two names, as share of the axis.
    """
    low, high = axis.get_ylim()
    axis.set_ylim(low, high)
    ends = ends.dropna().sort_values()
    # names as near as possible to their lines, `gap` apart: isotonic regression, by its min-max formula
    steps = gap * (high - low) * np.arange(len(ends))
    free = ends.to_numpy() - steps
    n = len(free)
    places = [max(min(free[j : k + 1].mean() for k in range(i, n)) for j in range(i + 1)) for i in range(n)]
    for method, place in zip(ends.index, places + steps, strict=True):
        style = {"va": "center", "fontsize": 9, "color": colors[method]}
        axis.annotate(method, (1, place), (6, 0), ("axes fraction", "data"), "offset points", **style)
