"""Rows and blocks of images, and what is drawn over them: object ids, skeletons, heat maps.

`tasks_figure` follows SiamMAE's Figure 3, `heat_on_frame` its Figure 5 (Gupta et al. 2023, arXiv 2305.14344).

Shapes: `H W` pixels, `h w` patches or feature cells, `G` maps. An image is a normalised float tensor (3, H, W), a uint8
tensor (3, H, W), or an array (H, W, 3), float in 0..1 or uint8.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure, FigureBase
from PIL import Image, ImageDraw
from torch import Tensor

from lib.errors import UserError
from lib.plots.style import BLUE, DARK, ORANGE
from lib.tokens.patches import denormalize_images

OBJECT_COLORS = np.array([[0, 0, 0], [221, 60, 60], [60, 160, 75], [240, 180, 30], [60, 90, 210], [170, 70, 180],
                          [40, 180, 190], [240, 120, 40], [150, 110, 70]]) / 255  # fmt: skip
WIDTH = 10.0  # inches of a figure of pictures
SMOOTH = 3  # skeletons are drawn this many times too large and shrunk

# Joints in JHMDB's order: neck, belly, face, then right and left shoulder, hip, elbow, knee, wrist, ankle.
JOINT_NUMBER = 15
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
    if image.is_floating_point():
        image = denormalize_images(image)
    return image.detach().cpu().permute(1, 2, 0).numpy()


def image_grid(rows: Mapping[str, Sequence], titles: Sequence[str] = (), width: float = WIDTH) -> Figure:
    """Labelled rows of images; `titles` above the columns. Entries that are None stay empty.

    The images of one row are of one size; each row gets the height that its images need.
    """
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


def draw_blocks(
    blocks: Mapping[str, Mapping[str, Sequence]], titles: Mapping[str, Sequence[str]], margin: float = 0.55
) -> Figure:
    """Blocks of rows, one below the other, each with its name at the left and, if it has some, titles above.

    margin: inches that names, labels and scales take of the width. The parts are the figure's `subfigs`.
    """
    columns = max(len(images) for rows in blocks.values() for images in rows.values())
    column = (WIDTH - margin) / columns
    heights = [column * sum(row_aspects(rows)) + (0.4 if name in titles else 0.2) for name, rows in blocks.items()]
    figure = plt.figure(figsize=(WIDTH, sum(heights)))
    parts = figure.subfigures(len(blocks), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, (name, rows) in zip(parts, blocks.items(), strict=True):
        draw_rows(part, rows, titles.get(name, ()), columns)
        part.supylabel(name, fontsize=11, weight="bold")
    return figure


def tasks_figure(rows: Mapping[str, Sequence], titles: Sequence[str] | Mapping[str, Sequence[str]]) -> Figure:
    """Rows of pictures in one block a task, as SiamMAE's Figure 3.

    A row's label is "task: row", as in "DAVIS: truth"; rows of one task stand together. `titles`: above the columns of
    the first block, or a mapping from task to those above its block. Pictures of one row are of one size.
    """
    blocks: dict[str, dict[str, Sequence]] = {}
    for label, pictures in rows.items():
        task, _, row = label.partition(": ")
        blocks.setdefault(task, {})[row] = pictures
    return draw_blocks(blocks, titles if isinstance(titles, Mapping) else {next(iter(blocks)): titles})


# --- drawn over images --------------------------------------------------------------------------------------


def overlay(frame: np.ndarray, ids: np.ndarray, strength: float = 0.55) -> np.ndarray:
    """A frame (H, W, 3) uint8 with object ids (H, W) in colour over it -> (H, W, 3) float in 0..1."""
    picture = frame.astype(float) / 255
    color = OBJECT_COLORS[(ids.astype(int) - 1) % (len(OBJECT_COLORS) - 1) + 1]
    return np.where(ids[..., None] > 0, (1 - strength) * picture + strength * color, picture)


def draw_joints(frame: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """A skeleton over a lightened frame: right side blue, left side orange -> (H, W, 3) float in 0..1.

    `frame`: (H, W, 3) uint8. `joints`: (15, 2) pixels, x first, in JHMDB's order; (-1, -1) or NaN is a lost joint,
    and no limb with one is drawn. Joints may lie outside the frame.
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
    return DARK if joint <= FACE else BLUE if joint % 2 else ORANGE


def heat_on_frame(frame: np.ndarray, values: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """A map over a greyed frame, bright where it is high -> (H, W, 3) float in 0..1.

    `frame`: (H, W, 3) uint8. `values`: (h, w) float, upsampled bilinearly. `limits`: values of the darkest and the
    brightest colour, those beyond are clipped; default the map's own range. Give limits to compare maps.
    """
    if not np.isfinite(values).all():
        raise UserError("the map holds NaN or infinity; mask it before drawing")
    if limits is not None and limits[0] >= limits[1]:
        raise UserError(f"limits must rise, not {limits}")
    low, high = limits or (values.min(), values.max())
    height, width = frame.shape[:2]
    scaled = Image.fromarray(((values - low) / ((high - low) or 1)).clip(0, 1).astype(np.float32))
    level = np.asarray(scaled.resize((width, height), Image.Resampling.BILINEAR)).clip(0, 1)
    grey = np.asarray(Image.fromarray(frame).convert("L"))[..., None] / 255
    return 0.4 * (0.25 + 0.75 * grey) + 0.6 * colormaps["inferno"](level)[..., :3]


def heat_pictures(maps: np.ndarray, low: float, high: float, side: int, name: str = "inferno") -> list[np.ndarray]:
    """Maps (G, h, w) in colour, each cell `side` pixels: a list of (h * side, w * side, 3) float; NaN is grey.

    Values are clipped to low..high.
    """
    if not high > low:
        raise UserError(f"a colour scale from {low:g} to {high:g} has no range: give two different ends")
    pictures = colormaps[name](np.clip((maps - low) / (high - low), 0, 1))[..., :3]
    pictures[np.isnan(maps)] = 0.75
    return [picture.repeat(side, axis=0).repeat(side, axis=1) for picture in pictures]


def future_rows(views: Sequence, side: int, dark: float, bright: float) -> dict[str, list]:
    """Rows for `image_grid`: each view's past and futures, what was visible, the prediction, its error and sigma.

    views: have the fields of lib.studies.uncertainty_views.FutureView. side: of a patch, in pixels. dark, bright: ends
    of the scale of error and sigma.
    """
    rows = {}
    for number, view in enumerate(views, start=1):
        rows[f"clip {number}:\ntruth"] = [view.past, *view.frames]
        rows[f"visible {number}"] = [None, *view.visible]
        rows[f"prediction {number}"] = [None, *view.painted]
        for name, maps in (("error", view.error), ("sigma", view.sigma)):
            rows[f"{name} {number}"] = [None, *heat_pictures(maps, dark, bright, side)]
        if view.occluded is not None:
            rows[f"occluded in\nthe past {number}"] = [None, *heat_pictures(view.occluded, 0, 1, side, "gray")]
    return rows
