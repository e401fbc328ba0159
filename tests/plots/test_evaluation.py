"""Figures of the evaluation: what they draw is where the numbers say, and named."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from lib.data.jhmdb import JOINTS
from lib.errors import UserError
from lib.plots import evaluation as drawn
from lib.plots import style as plots

LOST = (-1.0, -1.0)


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def texts(figure: Figure) -> list[str]:
    """All text of the axes, in no order."""
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def named(text: str, axis: plt.Axes) -> plt.Annotation:
    """The one text on the axis that says so."""
    (found,) = [annotation for annotation in axis.texts if annotation.get_text() == text]
    return found


# --- pictures -----------------------------------------------------------------------------------------------


def standing(x: float = 60.0) -> np.ndarray:
    """A person seen from the front, so its right side is on the left, 15 joints apart from one another."""
    right = {"shoulder": (-15, 40), "elbow": (-25, 55), "wrist": (-35, 70), "hip": (-10, 75), "knee": (-12, 95),
             "ankle": (-14, 112)}  # fmt: skip
    places = {"neck": (0, 30), "belly": (0, 65), "face": (0, 15)}
    places |= {f"right {part}": place for part, place in right.items()}
    places |= {f"left {part}": (-across, down) for part, (across, down) in right.items()}
    return np.array([places[name] for name in JOINTS]) + (x, 0.0)


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_every_joint_is_where_it_should_be_and_coloured_by_its_side(dtype):
    frame = np.full((120, 130, 3), 100, np.uint8)
    joints = standing().astype(dtype)
    picture = drawn.draw_joints(frame, joints)
    assert picture.shape == frame.shape and picture.min() >= 0 and picture.max() <= 1
    for name, (x, y) in zip(JOINTS, joints.astype(int), strict=True):
        side = {"right": plots.BLUE, "left": plots.ORANGE}.get(name.split()[0], plots.INK)
        np.testing.assert_allclose(picture[y, x], to_rgb(side), atol=0.01, err_msg=name)


def test_limbs_join_neighbours_of_the_same_side():
    names = [(JOINTS[start], JOINTS[end]) for start, end in drawn.LIMBS]
    order = {"shoulder": "neck", "hip": "belly"}
    inner = {"elbow": "shoulder", "wrist": "elbow", "knee": "hip", "ankle": "knee"}
    expected = [("neck", "face"), ("neck", "belly")]
    for side in ("right", "left"):
        expected += [(start, f"{side} {end}") for end, start in order.items()]
        expected += [(f"{side} {start}", f"{side} {end}") for end, start in inner.items()]
    assert sorted(names) == sorted(expected)


def test_far_from_the_person_the_frame_is_only_lighter():
    frame = np.random.default_rng(0).integers(0, 256, (120, 240, 3), dtype=np.uint8)
    picture = drawn.draw_joints(frame, standing())
    np.testing.assert_allclose(picture[:, 120:], 0.5 + frame[:, 120:] / 510, atol=1 / 255)


@pytest.mark.parametrize("lost", [LOST, (np.nan, np.nan)])
def test_lost_joints_and_their_limbs_are_not_drawn(lost):
    frame = np.zeros((120, 130, 3), np.uint8)
    empty = drawn.draw_joints(frame, np.full((15, 2), lost))
    assert len(np.unique(empty)) == 1
    joints = standing()
    elbow = JOINTS.index("left elbow")
    x, y = joints[elbow].astype(int)
    joints[elbow] = lost
    picture = drawn.draw_joints(frame, joints)
    np.testing.assert_array_equal(picture[y - 3 : y + 4, x - 3 : x + 4], empty[:7, :7])
    np.testing.assert_array_equal(picture[:8, :8], empty[:8, :8])  # no limb leads to the corner
    x, y = joints[JOINTS.index("left wrist")].astype(int)
    np.testing.assert_allclose(picture[y, x], to_rgb(plots.ORANGE), atol=0.01)  # it is still a dot


@given(st.lists(st.tuples(st.floats(-500, 500), st.floats(-500, 500)), min_size=15, max_size=15))
def test_joints_outside_the_frame_are_no_trouble(joints):
    frame = np.full((24, 32, 3), 255, np.uint8)
    picture = drawn.draw_joints(frame, np.array(joints))
    assert picture.shape == frame.shape and 0 <= picture.min() <= picture.max() <= 1


def test_skeleton_edges_are_smooth():
    picture = drawn.draw_joints(np.zeros((120, 130, 3), np.uint8), standing())
    across = picture[50, 55:66, 0]  # through the spine
    assert len(np.unique(across.round(3))) > 3


def test_joints_must_be_fifteen():
    with pytest.raises(UserError, match=r"\(14, 2\)"):
        drawn.draw_joints(np.zeros((8, 8, 3), np.uint8), np.zeros((14, 2)))


@given(st.integers(0, 5), st.integers(0, 7), st.integers(0, 255))
def test_heat_is_brightest_where_the_map_is(row, column, level):
    values = np.full((6, 8), 0.1)
    values[row, column] = 3.0
    picture = drawn.heat(np.full((48, 96, 3), level, np.uint8), values)
    assert picture.shape == (48, 96, 3) and 0 <= picture.min() <= picture.max() <= 1
    y, x = np.unravel_index(picture.sum(axis=2).argmax(), picture.shape[:2])
    assert (y // 8, x // 12) == (row, column)


def test_heat_limits_make_maps_comparable():
    frame = np.full((16, 16, 3), 90, np.uint8)
    low, high = np.full((2, 2), 0.2), np.full((2, 2), 0.8)
    np.testing.assert_array_equal(drawn.heat(frame, low), drawn.heat(frame, high))  # each on its own: flat
    assert drawn.heat(frame, low, (0, 1)).sum() < drawn.heat(frame, high, (0, 1)).sum()
    np.testing.assert_array_equal(drawn.heat(frame, high, (0, 0.5)), drawn.heat(frame, high, (0, 0.8)))  # clipped


def test_heat_is_smooth_between_cells():
    picture = drawn.heat(np.zeros((10, 40, 3), np.uint8), np.array([[0.0, 1.0]]))
    brightness = picture.sum(axis=2)[5]
    assert (np.diff(brightness) >= 0).all() and len(np.unique(brightness[10:30])) == 20


def test_heat_refuses_what_it_cannot_show():
    frame = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(UserError, match="NaN"):
        drawn.heat(frame, np.array([[0.0, np.nan]]))
    with pytest.raises(UserError, match="rise"):
        drawn.heat(frame, np.zeros((2, 2)), (1, 1))


def test_rows_of_a_grid_get_the_height_of_their_images():
    wide, tall = np.zeros((10, 40, 3)), np.zeros((30, 20, 3))
    figure = plots.image_grid({"wide": [wide, wide], "tall": [None, tall]}, ["a", "b"])
    figure.draw_without_rendering()
    boxes = [axis.get_position() for axis in figure.axes]
    assert boxes[3].height / boxes[1].height == pytest.approx(6, rel=0.1)
    assert boxes[3].width == pytest.approx(boxes[1].width, rel=0.1)  # neither is shrunk to fit
    assert [axis.get_ylabel() for axis in figure.axes[::2]] == ["wide", "tall"]
    assert [axis.get_title() for axis in figure.axes] == ["a", "b", "", ""]
    assert [len(axis.images) for axis in figure.axes] == [1, 1, 0, 1]


def test_tasks_stand_in_blocks_with_their_own_titles():
    wide, tall = np.zeros((20, 40, 3)), np.zeros((30, 40, 3))
    rows = {"DAVIS: truth": [wide] * 3, "JHMDB: truth": [tall] * 2, "DAVIS: ours": [wide] * 3, "JHMDB: ours": [tall]}
    figure = drawn.tasks_figure(rows, {"DAVIS": ["0", "10", "20"], "JHMDB": ["0", "5"]})
    davis, jhmdb = figure.subfigs
    assert (davis.get_supylabel(), jhmdb.get_supylabel()) == ("DAVIS", "JHMDB")
    assert [len(axis.images) for axis in davis.axes] == [1, 1, 1, 1, 1, 1]
    assert [len(axis.images) for axis in jhmdb.axes] == [1, 1, 0, 1, 0, 0]
    assert [axis.get_ylabel() for axis in jhmdb.axes[::3]] == ["truth", "ours"]
    assert [axis.get_title() for axis in jhmdb.axes] == ["0", "5", "", "", "", ""]
    once = drawn.tasks_figure(rows, ["0", "10", "20"])
    assert [axis.get_title() for axis in once.axes if axis.get_title()] == ["0", "10", "20"]


# --- curves and bars ----------------------------------------------------------------------------------------


def sensitivity(factors: dict[str, tuple[list, object]], methods: tuple[str, ...] = ("SiamMAE",)) -> pd.DataFrame:
    """Scores of each value of each factor, given as (values, base value)."""
    return pd.DataFrame(
        {"factor": factor, "value": value, "is_base": value == base, "JF_mean": 30.0 + place, "method": method}
        for factor, (values, base) in factors.items()
        for place, value in enumerate(values)
        for method in methods
    )


FACTORS = {
    "temperature": ([0.7, 0.05, 0.1], 0.1),  # in no order
    "queue": ([0, 1, 20], 20),
    "block": ([10, 11, 12], 11),
    "shape": (["disc", "square"], "disc"),
    "padded_start": ([True, False], False),
}


@pytest.mark.parametrize("methods", [("SiamMAE",), ("MAE", "SiamMAE", "RGB patches")])
def test_base_is_marked_once_a_panel(methods):
    figure = drawn.sensitivity_figure(sensitivity(FACTORS, methods))
    assert len(figure.axes) == len(FACTORS)
    for axis, (values, base) in zip(figure.axes, FACTORS.values(), strict=True):
        place = base if axis.get_xlabel() in ("temperature", "queue (frames)", "block") else values.index(base)
        upright = [line for line in axis.lines if list(line.get_ydata()) == [0, 1]]
        assert [line.get_xdata()[0] for line in upright] == [place]
        rings = [ring for ring in axis.collections if isinstance(ring, PathCollection)]
        assert len(rings) == len(methods)
        for ring in rings:
            ((x, y),) = ring.get_offsets()
            assert abs(x - place) < 0.2 and y == 30 + values.index(base)
        assert [text.get_text() for text in axis.texts].count("base") == 1


def test_sensitivity_axes_suit_their_values():
    figure = drawn.sensitivity_figure(sensitivity(FACTORS))
    assert [axis.get_xscale() for axis in figure.axes] == ["log", "symlog", "linear", "linear", "linear"]
    labels = [[label.get_text() for label in axis.get_xticklabels()] for axis in figure.axes]
    assert labels == [["0.05", "0.1", "0.7"], ["0", "1", "20"], ["10", "11", "12"], ["disc", "square"], ["yes", "no"]]
    assert figure.axes[0].get_xlabel() == "temperature" and figure.axes[1].get_xlabel() == "queue (frames)"
    assert {axis.get_ylim() for axis in figure.axes} == {figure.axes[0].get_ylim()}  # one scale
    assert [axis.get_ylabel() for axis in figure.axes] == ["J&F (%)", "", "", "J&F (%)", ""]
    line = figure.axes[0].lines[1]
    assert list(line.get_xdata()) == [0.05, 0.1, 0.7] and list(line.get_ydata()) == [31, 32, 30]


def test_crowded_ticks_keep_the_base_label():
    figure = drawn.sensitivity_figure(sensitivity({"top_k": ([1, 18, 19, 20], 19)}))
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["1", "", "19", ""]


def test_methods_are_named_once_and_in_their_colour():
    methods = ("MAE", "SiamMAE", "RGB patches")
    figure = drawn.sensitivity_figure(sensitivity(FACTORS, methods))
    assert sorted(text for text in texts(figure) if text != "base") == sorted(methods)
    assert named("SiamMAE", figure.axes[2]).get_color() == plots.ORANGE
    table = sensitivity(FACTORS, methods)
    missing = table[(table["method"] != "MAE") | (table["factor"] == "queue")]  # not in the panel with the names
    assert sorted(text for text in texts(drawn.sensitivity_figure(missing)) if text != "base") == sorted(methods)
    assert set(texts(drawn.sensitivity_figure(table.query("method == 'MAE'").drop(columns="method")))) == {"base"}


@pytest.mark.parametrize("base", [None, "two"])
def test_a_factor_needs_one_base_value(base):
    table = sensitivity({"top_k": ([5, 7, 10], 7)}).assign(is_base=base == "two")
    with pytest.raises(UserError, match="top_k has [03] base values"):
        drawn.sensitivity_figure(table)


def test_objects_figure_states_values_spread_and_numbers_of_clips():
    rows = [("MAE", 2, 40.0, 3.0, 1), ("MAE", 1, 50.0, 2.0, 7)]
    rows += [("SiamMAE", 1, 60.0, 4.0, 7), ("SiamMAE", 2, 55.0, np.nan, 1)]
    table = pd.DataFrame(rows, columns=["method", "num_objects", "JF_mean", "spread", "sequences"])
    figure = drawn.objects_figure(table)
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1\n(7 clips)", "2\n(1 clip)"]
    assert "%" in axis.get_ylabel() and "objects" in axis.get_xlabel()
    mae, siam = axis.containers
    assert list(mae.lines[0].get_ydata()) == [50, 40] and list(siam.lines[0].get_ydata()) == [60, 55]
    assert [segment[:, 1].tolist() for segment in mae.lines[2][0].get_segments()] == [[48, 52], [37, 43]]
    assert named("MAE", axis).xy[1] == 40 and named("SiamMAE", axis).xy[1] == 55
    assert siam.lines[0].get_color() == plots.ORANGE


def test_correspondence_baselines_are_grey_and_dashed():
    table = pd.DataFrame(
        {"method": method, "gap": gap, "share_within_cell": share - gap, "end_point_error": 2.0 * gap}
        for method, share in (("nothing moves", 50), ("MAE", 70), ("SiamMAE", 80))
        for gap in (8, 1, 4)
    )
    figure = drawn.correspondence_figure(table)
    share, error = figure.axes
    assert "%" in share.get_ylabel() and "pixels" in error.get_ylabel()
    for axis in figure.axes:
        assert axis.get_xlabel() == "gap (frames)" and list(axis.get_xticks()) == [1, 4, 8]
        assert [line.get_linestyle() for line in axis.lines] == ["--", "-", "-"]
        assert [line.get_color() for line in axis.lines] == [drawn.GREY, plots.BLUE, plots.ORANGE]
        assert {text.get_text() for text in axis.texts} == {"nothing moves", "MAE", "SiamMAE"}
    assert list(share.lines[2].get_ydata()) == [79, 76, 72] and list(error.lines[2].get_ydata()) == [2, 8, 16]
    assert [line.get_linestyle() for line in drawn.correspondence_figure(table, ["MAE"]).axes[0].lines][1] == "--"


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_names_at_line_ends_keep_their_order_and_distance(values):
    figure, axis = plt.subplots()
    axis.set_ylim(0, 100)
    ends = pd.Series(values, [f"method {index}" for index in range(len(values))])
    drawn._label_ends(axis, ends, dict.fromkeys(ends.index, "black"), gap=0.05)
    places = np.array([named(method, axis).xy[1] for method in ends.sort_values().index])
    assert (np.diff(places) > 5 - 1e-6).all()
    assert places.mean() == pytest.approx(np.mean(values))  # pushed to both sides alike
    if len(values) == 1 or np.diff(np.sort(values)).min() > 5:
        np.testing.assert_allclose(places, np.sort(values))
    plt.close(figure)


def test_score_panels_print_what_they_draw():
    rows = [("MAE", 40.0, 30.0, 35.0, 60.0), ("SiamMAE, block 4", 62.0, np.nan, 47.0, 76.1)]
    tasks = (("DAVIS", "J&F"), ("VIP", "mIoU"), ("JHMDB", "PCK@0.1"), ("JHMDB", "PCK@0.2"))
    table = pd.DataFrame(
        {"method": method, "task": task, "metric": metric, "value": value}
        for method, *values in rows
        for (task, metric), value in zip(tasks, values, strict=True)
    )
    figure = drawn.score_panels(table)
    davis, vip, jhmdb = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["DAVIS", "VIP", "JHMDB"]
    assert davis.get_xlabel() == "J&F (%)" and jhmdb.get_xlabel() == "PCK@0.1 and PCK@0.2 (%)"
    assert [label.get_text() for label in davis.get_yticklabels()] == ["MAE", "SiamMAE, block 4"]
    assert [text.get_text() for text in davis.texts] == ["40.0", "62.0"]
    assert [text.get_text() for text in vip.texts] == ["30.0", "–"]
    assert [text.get_text() for text in jhmdb.texts] == ["35.0  PCK@0.1", "47.0", "60.0  PCK@0.2", "76.1"]
    turned = drawn.score_panels(table.iloc[[*range(4, 8), *range(4)]]).axes[2]  # names stand at the shortest bars
    assert [text.get_text() for text in turned.texts] == ["47.0", "35.0  PCK@0.1", "76.1", "60.0  PCK@0.2"]
    assert [bar.get_width() for bar in jhmdb.patches] == [35, 47, 60, 76.1]
    colors = [bar.get_facecolor()[:3] for bar in davis.patches]
    np.testing.assert_allclose(colors, [to_rgb(plots.BLUE), to_rgb(plots.ORANGE)])
    first, second = jhmdb.patches[0], jhmdb.patches[2]
    assert first.get_y() < second.get_y() and davis.yaxis_inverted()  # the first metric above the second
