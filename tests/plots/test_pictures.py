"""Pictures: skeletons, heat maps and rows of images are where the numbers say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb

from lib.data.jhmdb import JOINTS
from lib.plots import pictures, style

LOST = (-1.0, -1.0)


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
    picture = pictures.draw_joints(frame, joints)
    assert picture.shape == frame.shape and picture.min() >= 0 and picture.max() <= 1
    for name, (x, y) in zip(JOINTS, joints.astype(int), strict=True):
        side = {"right": style.BLUE, "left": style.ORANGE}.get(name.split()[0], style.DARK)
        np.testing.assert_allclose(picture[y, x], to_rgb(side), atol=0.01, err_msg=name)


def test_limbs_join_neighbours_of_the_same_side():
    names = [(JOINTS[start], JOINTS[end]) for start, end in pictures.LIMBS]
    order = {"shoulder": "neck", "hip": "belly"}
    inner = {"elbow": "shoulder", "wrist": "elbow", "knee": "hip", "ankle": "knee"}
    expected = [("neck", "face"), ("neck", "belly")]
    for side in ("right", "left"):
        expected += [(start, f"{side} {end}") for end, start in order.items()]
        expected += [(f"{side} {start}", f"{side} {end}") for end, start in inner.items()]
    assert sorted(names) == sorted(expected)


def test_far_from_the_person_the_frame_is_only_lighter():
    frame = np.random.default_rng(0).integers(0, 256, (120, 240, 3), dtype=np.uint8)
    picture = pictures.draw_joints(frame, standing())
    np.testing.assert_allclose(picture[:, 120:], 0.5 + frame[:, 120:] / 510, atol=1 / 255)


@pytest.mark.parametrize("lost", [LOST, (np.nan, np.nan)])
def test_lost_joints_and_their_limbs_are_not_drawn(lost):
    frame = np.zeros((120, 130, 3), np.uint8)
    empty = pictures.draw_joints(frame, np.full((15, 2), lost))
    assert len(np.unique(empty)) == 1
    joints = standing()
    elbow = JOINTS.index("left elbow")
    x, y = joints[elbow].astype(int)
    joints[elbow] = lost
    picture = pictures.draw_joints(frame, joints)
    np.testing.assert_array_equal(picture[y - 3 : y + 4, x - 3 : x + 4], empty[:7, :7])
    np.testing.assert_array_equal(picture[:8, :8], empty[:8, :8])  # no limb leads to the corner
    x, y = joints[JOINTS.index("left wrist")].astype(int)
    np.testing.assert_allclose(picture[y, x], to_rgb(style.ORANGE), atol=0.01)  # it is still a dot


@given(st.lists(st.tuples(st.floats(-500, 500), st.floats(-500, 500)), min_size=15, max_size=15))
def test_joints_outside_the_frame_are_no_trouble(joints):
    frame = np.full((24, 32, 3), 255, np.uint8)
    picture = pictures.draw_joints(frame, np.array(joints))
    assert picture.shape == frame.shape and 0 <= picture.min() <= picture.max() <= 1


@given(st.integers(0, 5), st.integers(0, 7), st.integers(0, 255))
def test_heat_is_brightest_where_the_map_is(row, column, level):
    values = np.full((6, 8), 0.1)
    values[row, column] = 3.0
    (picture,) = pictures.heads_on_frame(np.full((48, 96, 3), level, np.uint8), values[None])
    assert picture.shape == (48, 96, 3) and 0 <= picture.min() <= picture.max() <= 1
    y, x = np.unravel_index(picture.sum(axis=2).argmax(), picture.shape[:2])
    assert (y // 8, x // 12) == (row, column)


def test_heat_is_smooth_between_cells():
    (picture,) = pictures.heads_on_frame(np.zeros((10, 40, 3), np.uint8), np.array([[[0.0, 1.0]]]))
    brightness = picture.sum(axis=2)[5]
    assert (np.diff(brightness) >= 0).all() and len(np.unique(brightness[10:30])) == 20


def test_a_ring_lies_around_the_largest_object():
    ids = np.zeros((40, 60), np.uint8)
    ids[2:5, 2:5], ids[20:31, 40:51] = 1, 2
    place = pictures.centre_of_largest(ids)
    assert place == (25.5 / 40, 45.5 / 60)
    frame = np.full((40, 60, 3), 9, np.uint8)
    ring = pictures.ringed(frame, place)
    drawn = np.argwhere((ring != frame).any(axis=2))
    assert len(drawn) and (np.abs(drawn.mean(axis=0) - (25.5, 45.5)) < 0.6).all() and (ring[25, 45] == 9).all()


def test_the_centre_of_a_hollow_object_is_on_it():
    ids = np.ones((21, 21), np.uint8)
    ids[5:16, 5:16] = 0
    y, x = (int(share * 21) for share in pictures.centre_of_largest(ids))
    assert ids[y, x] == 1


def test_maps_have_one_scale():
    maps = np.zeros((2, 2, 3))
    maps[0, 0, 0], maps[1] = 4.0, 2.0
    first, second = pictures.heads_on_frame(np.zeros((2, 3, 3), np.uint8), maps)
    assert first[0, 0].sum() > second[0, 0].sum() > first[1, 2].sum()
    assert np.allclose(pictures.heads_on_frame(np.zeros((2, 3, 3), np.uint8), maps[1:])[0][0, 0], first[0, 0])


def test_rows_of_a_grid_get_the_height_of_their_images():
    wide, tall = np.zeros((10, 40, 3)), np.zeros((30, 20, 3))
    figure = pictures.image_grid({"wide": [wide, wide], "tall": [None, tall]}, ["a", "b"])
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
    figure = pictures.tasks_figure(rows, {"DAVIS": ["0", "10", "20"], "JHMDB": ["0", "5"]})
    davis, jhmdb = figure.subfigs
    assert (davis.get_supylabel(), jhmdb.get_supylabel()) == ("DAVIS", "JHMDB")
    assert [len(axis.images) for axis in davis.axes] == [1, 1, 1, 1, 1, 1]
    assert [len(axis.images) for axis in jhmdb.axes] == [1, 1, 0, 1, 0, 0]
    assert [axis.get_ylabel() for axis in jhmdb.axes[::3]] == ["truth", "ours"]
    assert [axis.get_title() for axis in jhmdb.axes] == ["0", "5", "", "", "", ""]


def test_heat_is_the_colour_of_each_cell():
    maps = np.array([[[0.0, 1.0], [np.nan, 2.0]]])
    scale = ScalarMappable(Normalize(0, 1, clip=True), colormaps["inferno"].with_extremes(bad=[0.75] * 3))
    (picture,) = pictures.colored(scale, maps, 3)
    assert picture.shape == (6, 6, 3)
    for place, expected in (((0, 0), colormaps["inferno"](0.0)[:3]), ((0, 5), colormaps["inferno"](1.0)[:3])):
        np.testing.assert_allclose(picture[place], expected)
    assert (picture[3:, :3] == 0.75).all(), "visible patches are grey"
    np.testing.assert_allclose(picture[5, 5], picture[0, 5], err_msg="values beyond the scale are its end")


def test_rows_of_futures():
    frames, maps = np.zeros((2, 8, 8, 3)), np.full((2, 2, 2), 1.0)
    images, errors = dict.fromkeys(("truth", "visible", "prediction"), frames), {"error": maps, "sigma": 0 * maps}
    views = [(frames[0], images, errors), (frames[0], images, errors | {"occluded in\nthe past": maps})]
    rows = pictures.future_rows(views, 4, 0.0, 1.0)
    assert [len(row) for row in rows.values()] == [3] * 11 and rows["prediction 2"][0] is None
    assert rows["error 1"][1].shape == (8, 8, 3) and rows["error 1"][1].mean() > rows["sigma 1"][1].mean()
    assert (rows["occluded in\nthe past 2"][1] == 1).all()
