"""Pictures of clips over time: masks, predictions, errors, and where AdaMAE's sampler looks.

After the figures of Bandara et al. 2023 (arXiv 2211.09120): 1 is `mask_types_figure`, 3 and 7-16
`reconstruction_figure`, 5 and 17-20 `ratios_figure`.

Shapes: `T` frames, `H W` pixels, `t` frames a cube, `P` its side, grid (s, h, w) = (T/t, H/P, W/P). A probability is
drawn as a multiple of chance, which is 1 / (s*h*w). Maps must tile their video.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from lib.errors import UserError
from lib.plots.pictures import draw_blocks
from lib.plots.style import DARK, headline
from lib.runtime import atomic_path
from lib.tokens.cubes import paint_hidden

OUTLINE = "#ffe14d"
GIF_BYTES = 1_000_000


class ClipSample(NamedTuple):
    """One clip and what the model makes of it.

    video, prediction: float in 0..1 or uint8 (3, T, H, W). probabilities, errors: float (s, h, w), errors NaN where
    there is none. hidden: bool (s, h, w), True where hidden. objects: bool (T, H, W), what truly moves.
    """

    video: Tensor
    probabilities: Tensor
    hidden: Tensor
    prediction: Tensor | None = None
    errors: Tensor | None = None
    objects: Tensor | None = None


# --- maps of cubes as pictures ------------------------------------------------------------------------------


def chance_scale(*maps: Tensor | np.ndarray) -> ScalarMappable:
    """Colours for multiples of chance: 1 is white, more is red, less is blue, to the same factor both ways.

    The factor is the power of 2 from 2 to 16 that holds the largest value of `maps`, if it can.
    """
    largest = max(float(values.max()) for values in maps)
    factor = 2.0 ** np.clip(np.ceil(np.log2(max(largest, 1))), 1, 4)
    return ScalarMappable(LogNorm(1 / factor, factor, clip=True), "RdBu_r")


def _error_scale(errors: np.ndarray) -> ScalarMappable:
    colors = plt.get_cmap("magma").with_extremes(bad="#d9d9d9")
    return ScalarMappable(Normalize(0, np.nanpercentile(errors, 99), clip=True), colors)


def _pixels(video: Tensor) -> np.ndarray:
    """(3, T, H, W) -> float (T, H, W, 3) in 0..1."""
    return _floats(video).detach().cpu().permute(1, 2, 3, 0).clamp(0, 1).numpy()


def _floats(video: Tensor) -> Tensor:
    return video if video.is_floating_point() else video.float() / 255


def _cube_sides(video: Tensor, cubes: Tensor) -> tuple[int, int]:
    """(t, P) of the cubes of a map (s, h, w) over the video."""
    t, p = video.shape[1] // cubes.shape[0], video.shape[2] // cubes.shape[1]
    if tuple(video.shape[1:]) != (cubes.shape[0] * t, cubes.shape[1] * p, cubes.shape[2] * p):
        sizes = ["x".join(map(str, shape)) for shape in (cubes.shape, video.shape[1:])]
        raise UserError(f"a map of {sizes[0]} cubes does not tile a video of {sizes[1]}: give maps on its own grid")
    return t, p


def _enlarged(cubes: Tensor | np.ndarray, side: int) -> np.ndarray:
    """Each cube of a map (..., h, w) as side x side pixels."""
    return np.asarray(cubes).repeat(side, axis=-2).repeat(side, axis=-1)


def _colored(scale: ScalarMappable, values: np.ndarray) -> list[np.ndarray]:
    """Maps (s, H, W) as pictures."""
    smallest = scale.norm.vmin  # a logarithm has no colour for 0
    known = np.ma.masked_invalid(np.where(values < smallest, smallest, values))
    return [scale.to_rgba(picture)[..., :3] for picture in known]


def _moments(times: int, columns: int) -> np.ndarray:
    """At most `columns` cube times, evenly from first to last."""
    return np.linspace(0, times - 1, min(columns, times)).round().astype(int)


# --- blocks of rows -----------------------------------------------------------------------------------------


class _Block(NamedTuple):
    """Rows of pictures that belong together; `bars`: the scales of some rows; `outlines`: (H, W) for each column."""

    rows: dict[str, list[np.ndarray]]
    titles: list[str]
    bars: dict[str, ScalarMappable]
    outlines: list[np.ndarray]


def _sample_block(
    sample: ClipSample, columns: int, scale: ScalarMappable, error_scale: ScalarMappable | None = None
) -> _Block:
    """Rows of Figures 3 and 17-20: video, prediction and errors where known, probability, mask."""
    t, p = _cube_sides(sample.video, sample.probabilities)
    moments = _moments(len(sample.hidden), columns)
    rows, bars = {_video_label("video", sample.objects): list(_pixels(sample.video)[moments * t])}, {}
    if sample.prediction is not None:
        rows["prediction"] = list(_pixels(sample.prediction)[moments * t])
    if sample.errors is not None:
        errors = np.asarray(sample.errors)[moments]
        label = "error\n(grey: seen)" if np.isnan(errors).any() else "error"
        bars[label] = error_scale or _error_scale(errors)
        rows[label] = _colored(bars[label], _enlarged(errors, p))
    bars["probability"] = scale
    rows["probability"] = _colored(scale, _enlarged(sample.probabilities[moments] * sample.hidden.numel(), p))
    visible = _enlarged(~sample.hidden[moments], p)
    rows["mask\n(white: seen)"] = list(np.repeat(visible[..., None], 3, axis=-1).astype(float))
    outlines = [] if sample.objects is None else list(np.asarray(sample.objects)[moments * t])
    return _Block(rows, [f"frame {moment * t}" for moment in moments], bars, outlines)


def _video_label(name: str, objects: Tensor | None) -> str:
    return name if objects is None else f"{name}, movers\noutlined"


def _draw(blocks: Mapping[str, _Block], title: str) -> Figure:
    """One block below the other, with outlines of what moves and the scales of maps."""
    rows = {name: block.rows for name, block in blocks.items()}
    titles = {name: block.titles for name, block in blocks.items()}
    figure = draw_blocks(rows, titles, margin=1.3 if any(block.bars for block in blocks.values()) else 0.6)
    if title:
        figure.set_figheight(figure.get_figheight() + 0.3)
        headline(figure, title)
    for part, block in zip(figure.subfigs, blocks.values(), strict=True):
        for label, line in zip(block.rows, np.reshape(part.axes, (len(block.rows), -1)), strict=True):
            for axis, outline in zip(line, block.outlines, strict=False):
                _draw_outline(axis, outline)
            if label in block.bars:
                _draw_bar(line[-1], block.bars[label])
    return figure


def _draw_outline(axis: Axes, outline: np.ndarray) -> None:
    if outline.any() and not outline.all():
        # dark below, so that it shows on white, too
        axis.contour(outline, [0.5, 0.5 + 1e-9], colors=[DARK, OUTLINE], linewidths=[2.2, 1.1])


def _draw_bar(axis: Axes, scale: ScalarMappable) -> None:
    """A scale right of the axis, without moving it: multiples of chance, or squared errors."""
    bar = axis.figure.colorbar(scale, cax=axis.inset_axes([1.06, 0, 0.08, 1]))
    logarithmic = isinstance(scale.norm, LogNorm)
    factor = scale.norm.vmax
    ticks = [1 / factor, 1, factor] if logarithmic else [0, factor]
    bar.set_ticks(ticks, labels=[f"1/{factor:g}", "1", f"{factor:g}"] if logarithmic else ["0", f"{factor:.2g}"])
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=8)
    bar.set_label("times chance" if logarithmic else "squared error", fontsize=8)


# --- figures ------------------------------------------------------------------------------------------------


def mask_types_figure(
    video: Tensor, masks: Mapping[str, Tensor], objects: Tensor | None = None, title: str = "", columns: int = 8
) -> Figure:
    """Figure 1: the clip, then a row for each masking, hidden cubes grey; the first frame of each cube.

    video: (3, T, H, W), uint8 or float in 0..1. masks: name -> hidden, bool (s, h, w); the share that is seen stands
    beside the name. objects: bool (T, H, W), outlined.
    """
    floats = _floats(video)
    rows = {_video_label("original", objects): floats}
    for name, hidden in masks.items():
        painted = paint_hidden(floats[None], hidden.reshape(1, -1), *_cube_sides(video, hidden))[0]
        rows[f"{name}\n{1 - hidden.float().mean():.1%} seen"] = painted
    times = len(next(iter(masks.values())))
    moments = _moments(times, columns) * (video.shape[1] // times)
    pictures = {name: list(_pixels(painted)[moments]) for name, painted in rows.items()}
    outlines = [] if objects is None else list(np.asarray(objects)[moments])
    return _draw({"": _Block(pictures, [f"frame {moment}" for moment in moments], {}, outlines)}, title)


def sample_pictures(sample: ClipSample) -> dict[str, np.ndarray]:
    """Each row of `reconstruction_figure` at the middle cube's time alone: name -> (H, W, 3) float in 0..1."""
    scale = chance_scale(sample.probabilities * sample.hidden.numel())
    rows = _sample_block(sample._replace(objects=None), len(sample.hidden), scale).rows
    return {name.split("\n")[0]: pictures[len(pictures) // 2] for name, pictures in rows.items()}


def reconstruction_figure(clips: Mapping[str, ClipSample], title: str = "", columns: int = 8) -> Figure:
    """Figure 3: for each clip the video, prediction, error of each cube, probability and a drawn mask, over time.

    All clips share the scales of probability and error; the latter ends at the errors' 99th percentile.
    """
    scale = chance_scale(*(clip.probabilities * clip.hidden.numel() for clip in clips.values()))
    known = [np.ravel(clip.errors) for clip in clips.values() if clip.errors is not None]
    error_scale = _error_scale(np.concatenate(known)) if known else None
    return _draw({name: _sample_block(clip, columns, scale, error_scale) for name, clip in clips.items()}, title)


def ratios_figure(samples: Mapping[float, ClipSample], title: str = "", columns: int = 8) -> Figure:
    """Figures 17-20: for each masking ratio the video, the probability and the mask (black hidden, white visible)."""
    shown = {f"{ratio:.0%} hidden": sample._replace(prediction=None, errors=None) for ratio, sample in samples.items()}
    return reconstruction_figure(shown, title, columns)


# --- what the sampler learns --------------------------------------------------------------------------------


def sampling_strip(
    frame: np.ndarray,
    maps: np.ndarray,
    steps: Sequence[int],
    objects: np.ndarray | None = None,
    title: str = "",
    columns: int = 7,
) -> Figure:
    """How the distribution moves in training: the frame, then its probabilities at some of the `steps`.

    frame: (H, W, 3) uint8 or float in 0..1. maps: (snapshots, h, w), multiples of chance. objects: bool (H, W), what
    truly moves, outlined on all; None where nobody knows.
    """
    chosen = _moments(len(maps), columns)
    scale = chance_scale(maps)
    pictures = _colored(scale, _enlarged(maps[chosen], frame.shape[0] // maps.shape[1]))
    titles = ["frame", *(f"step {steps[index]:,}" for index in chosen)]
    outlines = [] if objects is None else [objects] * len(titles)
    return _draw({"": _Block({"": [frame, *pictures]}, titles, {"": scale}, outlines)}, title)


def sampling_animation(
    path: str | Path,
    frame: np.ndarray,
    maps: np.ndarray,
    steps: Sequence[int],
    objects: np.ndarray | None = None,
    milliseconds: int = 200,
) -> None:
    """`sampling_strip` as a GIF, a snapshot after the other; the last one stays for two seconds.

    The arguments are those of `sampling_strip`. All pictures share one palette. A file of more than a megabyte is
    refused.
    """
    path, scale = Path(path), chance_scale(maps)
    pictures = _colored(scale, _enlarged(maps, frame.shape[0] // maps.shape[1]))
    figure = plt.figure(figsize=(5.2, 2.15 * frame.shape[0] / frame.shape[1] + 0.4), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    caption = "frame" if objects is None else "frame, moving objects outlined"
    for axis, picture, name in ((left, frame, caption), (right, pictures[0], "")):
        axis.set(xticks=[], yticks=[])
        axis.set_title(name, fontsize=9)
        shown = axis.imshow(picture, interpolation="nearest")
        if objects is not None:
            _draw_outline(axis, objects)
    _draw_bar(right, scale)
    drawn = []
    for step, picture in zip([steps[-1], *steps], [pictures[-1], *pictures], strict=True):
        shown.set_data(picture)
        right.set_title(f"where it looks, step {step:,}", fontsize=9)
        canvas.draw()
        figure.set_layout_engine("none")  # all snapshots keep the places that suit the longest title, drawn first
        drawn.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]))
    plt.close(figure)
    _save_gif(path, drawn[1:], [milliseconds] * (len(maps) - 1) + [2000])


def _save_gif(path: Path, pictures: list[Image.Image], durations: list[int]) -> None:
    """One palette for all, from the middle and the last picture."""
    both = np.concatenate([np.asarray(pictures[len(pictures) // 2]), np.asarray(pictures[-1])])
    palette = Image.fromarray(both).quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2)
    few = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    with atomic_path(path) as temporary:
        few[0].save(temporary, save_all=True, append_images=few[1:], duration=durations, loop=0)
        if temporary.stat().st_size > GIF_BYTES:
            raise UserError(f"{path} would be larger than a megabyte: give fewer than {len(pictures)} snapshots")
