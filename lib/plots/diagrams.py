"""The two methods, each in one picture: Figure 1 of Gupta et al. 2023 (arXiv 2305.14344), Figure 2 of Bandara et al.
2023 (arXiv 2211.09120). Places and sizes are in units of the diagram's own canvas.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import Tensor

from lib.plots.clips import ClipSample, sample_pictures
from lib.plots.pictures import to_picture
from lib.plots.style import BLUE, DARK, LIGHT, ORANGE, PURPLE, RED

Point = tuple[float, float]


def siammae_figure(
    past: Tensor, masked: Tensor, prediction: Tensor, future: Tensor, mask_ratio: float, norm_pix: bool
) -> Figure:
    """Figure 1: SiamMAE in one picture, with a real pair. Images float normalised (3, H, W).

    norm_pix: the prediction is painted with each patch's true mean and contrast; the label says so.
    """
    figure, axis = _canvas(11, 4.6, 110, 46)
    shown = "prediction, patch mean\nand contrast the truth's" if norm_pix else "prediction of the\nhidden patches"
    hidden = f"future frame\n{mask_ratio:.0%} of patches hidden"
    for corner, image, label in (
        ((2, 26), past, "past frame\nall patches visible"), ((2, 3), masked, hidden),
        ((93, 3), prediction, shown), ((93, 26), future, "true future frame"),
    ):  # fmt: skip
        _picture(axis, corner, (16, 15), label, to_picture(image))
    _box(axis, (25, 28), (17, 12), "ViT encoder", BLUE)
    _box(axis, (25, 5), (17, 12), "ViT encoder\n(visible patches\nonly)", BLUE)
    axis.annotate("", (33.5, 27.6), (33.5, 17.4), arrowprops={"arrowstyle": "<->", "color": DARK, "linestyle": "--"})
    axis.text(34.5, 22.5, "same\nweights", va="center", fontsize=9, color=DARK)
    _box(axis, (49, 5), (14, 12), "+ mask\ntokens,\npositions", LIGHT)
    _box(axis, (70, 28), (19, 12), "cross-attention:\nwhere was this\nin the past?", ORANGE)
    _box(axis, (70, 5), (19, 12), "self-attention\nand MLP", ORANGE)
    axis.add_patch(FancyBboxPatch((68, 3.5), 23, 38, boxstyle="round,rounding_size=1.5", fc="none", ec=DARK))
    axis.text(79.5, 43, "decoder block, repeated", ha="center", fontsize=10, color=DARK)
    for start, end in (
        ((18.5, 34), (25, 34)), ((18.5, 11), (25, 11)), ((42, 11), (49, 11)), ((42, 34), (70, 34)),
        ((63, 13), (69.8, 30)), ((79.5, 28), (79.5, 17)), ((89, 11), (92.8, 11)),
    ):  # fmt: skip
        _route(axis, [start, end])
    axis.text(56, 35.2, "keys and values", ha="center", fontsize=9, color=DARK)
    axis.text(62.5, 21, "queries", ha="center", fontsize=9, color=DARK)
    axis.annotate("", (100.5, 25.6), (100.5, 21.5), arrowprops={"arrowstyle": "<->", "color": RED})
    axis.text(101.5, 23.6, "loss (normalised)" if norm_pix else "loss", color=RED, fontsize=9, va="center")
    return figure


def adamae_figure(cubes: int, visible: int, embed_dim: int, decoder_embed_dim: int, sample: ClipSample) -> Figure:
    """Figure 2: the parts of AdaMAE, and what each of its two losses trains.

    cubes, visible, embed_dim: N, K, D. sample: shown as the diagram's pictures, at its middle cube. The sampler's input
    is drawn behind a stop-gradient, as in the text; the released code lacks that one.
    """
    figure, axis = _canvas(11.5, 4.83, 138, 58)
    pictures = sample_pictures(sample)
    for corner, name, label in (
        ((2, 13), "video", "video"),
        ((50, 34), "probability", f"probability of each of\nN = {cubes:,} cubes (red: high)"),
        ((70, 34), "mask", f"mask: K = {visible:,} seen,\n{1 - visible / cubes:.1%} hidden"),
        ((122, 13), "prediction", ""),
    ):
        _picture(axis, corner, (12, 12), label, pictures[name])
    axis.text(128, 12.4, "reconstruction", ha="center", va="top", fontsize=8.5, color=DARK)
    _box(axis, (19, 13), (15, 12), "tokenizer\n+ positions", BLUE, f"N x D = {cubes:,} x {embed_dim}")
    _box(axis, (69, 13), (14, 12), "keep the\nK drawn", LIGHT)
    _box(axis, (87, 13), (13, 12), "encoder", BLUE, f"K x D = {visible:,} x {embed_dim}")
    _box(axis, (104, 13), (14, 12), "decoder", BLUE, f"with mask tokens:\n{cubes:,} x {decoder_embed_dim}")
    axis.add_patch(FancyBboxPatch((18, 33), 26, 15, boxstyle="round,pad=0,rounding_size=1.2", fc="none", ec=ORANGE))
    axis.text(31, 45.8, "adaptive sampler", ha="center", va="center", fontsize=10, color=ORANGE, weight="bold")
    for x, name in ((19, "MHA"), (27, "Linear"), (35, "Softmax")):
        _box(axis, (x, 34.5), (8 if name == "Softmax" else 7, 9), name, ORANGE, fontsize=8.5)
    for start, end in ((14, 19), (34, 69), (83, 87), (100, 104), (118, 122)):
        _route(axis, [(start, 19), (end, 19)])
    for points in ([(23, 25), (23, 34.5)], [(44, 40), (50, 40)], [(62, 40), (70, 40)], [(76, 34), (76, 25)]):
        _route(axis, points)
    axis.text(51, 20, "tokens", ha="center", fontsize=9, color=DARK)
    axis.text(66, 41, "draw", ha="center", fontsize=9, color=DARK)
    _losses(axis)
    return figure


def _losses(axis: Axes) -> None:
    """The reconstruction loss leads to the MAE along the bottom, the sampling loss to the sampler along the top."""
    _box(axis, (119, 34), (17, 12), "reconstruction\nloss", RED, "error of hidden cubes")
    _box(axis, (89, 34), (17, 12), "sampling\nloss", PURPLE, "-log P of hidden x error")
    _route(axis, [(128, 25), (128, 34)])
    _route(axis, [(119, 40), (106, 40)])
    _stop(axis, (112.5, 40), (112.5, 43.2))
    _stop(axis, (23, 29), (31.5, 28.2))
    _route(axis, [(97.5, 46), (97.5, 54), (31, 54), (31, 48)], PURPLE, "--")
    axis.text(64, 55, "trains the sampler only", ha="center", fontsize=10, color=PURPLE, weight="bold")
    _route(axis, [(136, 40), (137, 40), (137, 5), (26.5, 5), (26.5, 13)], RED)
    for x in (111, 93.5):
        _route(axis, [(x, 5), (x, 13)], RED)
    axis.text(64, 1.5, "trains tokenizer, encoder and decoder", ha="center", fontsize=10, color=RED, weight="bold")


def _stop(axis: Axes, place: Point, words: Point) -> None:
    """Two strokes across an arrow: no gradient flows back through it."""
    for shift in (-0.6, 0.6):
        x, y = place[0] + shift, place[1] + shift
        axis.plot([x - 1, x + 1], [y + 1.4, y - 1.4], color=RED, linewidth=2, zorder=4)
    axis.text(*words, "stop-gradient", ha="center", fontsize=8.5, color=RED)


def _canvas(inches_wide: float, inches_high: float, width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure whose one axis fills it."""
    figure, axis = plt.subplots(figsize=(inches_wide, inches_high), layout="none")
    axis.set(xlim=(0, width), ylim=(0, height))
    axis.axis("off")
    figure.subplots_adjust(0, 0, 1, 1)
    return figure, axis


