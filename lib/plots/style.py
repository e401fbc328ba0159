"""Figures of the notebooks: drawn here, saved as PNG beside the numbers behind them, and shown.

Shapes: `B` batch, `T` frames, `H W` pixels. Images are float RGB in 0..1 unless said otherwise.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from IPython.display import Image as Picture
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image
from torch import Tensor

from lib.runtime import atomic_path
from lib.tokens.patches import denormalize_images

BLUE, ORANGE, GREEN, RED, INK, GREY = "#3b6ea8", "#dd8452", "#55a868", "#c44e52", "#30343b", "#6f6f6f"
OBJECT_COLORS = np.array([[0, 0, 0], [221, 60, 60], [60, 160, 75], [240, 180, 30], [60, 90, 210], [170, 70, 180],
                          [40, 180, 190], [240, 120, 40], [150, 110, 70]]) / 255  # fmt: skip


def use_style() -> None:
    """One look for all figures; 110 dots per inch keeps committed notebooks small."""
    sns.set_theme(style="whitegrid", context="notebook", font_scale=0.9)
    plt.rcParams.update({"figure.dpi": 110, "savefig.dpi": 110, "figure.constrained_layout.use": True})


def finish(figure: Figure, path: Path, about: str, numbers: pd.DataFrame | None = None) -> None:
    """Save the figure as <path>.png, the numbers behind it as <path>.csv, and show the picture.

    about: stands below the figure: what is seen, of which data set, how many clips and frames, which seeds.
    """
    wide = round(figure.get_figwidth() * 15)  # letters a line
    figure.text(0.01, -0.01, fill(about, wide), ha="left", va="top", fontsize=8, color=GREY)
    with atomic_path(path.with_name(f"{path.name}.png")) as temporary:
        figure.savefig(temporary, bbox_inches="tight", metadata={"Software": None})
        to_palette(temporary)
    if numbers is not None:
        with atomic_path(path.with_name(f"{path.name}.csv")) as temporary:
            numbers.to_csv(temporary, index=False, float_format="%.6g")
    display(Picture(filename=str(path.with_name(f"{path.name}.png"))))
    plt.close(figure)


def to_palette(path: Path) -> None:
    """Bring a PNG to its 256 best colours: a third of the size, so that notebooks full of photographs still open."""
    with Image.open(path) as image:
        smaller = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2)  # keeps rare colours
    smaller.save(path, format="PNG", optimize=True)


def to_picture(image: Tensor | np.ndarray) -> np.ndarray:
    """One image as matplotlib wants it: (H, W, 3) in 0..1 or uint8.

    Takes a normalised float tensor (3, H, W), a uint8 tensor (3, H, W), or an array (H, W, 3), which stays.
    """
    if isinstance(image, np.ndarray):
        return image
    if image.is_floating_point():
        image = denormalize_images(image)
    return image.detach().cpu().permute(1, 2, 0).numpy()


def image_grid(rows: dict[str, Sequence], titles: Sequence[str] = (), width: float = 10.0) -> Figure:
    """Labelled rows of images; `titles` above the columns. Entries that are None stay empty.

    The images of one row are of one size; each row gets the height that its images need.
    """
    columns = max(len(images) for images in rows.values())
    figure = plt.figure(figsize=(width, width / columns * sum(row_aspects(rows)) + 0.35))
    draw_rows(figure, rows, titles, columns)
    return figure


def row_aspects(rows: dict[str, Sequence]) -> list[float]:
    """Height / width of each row's first image."""
    firsts = (to_picture(next(image for image in images if image is not None)) for images in rows.values())
    return [first.shape[0] / first.shape[1] for first in firsts]


def draw_rows(figure: FigureBase, rows: dict[str, Sequence], titles: Sequence[str], columns: int) -> None:
    """The rows of `image_grid` into a figure or a part of one, `columns` wide."""
    heights = {"height_ratios": row_aspects(rows)}
    axes = figure.subplots(len(rows), columns, squeeze=False, gridspec_kw=heights)
    for line, (label, images) in zip(axes, rows.items(), strict=True):
        for axis, image in zip(line, [*images, *[None] * (columns - len(images))], strict=True):
            axis.set(xticks=[], yticks=[])
            if image is None:
                axis.set_facecolor("none")
                axis.spines[:].set_visible(False)
            else:
                axis.imshow(to_picture(image), interpolation="nearest")
        line[0].set_ylabel(label, fontsize=9)
    for axis, title in zip(axes[0], titles, strict=False):
        axis.set_title(title, fontsize=9)


def overlay(frame: np.ndarray, ids: np.ndarray, strength: float = 0.55) -> np.ndarray:
    """A frame (H, W, 3) uint8 with object ids (H, W) in colour over it -> (H, W, 3) float in 0..1."""
    picture = frame.astype(float) / 255
    color = OBJECT_COLORS[(ids.astype(int) - 1) % (len(OBJECT_COLORS) - 1) + 1]
    return np.where(ids[..., None] > 0, (1 - strength) * picture + strength * color, picture)


