"""Joints as soft labels and back, and their propagation: against slow readings, by hand, by properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import UserError
from lib.evaluation.features import FrameFeatures, rgb_patch_features
from lib.evaluation.keypoints import cells_to_joints, copy_first_joints, joints_to_cells, propagate_joints
from lib.evaluation.propagation import propagate
from lib.evaluation.protocols import get_protocol

seeds = st.integers(0, 2**32 - 1)


# --- Joints to cells ---


def slow_stamp(x, y, grid):
    """One joint's map: a 4 x 4 stamp whose third row and column are the peak, put cell by cell."""
    left, top = int(x - 1.5), int(y - 1.5)  # int cuts towards zero, as the published code does
    right, bottom = int(x + 2.5), int(y + 2.5)
    found = torch.zeros(grid)
    for row in range(max(0, top), min(bottom, grid[0])):
        for column in range(max(0, left), min(right, grid[1])):
            squared = (row - top - 2) ** 2 + (column - left - 2) ** 2
            found[row, column] = math.exp(-squared / (2 * 0.5**2))
    return found


@given(seeds, st.integers(1, 12), st.integers(1, 12), st.booleans())
def test_stamps_agree_with_the_slow_reading(seed, h, w, whole):
    rng = np.random.default_rng(seed)
    size = tuple(rng.integers(10, 200, 2))
    joints = rng.uniform(-0.6, 1.6, (15, 2)) * size[::-1]
    joints = joints.round() if whole else joints
    maps = joints_to_cells(joints, size, (h, w))
    assert maps.shape == (16, h, w) and maps.dtype == torch.float32
    for found, (x, y) in zip(maps[1:], joints * (w, h) / size[::-1], strict=True):
        torch.testing.assert_close(found, slow_stamp(x, y, (h, w)), rtol=1e-6, atol=1e-7)
    assert (maps[0] == (maps[1:].sum(0) == 0)).all()


def test_one_stamp_by_hand():
    """x 37 of 80 pixels on 10 cells is 4.625: the nearest cell is 5; y 28 of 40 on 8 is 5.6: cell 6."""
    maps = joints_to_cells(np.array([[37.0, 28.0]]), (40, 80), (8, 10))
    near, far = math.exp(-2), math.exp(-8)
    side = torch.tensor([far, near, 1, near])
    expected = torch.zeros(8, 10)
    expected[4:8, 3:7] = side[:, None] * side
    torch.testing.assert_close(maps[1], expected)
    assert maps[0].sum() == 80 - 16 and maps[1, 6, 5] == 1


@pytest.mark.parametrize(
    ("x", "peak"),
    [(2.4, 2), (2.5, 3), (8.49, 8), (8.5, 9), (10.4, None), (0.2, 1), (1.0, 2), (1.49, 2), (1.5, 2), (-1.0, 0)],
)
def test_where_the_peak_lies(x, peak):
    """Nearest cell, halves up. At the left and upper border one cell too far in, and beyond it back at the border."""
    for place in ((x, 5.0), (5.0, x)):
        joint = joints_to_cells(np.array([place]), (10, 10), (10, 10))[1]
        rows, columns = (joint == 1).nonzero(as_tuple=True)
        assert (columns if place[1] == 5 else rows).tolist() == ([] if peak is None else [peak])


@pytest.mark.parametrize(("x", "empty"), [(11.49, False), (11.5, True), (-2.4, True), (-1.5, False), (1e9, True)])
def test_a_joint_far_outside_leaves_its_channel_empty(x, empty):
    maps = joints_to_cells(np.array([[x, 5.0], [3.0, 3.0]]), (10, 10), (10, 10))
    assert (maps[1].sum() == 0).item() == empty
    assert cells_to_joints(maps, 5)[0].tolist() == [-1, -1] if empty else cells_to_joints(maps, 5)[0, 0] >= 0


@pytest.mark.parametrize("joints", [np.zeros((15, 3)), np.zeros(2), np.full((15, 2), np.nan)])
def test_other_joints_are_refused(joints):
    with pytest.raises(UserError, match="expected"):
        joints_to_cells(joints, (10, 10), (5, 5))
    with pytest.raises(UserError, match="expected"):
        list(copy_first_joints(np.zeros((2, 8, 8, 3), np.uint8), joints))


# --- Cells to joints ---


