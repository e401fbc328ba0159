"""Figures of the uncertainty notebook: colours are the numbers, marks stand where they say, nothing is left out."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib import colormaps

from lib.errors import UserError
from lib.plots import style as plots
from lib.plots import uncertainty as drawn


@pytest.fixture(autouse=True)
def notebook_style():
    with plt.rc_context():
        plots.use_style()
        yield
    plt.close("all")


def test_heat_is_the_colour_of_each_cell():
    maps = np.array([[[0.0, 1.0], [np.nan, 2.0]]])
    (picture,) = drawn.heat_pictures(maps, 0, 1, 3)
    assert picture.shape == (6, 6, 3)
    for place, expected in (((0, 0), colormaps["inferno"](0.0)[:3]), ((0, 5), colormaps["inferno"](1.0)[:3])):
        np.testing.assert_allclose(picture[place], expected)
    assert (picture[3:, :3] == 0.75).all(), "visible patches are grey"
    np.testing.assert_allclose(picture[5, 5], picture[0, 5], err_msg="values beyond the scale are its end")
    with pytest.raises(UserError, match="no range"):
        drawn.heat_pictures(maps, 1, 1, 3)


def test_gap_curves_and_their_bands_are_the_numbers():
    mean = np.array([0.5, 0.6, 0.8])
    figure, numbers = drawn.gap_figure((4, 8, 12), {"sigma": (mean, mean - 0.1, mean + 0.2)}, 8, "it grows")
    axis = figure.axes[0]
    np.testing.assert_allclose(axis.lines[0].get_xydata(), np.stack([(4, 8, 12), mean], axis=1))
    band = axis.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(0.4) and band[:, 1].max() == pytest.approx(1.0)
    assert numbers.to_dict("list")["high"] == pytest.approx(list(mean + 0.2)) and axis.get_title() == "it grows"
    assert any("largest gap" in text.get_text() for text in axis.texts)
    without, _ = drawn.gap_figure((4, 8, 12), {"sigma": (mean, mean, mean)}, 12)
    assert not without.axes[0].texts


def test_reliability_has_a_panel_an_estimator_and_a_line_a_kind():
    curve = {"nominal": [0.1, 0.5, 0.9], "raw": [0.2, 0.5, 0.8], "isotonic": [0.1, 0.5, 0.9]}
    figure, numbers = drawn.reliability_figure({"a": curve, "b": curve})
    assert [axis.get_title() for axis in figure.axes] == [
        "a\nraw 0.067, isotonic 0.000",
        "b\nraw 0.067, isotonic 0.000",
    ]
    for axis in figure.axes:
        lines = {line.get_label(): line.get_xydata() for line in axis.lines[1:]}
        np.testing.assert_allclose(lines["raw"], [(0.1, 0.1), (0.5, 0.0), (0.9, -0.1)], atol=1e-12)
        assert set(lines) == {"raw", "isotonic"}
    assert list(numbers["case"]) == ["a"] * 3 + ["b"] * 3 and list(numbers["raw"][:3]) == [0.2, 0.5, 0.8]


def test_sparsification_draws_what_is_left():
    removed, oracle = np.array([0, 0.5]), np.array([1, 0.2])
    figure, numbers = drawn.sparsification_figure({"ours": np.array([1, 0.4])}, oracle, removed)
    lines = {line.get_label(): line.get_xydata() for line in figure.axes[0].lines}
    np.testing.assert_allclose(lines["ours"], [(0, 1), (50, 0.4)])
    np.testing.assert_allclose(lines["oracle: by the error"], [(0, 1), (50, 0.2)])
    assert list(numbers.columns) == ["removed", "oracle", "ours"]


def test_scores_have_a_mark_and_an_interval_each():
    rows = pd.DataFrame([
        {"case": "ours", "rho": 0.6, "rho_low": 0.5, "rho_high": 0.7, "ece": 0.01},
        {"case": "guess", "rho": 0.1, "rho_low": 0.0, "rho_high": 0.2, "ece": 0.02},
    ])  # fmt: skip
    figure = drawn.scores_figure(rows, {"rho": ("correlation", 0.5), "ece": ("error", None)}, ["guess"])
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["ours", "guess"]
    np.testing.assert_allclose(left.lines[0].get_xdata(), (0.5, 0.7))
    assert [line.get_xdata()[0] for line in left.lines[1::2][:2]] == [0.6, 0.1]
    assert left.lines[1].get_color() == plots.ORANGE and left.lines[3].get_color() == drawn.GREY
    assert left.lines[-1].get_xdata()[0] == 0.5 and len(right.lines) == 4


def test_seeds_are_dots_and_their_mean_a_diamond():
    rows = pd.DataFrame({"case": ["random"] * 2 + ["hard"] * 2, "seed": [0, 1, 0, 1], "JF": [30.0, 32.0, 35.0, np.nan]})
    figure = drawn.seeds_panels(rows, {"JF": "J&F"}, "random")
    axis = figure.axes[0]
    dots = [list(line.get_xdata()) for line in axis.lines if line.get_marker() == "o"]
    means = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "D"]
    assert dots == [[30, 32], [35]] and means == [31, 35] and axis.lines[0].get_xdata()[0] == 31
    with pytest.raises(UserError, match="no row of 'uniform'"):
        drawn.seeds_panels(rows, {"JF": "J&F"}, "uniform")


def test_groups_are_shares_of_each_group():
    """Twice as many patches of a group change nothing; the dotted lines are medians."""
    few, many = np.array([0.0, 1.0, 1.0, 3.0]), np.array([2.0, 2.0, 3.0])
    figure, numbers = drawn.groups_figure({"seen": few, "hidden": np.tile(many, 2)}, "what was found")
    assert numbers["seen"].sum() == pytest.approx(1) and numbers["hidden"].sum() == pytest.approx(1)
    assert numbers.loc[numbers["high"] == 3.0, "hidden"].item() == pytest.approx(1 / 3)
    (axis,) = figure.axes
    assert [line.get_xdata()[0] for line in axis.lines] == [1.0, 2.0] and axis.get_title() == "what was found"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["seen (4)", "hidden (6)"]
