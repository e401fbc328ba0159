"""Rows and blocks of images, and what is drawn over them: object ids, skeletons, attention, maps of values.

`tasks_figure` follows SiamMAE's Figure 3, `heads_on_frame` its Figure 5 (Gupta et al. 2023, arXiv 2305.14344).
Shapes: `H W` pixels, `h w` patches or feature cells, `G` maps. An image is a normalised float tensor (3, H, W), a uint8
tensor (3, H, W), or an array (H, W, 3), float in 0..1 or uint8.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure, FigureBase
from PIL import Image, ImageDraw
from torch import Tensor

from lib.plots.style import BLUE, DARK, ORANGE
from lib.tokens.patches import denormalize_images

OBJECT_COLORS = np.array([[221, 60, 60], [60, 160, 75], [240, 180, 30], [60, 90, 210], [170, 70, 180],
                          [40, 180, 190], [240, 120, 40], [150, 110, 70]]) / 255  # fmt: skip
WIDTH = 10.0  # inches of a figure of pictures
SMOOTH = 3  # skeletons are drawn this many times too large and shrunk

# Joints in JHMDB's order: neck, belly, face, then right and left shoulder, hip, elbow, knee, wrist, ankle.
FACE = 2
LIMBS = (
    (0, 2), (0, 1), (0, 3), (3, 7), (7, 11), (0, 4), (4, 8), (8, 12),
    (1, 5), (5, 9), (9, 13), (1, 6), (6, 10), (10, 14),
)  # fmt: skip


# --- rows and blocks ----------------------------------------------------------------------------------------


def to_picture(image: Tensor | np.ndarray) -> np.ndarray:
    """One image as matplotlib wants it: (H, W, 3) in 0..1 or uint8."""
    if isinstance(image, np.ndarray):
        return image
    image = denormalize_images(image) if image.is_floating_point() else image
    return image.detach().cpu().permute(1, 2, 0).numpy()


def image_grid(rows: Mapping[str, Sequence], titles: Sequence[str] = (), width: float = WIDTH) -> Figure:
    """Labelled rows of images, each as high as its images need, with `titles` above; None stays empty."""
    columns = max(len(images) for images in rows.values())
    figure = plt.figure(figsize=(width, width / columns * sum(row_aspects(rows)) + 0.35))
    draw_rows(figure, rows, titles, columns)
    return figure


def row_aspects(rows: Mapping[str, Sequence]) -> list[float]:
    """Height / width of each row's first image."""
    firsts = (to_picture(next(image for image in images if image is not None)) for images in rows.values())
    return [first.shape[0] / first.shape[1] for first in firsts]


def draw_rows(figure: FigureBase, rows: Mapping[str, Sequence], titles: Sequence[str], columns: int) -> None:
    """The rows of `image_grid` into a figure or a part of one, `columns` wide."""
    axes = figure.subplots(len(rows), columns, squeeze=False, height_ratios=row_aspects(rows))
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


