"""The look of all figures: style, colours, and how a finished figure is saved and shown."""

from collections.abc import Collection, Sequence
from itertools import cycle
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from IPython.display import Image as Picture
from IPython.display import display
from matplotlib.figure import Figure
from PIL import Image

from lib.runtime import atomic_path

BLUE, ORANGE, GREEN, RED, PURPLE = "#3b6ea8", "#dd8452", "#55a868", "#c44e52", "#7a4fa3"
DARK, GREY, LIGHT = "#30343b", "#6f6f6f", "#8c8c8c"
COLORS = (ORANGE, BLUE, GREEN, PURPLE, RED, "#64b5cd", "#937860", DARK)
SIAM_SHADES = (ORANGE, "#a8541f", "#f0b893")
OTHER_COLORS = (BLUE, GREEN, RED, "#8172b3", "#64b5cd", "#937860")


def use_style() -> None:
    """One look for all figures; 110 dots per inch keeps committed notebooks small."""
    sns.set_theme(style="whitegrid", context="notebook", font_scale=0.9)
    plt.rcParams.update({"figure.dpi": 110, "savefig.dpi": 110, "figure.constrained_layout.use": True})


def method_colors(methods: Sequence[str], baselines: Collection[str] = ()) -> dict[str, str]:
    """One colour for each method, in the order given: SiamMAE orange, baselines grey."""
    siam, other = cycle(SIAM_SHADES), cycle(OTHER_COLORS)
    return {
        method: GREY if method in baselines else next(siam if method.startswith("SiamMAE") else other)
        for method in dict.fromkeys(methods)
    }


def headline(figure: Figure, title: str) -> None:
    """What was found, above the whole figure."""
    figure.suptitle(title, fontsize=12, weight="bold")


def finish(figure: Figure, path: Path, about: str, numbers: pd.DataFrame | None = None) -> None:
    """Save the figure as <path>.png, the numbers behind it as <path>.csv, and show the picture.

    about: stands below the figure: what is seen, of which data set, how many clips and frames, which seeds.
    """
    wide = round(figure.get_figwidth() * 15)  # letters a line
    figure.text(0.01, -0.01, fill(about, wide), ha="left", va="top", fontsize=8, color=GREY)
    with atomic_path(f"{path}.png") as temporary:
        figure.savefig(temporary, bbox_inches="tight", metadata={"Software": None})
        with Image.open(temporary) as image:  # 256 colours: a third of the size, so that big notebooks still open
            smaller = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2)  # keeps rare colours
        smaller.save(temporary, format="PNG", optimize=True)
    if numbers is not None:
        with atomic_path(f"{path}.csv") as temporary:
            numbers.to_csv(temporary, index=False, float_format="%.6g")
    display(Picture(filename=f"{path}.png"))
    plt.close(figure)