@given(seeds, st.integers(1, 6), st.integers(1, 6), st.integers(1, 40))
def test_decoding_agrees_with_the_slow_reading(seed, h, w, top_cells):
    generator = torch.Generator().manual_seed(seed)
    soft = torch.rand(16, h, w, generator=generator) * (torch.rand(16, 1, 1, generator=generator) > 0.3)
    found = cells_to_joints(soft, top_cells)
    assert found.shape == (15, 2) and found.dtype == np.float64
    for joint, channel in zip(found, soft[1:].tolist(), strict=True):
        cells = sorted(((channel[y][x], x, y) for y in range(h) for x in range(w)), reverse=True)[:top_cells]
        total = sum(value for value, _, _ in cells)
        if total == 0:
            assert joint.tolist() == [-1, -1]
        else:
            expected = [sum(cell[0] * cell[axis] for cell in cells) / total for axis in (1, 2)]
            np.testing.assert_allclose(joint, expected, atol=1e-6)


@given(st.integers(2, 7), st.integers(2, 6))
def test_cells_inside_come_back_to_themselves(x, y):
    """The peak's four neighbours cancel; one cell is the peak itself. Neither is half a cell off."""
    soft = joints_to_cells(np.array([[16.0 * x, 12.0 * y]]), (12 * 8, 16 * 10), (8, 10))
    for top_cells in (1, 5):
        np.testing.assert_allclose(cells_to_joints(soft, top_cells)[0], [x, y], atol=1e-6)


# --- Propagation ---


def moving_dots(frames: int = 4, step: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Video (T, 64, 96, 3) of two patches, each of its own colour, that step a cell right on noise; their corners."""
    video = np.random.default_rng(0).integers(0, 80, (frames, 64, 96, 3)).astype(np.uint8)
    joints = np.zeros((frames, 2, 2))
    for t in range(frames):
        for k, (y, colour) in enumerate([(16, (255, 0, 0)), (40, (0, 255, 0))]):
            x = 24 + step * t
            video[t, y : y + 8, x : x + 8] = colour
            joints[t, k] = x, y
    return video, joints


def tracker(**overrides):
    return get_protocol("crw", "jhmdb", **{"input_size": None, "top_k": 1, "joint_cells": 1, **overrides})


def test_moving_patches_are_followed():
    video, joints = moving_dots()
    found = list(propagate_joints(iter(video), joints[0], rgb_patch_features(8), 8, tracker()))
    assert all(frame.dtype == np.float64 for frame in found)
    np.testing.assert_allclose(np.stack(found), joints, atol=1e-5)


def test_pixels_of_the_frame_come_out_whatever_the_input_size():
    video, joints = moving_dots()
    small = tracker(input_size=(32, 48))
    found = np.stack(list(propagate_joints(video, joints[0], rgb_patch_features(4), 4, small)))
    np.testing.assert_allclose(found, joints, atol=1e-5)
    assert found.max() == 48  # twice the place in the input


def test_a_lost_joint_stays_lost_and_does_not_move_the_others():
    video, joints = moving_dots()
    with_lost = np.concatenate([joints[0], [[-200.0, 10.0]], [[30.0, 500.0]]])
    found = np.stack(list(propagate_joints(video, with_lost, rgb_patch_features(8), 8, tracker())))
    assert (found[:, 2:] == -1).all()
    np.testing.assert_allclose(found[:, :2], joints, atol=1e-5)


def test_the_parts_are_joined_as_they_stand():
    """Frame by frame: labels, engine, decoding, with soft labels that no arg max sharpens."""
    video, joints = moving_dots(6)
    protocol = get_protocol("cropmae", "jhmdb", input_size=None)
    fn = rgb_patch_features(8)
    found = np.stack(list(propagate_joints(video, joints[0], fn, 8, protocol)))
    labels = joints_to_cells(joints[0], (64, 96), (8, 12))
    soft = propagate(FrameFeatures(video, fn, 8, protocol), labels, protocol)
    expected = np.stack([cells_to_joints(frame, 5) * 8 for frame in soft])
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(found[0], cells_to_joints(labels, 5) * 8)  # frame 0: as its own cells hold it


def test_joints_keep_to_their_channels():
    video, joints = moving_dots()
    found = list(propagate_joints(video, joints[0, ::-1], rgb_patch_features(8), 8, tracker()))
    np.testing.assert_allclose(np.stack(found), joints[:, ::-1], atol=1e-5)


def test_copying_repeats_the_first_joints_except_those_outside():
    video = np.zeros((3, 20, 30, 3), np.uint8)
    first = np.array([[0.0, 0.0], [29.9, 19.9], [30.0, 5.0], [5.0, 20.0], [-0.1, 5.0], [5.0, -0.1]])
    found = np.stack(list(copy_first_joints(video, first)))
    assert found.shape == (3, 6, 2) and (found[:, :2] == first[:2]).all() and (found[:, 2:] == -1).all()