def draw_blocks(
    blocks: Mapping[str, Mapping[str, Sequence]], titles: Mapping[str, Sequence[str]], margin: float = 0.55
) -> Figure:
    """Blocks of rows, the figure's `subfigs`, each with its name at the left and its titles above.

    margin: inches that names, labels and scales take of the width.
    """
    columns = max(len(images) for rows in blocks.values() for images in rows.values())
    column = (WIDTH - margin) / columns
    heights = [column * sum(row_aspects(rows)) + 0.4 for rows in blocks.values()]
    figure = plt.figure(figsize=(WIDTH, sum(heights)))
    parts = figure.subfigures(len(blocks), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, (name, rows) in zip(parts, blocks.items(), strict=True):
        draw_rows(part, rows, titles[name], columns)
        part.supylabel(name, fontsize=11, weight="bold")
    return figure


def tasks_figure(rows: Mapping[str, Sequence], titles: Mapping[str, Sequence[str]]) -> Figure:
    """Rows whose label is "task: row", as in "objects: truth", in one block a task with its titles above."""
    blocks: dict[str, dict[str, Sequence]] = {}
    for label, pictures in rows.items():
        task, row = label.split(": ")
        blocks.setdefault(task, {})[row] = pictures
    return draw_blocks(blocks, titles)


# --- drawn over images --------------------------------------------------------------------------------------


def overlay(frame: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """A frame (H, W, 3) uint8 with object ids (H, W) in colour over it -> (H, W, 3) float in 0..1."""
    picture = frame / 255
    color = OBJECT_COLORS[(ids.astype(int) - 1) % len(OBJECT_COLORS)]
    return np.where(ids[..., None] > 0, 0.45 * picture + 0.55 * color, picture)


def draw_joints(frame: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """A skeleton over a lightened frame (H, W, 3) uint8: right side blue, left side orange -> float in 0..1.

    `joints`: (15, 2) pixels, x first, in JHMDB's order; (-1, -1) or NaN is a lost joint, and no limb with one is drawn.
    """
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
    return DARK if joint <= FACE else BLUE if joint % 2 else ORANGE


def centre_of_largest(ids: np.ndarray) -> tuple[float, float]:
    """The largest object's pixel nearest to its centre, (H, W) ids -> (y, x) as shares of the height and width."""
    points = np.argwhere(ids == np.bincount(ids[ids > 0]).argmax())
    y, x = points[np.linalg.norm(points - points.mean(axis=0), axis=1).argmin()]
    return (y + 0.5) / ids.shape[0], (x + 0.5) / ids.shape[1]


def ringed(frame: np.ndarray, place: tuple[float, float]) -> np.ndarray:
    """The frame (H, W, 3) uint8 with a white ring at `place` (y, x), shares of the height and width."""
    y, x = np.mgrid[: frame.shape[0], : frame.shape[1]]
    away = np.hypot(y - place[0] * frame.shape[0], x - place[1] * frame.shape[1]) / min(frame.shape[:2])
    return np.where((np.abs(away - 0.05) < 0.012)[..., None], 255, frame).astype(np.uint8)


def heads_on_frame(frame: np.ndarray, maps: np.ndarray) -> list[np.ndarray]:
    """Attention maps (heads, h, w) over the greyed frame (H, W, 3) uint8, on one scale from 0 to the highest of all."""
    grey, pictures = np.asarray(Image.fromarray(frame).convert("L"))[..., None] / 255, []
    for values in (maps / maps.max()).astype(np.float32):
        level = Image.fromarray(values).resize(frame.shape[1::-1], Image.Resampling.BILINEAR)
        pictures.append(0.4 * (0.25 + 0.75 * grey) + 0.6 * colormaps["inferno"](np.asarray(level))[..., :3])
    return pictures


# --- maps of cells ------------------------------------------------------------------------------------------


def enlarged(cells: np.ndarray, side: int) -> np.ndarray:
    """Each cell of maps (..., h, w) as side x side pixels."""
    return np.asarray(cells).repeat(side, axis=-2).repeat(side, axis=-1)


def colored(scale: ScalarMappable, maps: np.ndarray, side: int) -> list[np.ndarray]:
    """Maps (G, h, w) in the scale's colours, each cell `side` pixels: pictures (h * side, w * side, 3)."""
    values = np.maximum(enlarged(maps, side), scale.norm.vmin)  # a logarithm has no colour for 0
    return [scale.to_rgba(picture)[..., :3] for picture in np.ma.masked_invalid(values)]


def future_rows(views: Sequence, side: int, dark: float, bright: float) -> dict[str, list]:
    """Rows for `image_grid` of each lib.studies.uncertainty_views.FutureView: its images, then its maps in colour.

    side: of a patch, in pixels. dark, bright: ends of the scale of error and sigma.
    """
    heat = ScalarMappable(Normalize(dark, bright, clip=True), colormaps["inferno"].with_extremes(bad=[0.75] * 3))
    share, rows = ScalarMappable(Normalize(0, 1), "gray"), {}
    for number, (past, images, maps) in enumerate(views, start=1):
        rows[f"clip {number}:\ntruth"] = [past, *images["truth"]]
        for name in ("visible", "prediction"):
            rows[f"{name} {number}"] = [None, *images[name]]
        for name, values in maps.items():
            rows[f"{name} {number}"] = [None, *colored(share if "occluded" in name else heat, values, side)]
    return rows
