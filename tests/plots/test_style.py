"""Figures that several notebooks share: what is drawn is what was measured."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lib.plots import style as plots


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def records(losses) -> list[dict]:
    return [{"step": step, "loss": loss, "seconds": 0.1} for step, loss in enumerate(losses)]


def test_the_running_mean_has_whole_windows_alone():
    """A shorter mean at the start would be drawn far above the losses, and jump when the first ones leave it."""
    losses = [10.0, *[1.0] * 59]
    figure, numbers = plots.loss_curve({"A": records(losses)}, "loss", window=20)
    steps, smooth = figure.axes[0].lines[1].get_data()
    known = ~np.isnan(smooth)
    assert steps[known][0] == 10 and known.sum() == 41
    assert smooth[known][0] == pytest.approx(1.45) and smooth[known][1:] == pytest.approx(1)
    assert list(numbers["loss"]) == losses


def test_a_run_shorter_than_the_window_has_its_mean():
    figure, _ = plots.loss_curve({"A": records([3.0, 1.0])}, "loss")
    assert np.nanmax(figure.axes[0].lines[1].get_ydata()) == 2


def test_losses_in_other_units_have_axes_of_their_own():
    curves = {"error": records([1.0, 0.5]), "likelihood": records([-2.0, -3.0])}
    figure, numbers = plots.loss_curve(curves, {"error": "pixels", "likelihood": "nats"}, level=(1.0, "the mean"))
    assert [axis.get_ylabel() for axis in figure.axes] == ["pixels", "nats"]
    assert [axis.lines[0].get_ydata()[0] for axis in figure.axes] == [1.0, -2.0]
    assert all(axis.lines[-1].get_label() == "the mean" for axis in figure.axes)
    assert list(numbers["system"]) == ["error"] * 2 + ["likelihood"] * 2
    together, _ = plots.loss_curve(curves, "loss")
    assert len(together.axes) == 1


def test_a_finished_figure_says_what_it_is_of_and_keeps_its_numbers(tmp_path):
    numbers = pd.DataFrame({"x": [1, 2]})

    def size(about: str) -> tuple[int, int]:
        figure, _ = plt.subplots(figsize=(4, 2))
        plots.finish(figure, tmp_path / "figures" / "01_a.b", about, numbers)
        with Image.open(tmp_path / "figures" / "01_a.b.png") as picture:
            return picture.size

    (_, low), (_, high) = size("short"), size("a data set, so many clips, this seed; " * 6)
    assert high > low  # the words stand below the picture, on lines of their own
    assert pd.read_csv(tmp_path / "figures" / "01_a.b.csv").equals(numbers)
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["01_a.b.csv", "01_a.b.png"]