def loss_curve(
    curves: Mapping[str, list[dict]],
    units: str | Mapping[str, str],
    level: tuple[float, str] | None = None,
    log: bool = False,
    window: int = 20,
) -> tuple[Figure, pd.DataFrame]:
    """Training losses against the step: every step faint, the mean of `window` steps around it strong.

    curves: name -> records with `step`, `loss`, `seconds`. units: what is on the axis, for all or by name; curves in
    other units get a panel of their own. level: a height to compare with, and its name. log: logarithmic losses.
    Returns the numbers, too.
    """
    units = dict.fromkeys(curves, units) if isinstance(units, str) else units
    panels = list(dict.fromkeys(units[name] for name in curves))
    figure, axes = plt.subplots(len(panels), figsize=(7, 0.7 + 2.5 * len(panels)), sharex=True, squeeze=False)
    numbers = []
    for (name, records), color in zip(curves.items(), (BLUE, ORANGE, GREEN, RED), strict=False):
        axis = axes[panels.index(units[name]), 0]
        frame = pd.DataFrame(records)[["step", "loss", "seconds"]].assign(system=name)
        axis.plot(frame["step"], frame["loss"], color=color, alpha=0.25, linewidth=0.8)
        # whole windows alone: a shorter mean at the start would jump when the first, high losses leave it
        whole = min(window, len(frame))
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


def gap_histogram(histogram: pd.DataFrame) -> Figure:
    """Bars of how many `pairs` were drawn at each `gap` (frames at 30 fps)."""
    figure, axis = plt.subplots(figsize=(7, 2.6))
    axis.bar(histogram["gap"], histogram["pairs"], color=BLUE, width=0.85)
    axis.axhline(histogram["pairs"].mean(), color=INK, linestyle="--", linewidth=1, label="mean")
    axis.set(xlabel="gap between the two frames, in frames at 30 fps", ylabel="pairs drawn")
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def method_figure(
    past: Tensor, masked: Tensor, prediction: Tensor, future: Tensor, mask_ratio: float, norm_pix: bool
) -> Figure:
    """Figure 1: SiamMAE in one picture, with a real pair. Images float normalised (3, H, W).

    norm_pix: the prediction is painted with each patch's true mean and contrast; the label says so.
    """
    prediction_label = (
        "prediction, patch mean\nand contrast the truth's" if norm_pix else "prediction of the\nhidden patches"
    )
    figure, axis = plt.subplots(figsize=(11, 4.6), layout="none")
    axis.set(xlim=(0, 110), ylim=(0, 46))
    axis.axis("off")
    _picture(axis, past, (2, 26), "past frame\nall patches visible")
    _picture(axis, masked, (2, 3), f"future frame\n{mask_ratio:.0%} of patches hidden")
    _box(axis, (25, 28), (17, 12), "ViT encoder", BLUE)
    _box(axis, (25, 5), (17, 12), "ViT encoder\n(visible patches\nonly)", BLUE)
    axis.annotate("", (33.5, 27.6), (33.5, 17.4), arrowprops={"arrowstyle": "<->", "color": INK, "linestyle": "--"})
    axis.text(34.5, 22.5, "same\nweights", va="center", fontsize=9, color=INK)
    _box(axis, (49, 5), (14, 12), "+ mask\ntokens,\npositions", "#8c8c8c")
    _box(axis, (70, 28), (19, 12), "cross-attention:\nwhere was this\nin the past?", ORANGE)
    _box(axis, (70, 5), (19, 12), "self-attention\nand MLP", ORANGE)
    frame = FancyBboxPatch((68, 3.5), 23, 38, boxstyle="round,rounding_size=1.5", facecolor="none", edgecolor=INK)
    axis.add_patch(frame)
    axis.text(79.5, 43, "decoder block, repeated", ha="center", fontsize=10, color=INK)
    for start, end in [((18.5, 34), (25, 34)), ((18.5, 11), (25, 11)), ((42, 11), (49, 11))]:
        _arrow(axis, start, end)
    _arrow(axis, (42, 34), (70, 34), "keys and values")
    _arrow(axis, (63, 13), (69.8, 30))
    axis.text(62.5, 21, "queries", ha="center", fontsize=9, color=INK)
    _arrow(axis, (79.5, 28), (79.5, 17))
    _picture(axis, prediction, (93, 3), prediction_label)
    _picture(axis, future, (93, 26), "true future frame")
    _arrow(axis, (89, 11), (92.8, 11))
    axis.annotate("", (100.5, 25.6), (100.5, 21.5), arrowprops={"arrowstyle": "<->", "color": RED})
    axis.text(101.5, 23.6, "loss (normalised)" if norm_pix else "loss", color=RED, fontsize=9, va="center")
    figure.subplots_adjust(0, 0, 1, 1)
    return figure


def _picture(axis: Axes, image: Tensor, corner: tuple[float, float], label: str) -> None:
    x, y = corner
    extent = (x, x + 16, y, y + 15)
    axis.imshow(to_picture(image), extent=extent, aspect="auto", zorder=2, interpolation="nearest")
    axis.text(x + 8, y + 15.6, label, ha="center", va="bottom", fontsize=8.5, color=INK)


def _box(axis: Axes, corner: tuple[float, float], size: tuple[float, float], label: str, color: str) -> None:
    shape = FancyBboxPatch(corner, *size, boxstyle="round,pad=0,rounding_size=1.2", facecolor=color, edgecolor="none")
    axis.add_patch(shape)
    center = (corner[0] + size[0] / 2, corner[1] + size[1] / 2)
    axis.text(*center, label, ha="center", va="center", color="white", fontsize=10, weight="bold")


def _arrow(axis: Axes, start: tuple[float, float], end: tuple[float, float], label: str = "") -> None:
    axis.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=14, color=INK, linewidth=1.4))
    if label:
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        axis.text(middle[0], middle[1] + 1.2, label, ha="center", fontsize=9, color=INK)
