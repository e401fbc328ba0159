"""How much of the truth's detail reconstructions have: curves over spatial frequency."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.plots.style import COLORS, DARK, GREY, headline

PANELS = {
    "power": "power,\npart of the truth's",
    "agreement": "amplitude in phase with the truth,\npart of the truth's",
}


def spectrum_figure(spectra: pd.DataFrame, names: Sequence[str], patch: int, title: str = "") -> Figure:
    """A panel for `power` and one for `agreement`, a curve for each of `names`: mean over seeds, and each seed faint.

    spectra: columns `case`, `seed`, `cycles` (a picture) and the panels'. patch: cycles a picture of the patches.
    """
    figure, axes = plt.subplots(1, len(PANELS), figsize=(10, 3.6))
    for axis, (measure, words) in zip(axes, PANELS.items(), strict=True):
        for name, color in zip(names, COLORS, strict=False):
            mine = spectra[spectra["case"] == name].pivot(index="cycles", columns="seed", values=measure)
            axis.plot(mine.index, mine, color=color, linewidth=0.7, alpha=0.35)
            axis.plot(mine.index, mine.mean(axis=1), color=color, label=name)
        axis.axhline(1, color=DARK, linestyle="--", linewidth=1)
        axis.axvline(patch, color=GREY, linestyle=":", linewidth=1)
        at = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "fontsize": 8, "color": GREY}
        axis.annotate("one a patch", (patch, 0), (3, 5), **at)
        axis.set(xlabel="spatial frequency, cycles a picture", ylabel=words)
    axes[0].set_yscale("log")
    axes[-1].legend(fontsize=8)
    headline(figure, title)
    return figure


def schedule_figure(curves: Mapping[str, np.ndarray], logged: Mapping[str, Mapping[int, float]]) -> Figure:
    """Learning rates by epoch, a panel a schedule, as curves; what a log says of some epochs, as dots."""
    figure, axes = plt.subplots(1, len(curves), figsize=(10, 2.8), sharey=True)
    for axis, (name, rates) in zip(axes, curves.items(), strict=True):
        axis.plot(rates, color=COLORS[1], label="the schedule found")
        axis.plot(list(logged[name]), list(logged[name].values()), "o", color=COLORS[0], markersize=4, label="the log")
        axis.set(xlabel="epoch", title=name)
    axes[0].set(ylabel="learning rate")
    axes[-1].legend(fontsize=8)
    return figure