def _picture(axis: Axes, corner: Point, size: Point, label: str, picture: np.ndarray) -> None:
    """A picture (H, W, 3), framed, with its label above."""
    (x, y), (width, height) = corner, size
    axis.add_patch(FancyBboxPatch(corner, width, height, boxstyle="square,pad=0", fc="#eeeeee", ec=LIGHT))
    axis.imshow(picture, extent=(x, x + width, y, y + height), aspect="auto", zorder=2, interpolation="nearest")
    axis.text(x + width / 2, y + height + 0.5, label, ha="center", va="bottom", fontsize=8.5, color=DARK)


def _box(axis: Axes, corner: Point, size: Point, name: str, color: str, note: str = "", fontsize: float = 10) -> None:
    """A part of the model: its name, and below it small what comes out."""
    axis.add_patch(FancyBboxPatch(corner, *size, boxstyle="round,pad=0,rounding_size=1", fc=color, ec="none"))
    x, y = corner[0] + size[0] / 2, corner[1] + size[1] / 2
    look = {"ha": "center", "va": "center", "color": "white"}
    axis.text(x, y + (1.5 if note else 0), name, fontsize=fontsize, weight="bold", **look)
    axis.text(x, corner[1] + (2.3 if "\n" in note else 1.8), note, fontsize=7.5, **look)


def _route(axis: Axes, points: Sequence[Point], color: str = DARK, style: str = "-") -> None:
    """A line through the points with an arrowhead at the last."""
    axis.plot(*zip(*points, strict=True), color=color, linestyle=style, linewidth=1.6, solid_capstyle="butt")
    tip = {"arrowstyle": "-|>", "mutation_scale": 13, "color": color, "linewidth": 0, "shrinkA": 0, "shrinkB": 0}
    axis.add_patch(FancyArrowPatch(points[-2], points[-1], **tip))
