"""Curves: what is drawn is what was measured."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.plots import curves


def records(losses) -> list[dict]:
    return [{"step": step, "loss": loss, "seconds": 0.1} for step, loss in enumerate(losses)]


def test_the_running_mean_has_whole_windows_alone():
    """A shorter mean at the start would be drawn far above the losses, and jump when the first ones leave it."""
    losses = [10.0, *[1.0] * 59]
    figure, numbers = curves.loss_curve({"A": records(losses)}, "loss")
    steps, smooth = figure.axes[0].lines[1].get_data()
    known = ~np.isnan(smooth)
    assert steps[known][0] == 10 and known.sum() == 41
    assert smooth[known][0] == pytest.approx(1.45) and smooth[known][1:] == pytest.approx(1)
    assert list(numbers["loss"]) == losses


def test_a_run_shorter_than_the_window_has_its_mean():
    figure, _ = curves.loss_curve({"A": records([3.0, 1.0])}, "loss")
    assert np.nanmax(figure.axes[0].lines[1].get_ydata()) == 2


def test_losses_in_other_units_have_axes_of_their_own():
    runs = {"error": records([1.0, 0.5]), "likelihood": records([-2.0, -3.0])}
    figure, numbers = curves.loss_curve(runs, {"error": "pixels", "likelihood": "nats"}, level=(1.0, "the mean"))
    assert [axis.get_ylabel() for axis in figure.axes] == ["pixels", "nats"]
    assert [axis.lines[0].get_ydata()[0] for axis in figure.axes] == [1.0, -2.0]
    assert all(axis.lines[-1].get_label() == "the mean" for axis in figure.axes)
    assert list(numbers["system"]) == ["error"] * 2 + ["likelihood"] * 2
    together, _ = curves.loss_curve(runs, "loss")
    assert len(together.axes) == 1


def test_lines_are_the_numbers_over_their_index():
    found = {"a": pd.Series([3.0, 2.0], index=[1, 10]), "b": pd.Series(np.arange(1.0, 21.0))}
    figure, numbers = curves.line_figure(found, "step", "loss", level=(0.1, "needed"), log=True)
    (axis,) = figure.axes
    assert [list(line.get_ydata()) for line in axis.lines[:2]] == [list(values) for values in found.values()]
    assert list(axis.lines[0].get_xdata()) == [1, 10] and axis.lines[2].get_label() == "needed"
    assert axis.get_xscale() == axis.get_yscale() == "log"
    assert list(numbers["y"]) == [3.0, 2.0, *np.arange(1.0, 21.0)] and list(numbers["curve"][:3]) == ["a", "a", "b"]


def test_curves_are_the_numbers_and_chance_is_a_line():
    entropy = pd.DataFrame({"step": range(5), "entropy_share": [1, 0.99, 0.97, 0.96, 0.95]})
    meetings = [
        {"step": step, "region": region, "times_chance": 1 + sign * step / 4}
        for step in (2, 0, 4)
        for region, sign in (("moving objects", 1), ("static distractors", -1))
    ]
    figure = curves.sampling_curves(entropy, pd.DataFrame(meetings))
    left, right = figure.axes
    np.testing.assert_array_equal(left.lines[0].get_ydata(), entropy["entropy_share"])
    assert list(right.lines[0].get_xdata()) == [0, 2, 4] and list(right.lines[0].get_ydata()) == [1, 1.5, 2]
    assert list(right.lines[-1].get_ydata()) == list(left.lines[-1].get_ydata()) == [1, 1]


def test_gap_curves_and_their_bands_are_the_numbers():
    mean = np.array([0.5, 0.6, 0.8])
    figure, numbers = curves.gap_figure((4, 8, 12), {"sigma": (mean, mean - 0.1, mean + 0.2)}, 8)
    axis = figure.axes[0]
    np.testing.assert_allclose(axis.lines[0].get_xydata(), np.stack([(4, 8, 12), mean], axis=1))
    band = axis.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(0.4) and band[:, 1].max() == pytest.approx(1.0)
    assert numbers.to_dict("list")["high"] == pytest.approx(list(mean + 0.2))
    assert axis.lines[1].get_xdata()[0] == 8  # the largest gap in training
    without, _ = curves.gap_figure((4, 8, 12), {"sigma": (mean, mean, mean)}, 12)
    assert len(without.axes[0].lines) == 1


def test_reliability_has_a_panel_an_estimator_and_a_line_a_kind():
    curve = {"nominal": [0.1, 0.5, 0.9], "raw": [0.2, 0.5, 0.8], "isotonic": [0.1, 0.5, 0.9]}
    figure, numbers = curves.reliability_figure({"a": curve, "b": curve})
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
    figure, numbers = curves.sparsification_figure({"ours": np.array([1, 0.4])}, oracle, removed)
    lines = {line.get_label(): line.get_xydata() for line in figure.axes[0].lines}
    np.testing.assert_allclose(lines["ours"], [(0, 1), (50, 0.4)])
    np.testing.assert_allclose(lines["oracle: by the error"], [(0, 1), (50, 0.2)])
    assert list(numbers.columns) == ["removed", "oracle", "ours"]


def named(text: str, axis: plt.Axes) -> plt.Annotation:
    """The one text on the axis that says so."""
    (found,) = [annotation for annotation in axis.texts if annotation.get_text() == text]
    return found


def test_objects_figure_states_values_spread_and_numbers_of_clips():
    rows = [("MAE", 2, 40.0, 3.0, 1), ("MAE", 1, 50.0, 2.0, 7)]
    rows += [("SiamMAE", 1, 60.0, 4.0, 7), ("SiamMAE", 2, 55.0, np.nan, 1)]
    table = pd.DataFrame(rows, columns=["method", "num_objects", "JF_mean", "spread", "sequences"])
    figure = curves.objects_figure(table)
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1\n(7 clips)", "2\n(1 clip)"]
    mae, siam = axis.containers
    assert list(mae.lines[0].get_ydata()) == [50, 40] and list(siam.lines[0].get_ydata()) == [60, 55]
    assert [segment[:, 1].tolist() for segment in mae.lines[2][0].get_segments()] == [[48, 52], [37, 43]]
    assert named("MAE", axis).xy[1] == 40 and named("SiamMAE", axis).xy[1] == 55


def test_correspondence_draws_shares_and_errors():
    table = pd.DataFrame(
        {"method": method, "gap": gap, "share_within_cell": share - gap, "end_point_error": 2.0 * gap}
        for method, share in (("nothing moves", 50), ("MAE", 70), ("SiamMAE", 80))
        for gap in (8, 1, 4)
    )
    figure = curves.correspondence_figure(table)
    share, error = figure.axes
    for axis in figure.axes:
        assert list(axis.get_xticks()) == [1, 4, 8]
        assert {text.get_text() for text in axis.texts} == {"nothing moves", "MAE", "SiamMAE"}
    assert list(share.lines[2].get_ydata()) == [79, 76, 72] and list(error.lines[2].get_ydata()) == [2, 8, 16]


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_names_at_line_ends_keep_their_order_and_distance(values):
    figure, axis = plt.subplots()
    axis.set_ylim(0, 100)
    ends = pd.Series(values, [f"method {index}" for index in range(len(values))])
    curves.label_ends(axis, ends, dict.fromkeys(ends.index, "black"))
    places = np.array([named(method, axis).xy[1] for method in ends.sort_values().index])
    assert (np.diff(places) > 7 - 1e-6).all()
    assert places.mean() == pytest.approx(np.mean(values))  # pushed to both sides alike
    if len(values) == 1 or np.diff(np.sort(values)).min() > 7:
        np.testing.assert_allclose(places, np.sort(values))
    plt.close(figure)
