"""Pictures of clips over time: masks, predictions, errors, and where AdaMAE's sampler looks.

After the figures of Bandara et al. 2023 (arXiv 2211.09120). Shapes: `T` frames, `H W` pixels, `t` frames a cube, `P`
its side, grid (s, h, w) = (T/t, H/P, W/P). A probability is drawn as a multiple of chance, which is 1 / (s*h*w).
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
from lib.plots.pictures import colored, draw_blocks, enlarged
from lib.plots.style import DARK, headline
from lib.runtime import atomic_path
from lib.tokens.cubes import paint_hidden

OUTLINE = "#ffe14d"
COLUMNS, SNAPSHOTS = 8, 7  # at most so many times are shown, evenly from first to last
MILLISECONDS = 200  # a snapshot in the animation; the last one stays for two seconds
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

    @property
    def chances(self) -> Tensor:
        """The probabilities as multiples of chance."""
        return self.probabilities * self.probabilities.numel()


def chance_scale(*maps: Tensor | np.ndarray) -> ScalarMappable:
    """Colours for multiples of chance: 1 is white, more is red, less is blue, to the same factor both ways: the power
    of 2 from 2 to 16 that holds the largest value of `maps`, if it can.
    """
    largest = max(float(values.max()) for values in maps)
    factor = 2.0 ** np.clip(np.ceil(np.log2(max(largest, 1))), 1, 4)
    return ScalarMappable(LogNorm(1 / factor, factor, clip=True), "RdBu_r")


def _floats(video: Tensor) -> Tensor:
    return video if video.is_floating_point() else video.float() / 255


def _pixels(video: Tensor) -> np.ndarray:
    """(3, T, H, W) -> float (T, H, W, 3) in 0..1."""
    return _floats(video).detach().cpu().permute(1, 2, 3, 0).clamp(0, 1).numpy()


def _moments(times: int, columns: int) -> np.ndarray:
    return np.linspace(0, times - 1, min(columns, times)).round().astype(int)


# --- blocks of rows -----------------------------------------------------------------------------------------


class _Block(NamedTuple):
    """Rows of pictures that belong together; `bars`: the scales of some rows; `outlines`: (H, W) for each column."""

    rows: dict[str, list[np.ndarray]]
    titles: list[str]
    bars: dict[str, ScalarMappable]
    outlines: list[np.ndarray]


def _clip_block(rows: dict, moments: np.ndarray, objects: Tensor | None, bars: dict[str, ScalarMappable]) -> _Block:
    """Rows of a clip at these frames; what moves is outlined, and the first row says so."""
    titles = [f"frame {moment}" for moment in moments]
    if objects is None:
        return _Block(rows, titles, bars, [])
    first, *others = rows
    rows = {f"{first}, movers\noutlined": rows[first]} | {name: rows[name] for name in others}
    return _Block(rows, titles, bars, list(np.asarray(objects)[moments]))


def _sample_block(
    sample: ClipSample, times: np.ndarray, scale: ScalarMappable, error_scale: ScalarMappable | None
) -> _Block:
    """Rows of Figures 3 and 17-20 at some cube times: video, prediction and errors where known, probability, mask."""
    (s, h, _), (_, frames, height, _) = sample.hidden.shape, sample.video.shape
    moments, side = times * (frames // s), height // h
    rows, bars = {"video": list(_pixels(sample.video)[moments])}, {"probability": scale}
    if sample.prediction is not None:
        rows["prediction"] = list(_pixels(sample.prediction)[moments])
    if sample.errors is not None:
        bars["error\n(grey: seen)"] = error_scale
        rows["error\n(grey: seen)"] = colored(error_scale, sample.errors[times], side)
    rows["probability"] = colored(scale, sample.chances[times], side)
    visible = enlarged(~sample.hidden[times], side)
    rows["mask\n(white: seen)"] = list(np.repeat(visible[..., None], 3, axis=-1).astype(float))
    return _clip_block(rows, moments, sample.objects, bars)


def _draw(blocks: Mapping[str, _Block], title: str = "") -> Figure:
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
    bar, end = axis.figure.colorbar(scale, cax=axis.inset_axes([1.06, 0, 0.08, 1])), scale.norm.vmax
    if isinstance(scale.norm, LogNorm):
        bar.set_ticks([1 / end, 1, end], labels=[f"1/{end:g}", "1", f"{end:g}"])
        bar.set_label("times chance", fontsize=8)
    else:
        bar.set_ticks([0, end], labels=["0", f"{end:.2g}"])
        bar.set_label("squared error", fontsize=8)
    bar.ax.minorticks_off()
    bar.ax.tick_params(labelsize=8)


# --- figures ------------------------------------------------------------------------------------------------


def mask_types_figure(
    video: Tensor, masks: Mapping[str, Tensor], objects: Tensor | None = None, title: str = ""
) -> Figure:
    """Figure 1: the clip, then a row for each masking, hidden cubes grey; the first frame of each cube.

    video: (3, T, H, W), uint8 or float in 0..1. masks: name -> hidden, bool (s, h, w); the share that is seen stands
    beside the name. objects: bool (T, H, W), outlined.
    """
    s, h, _ = next(iter(masks.values())).shape
    tubelet_size, patch_size = video.shape[1] // s, video.shape[2] // h
    moments, rows = _moments(s, COLUMNS) * tubelet_size, {"original": list(_pixels(video))}
    for name, hidden in masks.items():
        painted = paint_hidden(_floats(video)[None], hidden.reshape(1, -1), tubelet_size, patch_size)[0]
        rows[f"{name}\n{1 - hidden.float().mean():.1%} seen"] = list(_pixels(painted))
    rows = {name: [frames[t] for t in moments] for name, frames in rows.items()}
    return _draw({"": _clip_block(rows, moments, objects, {})}, title)


def reconstruction_figure(clips: Mapping[str, ClipSample]) -> Figure:
    """Figure 3: for each clip the video, prediction, error of each cube, probability and a drawn mask, over time.

    All clips share the scales of probability and error; the latter ends at the errors' 99th percentile.
    """
    scale, blocks = chance_scale(*(clip.chances for clip in clips.values())), {}
    errors = [np.ravel(clip.errors) for clip in clips.values() if clip.errors is not None]
    highest = np.nanpercentile(np.concatenate(errors), 99) if errors else 1
    colors = plt.get_cmap("magma").with_extremes(bad="#d9d9d9")
    error_scale = ScalarMappable(Normalize(0, highest, clip=True), colors)
    for name, clip in clips.items():
        blocks[name] = _sample_block(clip, _moments(len(clip.hidden), COLUMNS), scale, error_scale)
    return _draw(blocks)


def sample_pictures(sample: ClipSample) -> dict[str, np.ndarray]:
    """Rows of `reconstruction_figure`, no errors, at the middle cube's time: name -> (H, W, 3) float in 0..1."""
    sample, middle = sample._replace(errors=None, objects=None), np.array([len(sample.hidden) // 2])
    rows = _sample_block(sample, middle, chance_scale(sample.chances), None).rows
    return {name.split("\n")[0]: picture for name, (picture,) in rows.items()}


def ratios_figure(samples: Mapping[float, ClipSample]) -> Figure:
    """Figures 17-20: for each masking ratio the video, the probability and the mask (black hidden, white visible)."""
    shown = {f"{ratio:.0%} hidden": sample._replace(prediction=None, errors=None) for ratio, sample in samples.items()}
    return reconstruction_figure(shown)


def sampling_strip(
    frame: np.ndarray, maps: np.ndarray, steps: Sequence[int], objects: np.ndarray | None = None, title: str = ""
) -> Figure:
    """How the distribution moves in training: the frame, then its probabilities at some of the `steps`.

    frame: (H, W, 3) uint8 or float in 0..1. maps: (snapshots, h, w), multiples of chance. objects: bool (H, W), what
    truly moves, outlined on all; None where nobody knows.
    """
    chosen, scale = _moments(len(maps), SNAPSHOTS), chance_scale(maps)
    pictures = [frame, *colored(scale, maps[chosen], frame.shape[0] // maps.shape[1])]
    titles = ["frame", *(f"step {steps[index]:,}" for index in chosen)]
    outlines = [] if objects is None else [objects] * len(titles)
    return _draw({"": _Block({"": pictures}, titles, {"": scale}, outlines)}, title)


def sampling_animation(
    path: Path, frame: np.ndarray, maps: np.ndarray, steps: Sequence[int], objects: np.ndarray | None = None
) -> None:
    """`sampling_strip` as a GIF, a snapshot after the other. A file of more than a megabyte is refused."""
    scale = chance_scale(maps)
    pictures = colored(scale, maps, frame.shape[0] // maps.shape[1])
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
    _save_gif(path, drawn[1:])


def _save_gif(path: Path, pictures: list[Image.Image]) -> None:
    """One palette for all, from the middle and the last picture."""
    both = np.concatenate([np.asarray(pictures[len(pictures) // 2]), np.asarray(pictures[-1])])
    palette = Image.fromarray(both).quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2)
    first, *others = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    durations = [MILLISECONDS] * len(others) + [2000]
    with atomic_path(path) as temporary:
        first.save(temporary, save_all=True, append_images=others, duration=durations, loop=0)
        if temporary.stat().st_size > GIF_BYTES:
            raise UserError(f"{path} would be larger than a megabyte: give fewer than {len(pictures)} snapshots")
