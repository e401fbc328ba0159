"""Bars and dots: each value, interval and mean is where it belongs."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from lib.plots import bars


def marks(axis: Axes, marker: str) -> list[list[float]]:
    """Places along x of all lines drawn with this marker."""
    return [list(line.get_xdata()) for line in axis.lines if line.get_marker() == marker]


def test_a_case_has_a_dot_and_its_interval():
    rows = pd.DataFrame([
        {"case": "ours", "rho": 0.6, "rho_low": 0.5, "rho_high": 0.7, "ece": 0.01},
        {"case": "guess", "rho": 0.1, "rho_low": 0.0, "rho_high": 0.2, "ece": 0.02},
    ])  # fmt: skip
    figure = bars.dot_panels(rows, {"rho": "correlation", "ece": "error"}, {"rho": 0.5}, colors={"guess": "black"})
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["ours", "guess"]
    assert marks(left, "o") == [[0.6], [0.1]] and marks(right, "o") == [[0.01], [0.02]]
    target, ours, _, theirs, guess = left.lines
    assert target.get_xdata()[0] == 0.5 and len(right.lines) == 4  # without a target
    np.testing.assert_allclose([ours.get_xdata(), theirs.get_xdata()], [(0.5, 0.7), (0.0, 0.2)])
    assert guess.get_color() == "black" != ours.get_color()


def test_seeds_are_dots_and_their_mean_a_diamond():
    rows = pd.DataFrame({"case": ["random"] * 2 + ["hard"] * 2, "seed": [0, 1, 0, 1], "JF": [30.0, 32.0, 35.0, np.nan]})
    (axis,) = bars.dot_panels(rows, {"JF": "J&F"}, reference="random", decimals=1).axes
    assert marks(axis, "o") == [[30, 32], [35]] and marks(axis, "D") == [[31], [35]]
    assert axis.lines[0].get_xdata()[0] == 31  # the reference's mean
    assert [text.get_text() for text in axis.texts] == ["31.0", "35.0"]


def test_groups_are_shares_of_each_group():
    """Twice as many patches of a group change nothing; the dotted lines are medians."""
    few, many = np.array([0.0, 1.0, 1.0, 3.0]), np.array([2.0, 2.0, 3.0])
    figure, numbers = bars.groups_figure({"seen": few, "hidden": np.tile(many, 2)})
    assert numbers["seen"].sum() == pytest.approx(1) and numbers["hidden"].sum() == pytest.approx(1)
    assert numbers.loc[numbers["high"] == 3.0, "hidden"].item() == pytest.approx(1 / 3)
    (axis,) = figure.axes
    assert [line.get_xdata()[0] for line in axis.lines] == [1.0, 2.0]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["seen (4)", "hidden (6)"]


def test_bars_of_regions_start_at_chance():
    rows = [
        {"sampler": sampler, "region": region, "times_chance": value + shift}
        for sampler, values in (("ours", (2.0, 1.25, 0.5)), ("random", (1.0, 1.0, 1.0)))
        for region, value in zip(bars.REGION_COLORS, values, strict=True)
        for shift in (-0.1, 0.1)
    ]
    figure, numbers = bars.regions_figure(pd.DataFrame(rows))
    (axis,) = figure.axes
    assert axis.yaxis_inverted()
    drawn = [container for container in axis.containers if hasattr(container, "patches")]
    for container, value in zip(drawn, (2.0, 1.25, 0.5), strict=True):
        ours, random = container.patches
        assert sorted([ours.get_x(), ours.get_x() + ours.get_width()]) == pytest.approx(sorted([1, value]))
        assert random.get_width() == pytest.approx(0)
    assert len(numbers) == 6 and (numbers["seeds"] == 2).all()
    assert numbers["interval"].to_numpy() == pytest.approx(12.706 * 0.1, rel=1e-4)  # t of 1 degree x standard error
    _, single = bars.regions_figure(pd.DataFrame(rows[:1]))
    assert single["interval"].isna().all()


def test_score_bars_print_what_they_draw():
    rows = [("MAE", 40.0, 30.0, 35.0, 60.0), ("SiamMAE, block 4", 62.0, np.nan, 47.0, 76.1)]
    table = pd.DataFrame(rows, columns=["method", "JF_mean", "mIoU", "PCK@0.1", "PCK@0.2"])
    data = {"objects": "DAVIS", "body parts": "VIP", "joints": "JHMDB"}
    figure = bars.task_bars(table, data)
    davis, vip, jhmdb = figure.axes
    assert [axis.get_title() for axis in figure.axes] == [f"{task}\n{name}" for task, name in data.items()]
    assert davis.get_xlabel() == "J&F (%)" and jhmdb.get_xlabel() == "PCK@0.1 and PCK@0.2 (%)"
    assert [label.get_text() for label in davis.get_yticklabels()] == ["MAE", "SiamMAE, block 4"]
    assert [text.get_text() for text in davis.texts] == ["40.0", "62.0"]
    assert [text.get_text() for text in vip.texts] == ["30.0", "–"]
    assert [text.get_text() for text in jhmdb.texts] == ["35.0  PCK@0.1", "47.0", "60.0  PCK@0.2", "76.1"]
    turned = bars.task_bars(table[::-1], data).axes[2]  # names stand at the shortest bars
    assert [text.get_text() for text in turned.texts] == ["47.0", "35.0  PCK@0.1", "76.1", "60.0  PCK@0.2"]
    assert [bar.get_width() for bar in jhmdb.patches] == [35, 47, 60, 76.1]
    first, second = jhmdb.patches[0], jhmdb.patches[2]
    assert first.get_y() < second.get_y() and davis.yaxis_inverted()  # the first metric above the second


def test_bars_have_a_panel_for_each_task_that_was_scored():
    table = pd.DataFrame({"method": ["A", "B"], "JF_mean": [40.0, 20.0], "J_mean": [1.0, 2.0], "mIoU": [30.0, 10.0]})
    figure = bars.task_bars(table, {"objects": "DAVIS", "body parts": "VIP"})
    assert [axis.get_title() for axis in figure.axes] == ["objects\nDAVIS", "body parts\nVIP"]
    assert [bar.get_width() for bar in figure.axes[0].patches] == [40, 20]
