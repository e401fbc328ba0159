"""PCK against a slow reading, by hand and by properties."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import UserError
from lib.evaluation.pck import PckCounts, pck

seeds = st.integers(0, 2**32 - 1)


def slow_pck(clips, threshold):
    """The definition read joint by joint: per-joint lists of right and wrong over all clips, then their mean."""
    right = {}
    for truth, predicted in clips:
        for t in range(1, len(truth)):
            seen = [j for j in range(truth.shape[1]) if predicted[t, j, 0] >= 0]
            xs, ys = ([truth[t, j, axis] for j in seen] for axis in (0, 1))
            for j in seen:
                scale = 0.6 * math.hypot(max(xs) - min(xs), max(ys) - min(ys))
                error = math.dist(truth[t, j], predicted[t, j])
                right.setdefault(j, []).append(scale > 0 and error / scale <= threshold)
    return sum(sum(values) / len(values) for values in right.values()) / len(right)


def random_clips(seed, count=2, lost=0.2):
    rng = np.random.default_rng(seed)
    clips = []
    for _ in range(count):
        truth = rng.uniform(0, 200, (int(rng.integers(2, 6)), 15, 2))
        predicted = np.abs(truth + rng.normal(0, 20, truth.shape))
        predicted[rng.random(truth.shape[:2]) < lost] = -1
        clips.append((truth, predicted))
    return clips


@given(seeds, st.sampled_from([0.0, 0.2, 0.9]))
def test_pck_agrees_with_the_slow_reading(seed, lost):
    clips = random_clips(seed, lost=lost)
    counts = [pck(*clip) for clip in clips]
    total = counts[0] + counts[1]
    scored = sum(len(truth) - 1 for truth, _ in clips)
    assert (total.counted + total.lost == scored).all()
    if total.counted.any():
        expected = [slow_pck(clips, threshold) for threshold in (0.1, 0.2)]
        np.testing.assert_allclose(total.mean(), expected, atol=1e-12)


@given(seeds)
def test_the_truth_itself_scores_100_percent(seed):
    (clip,) = random_clips(seed, 1)
    counts = pck(clip[0], clip[0])
    assert (counts.mean() == 1).all() and not counts.lost.any()


@given(seeds, st.permutations(range(15)))
def test_permuting_joints_permutes_their_scores(seed, order):
    (clip,) = random_clips(seed, 1)
    plain, permuted = pck(*clip), pck(clip[0][:, order], clip[1][:, order])
    np.testing.assert_array_equal(permuted.per_joint(), plain.per_joint()[:, order])
    np.testing.assert_array_equal(permuted.lost, plain.lost[order])


@given(seeds, st.floats(0.1, 10), st.floats(0, 100))
def test_scale_and_shift_of_the_picture_change_nothing(seed, scale, shift):
    (clip,) = random_clips(seed, 1, lost=0)
    moved = pck(*(joints * scale + shift for joints in clip))
    np.testing.assert_array_equal(moved.correct, pck(*clip).correct)


@given(seeds)
def test_a_wider_threshold_never_scores_less_and_frame_0_not_at_all(seed):
    (truth, predicted), *_ = random_clips(seed, 1)
    counts = pck(truth, predicted)
    assert (np.diff(counts.correct, axis=0) >= 0).all() and (counts.correct <= counts.counted).all()
    predicted[0] = 1000.0
    np.testing.assert_array_equal(pck(truth, predicted).correct, counts.correct)


def test_pck_by_hand():
    """Box 30 x 40: diagonal 50, normaliser 30. Errors 3 and 6 pixels are 0.1 and 0.2, both still within."""
    truth = np.zeros((2, 3, 2))
    truth[1] = [[10, 10], [40, 50], [20, 20]]
    predicted = truth.copy()
    predicted[1, :, 0] += [3, 6, 6.1]
    counts = pck(truth, predicted)
    assert counts.correct.tolist() == [[1, 0, 0], [1, 1, 0]]
    np.testing.assert_allclose(counts.mean(), [1 / 3, 2 / 3])


def test_a_lost_joint_is_skipped_reported_and_shapes_no_box():
    truth = np.zeros((2, 3, 2))
    truth[1] = [[10, 10], [40, 50], [10, 20]]
    predicted = truth.copy()
    predicted[1, 2, 1] += 2.5
    assert pck(truth, predicted).correct[0].tolist() == [1, 1, 1]
    predicted[1, 1] = -1  # the box shrinks to 0 x 10: normaliser 6, and 2.5 pixels are too far
    counts = pck(truth, predicted)
    assert counts.correct.tolist() == [[1, 0, 0], [1, 0, 0]]
    assert counts.counted.tolist() == [1, 0, 1] and counts.lost.tolist() == [0, 1, 0]
    assert np.isnan(counts.per_joint()[0, 1]) and counts.mean().tolist() == [0.5, 0.5]


def test_a_joint_in_the_first_column_is_seen():
    truth = np.zeros((2, 2, 2)) + [[0, 5], [20, 5]]
    assert pck(truth, truth).counted.tolist() == [1, 1] and (pck(truth, truth).mean() == 1).all()


def test_losing_a_wrong_joint_raises_the_score():
    """Why the number of lost joints belongs to every PCK."""
    truth = np.random.default_rng(0).uniform(0, 100, (3, 15, 2))
    wrong, lost = truth.copy(), truth.copy()
    wrong[:, 4] += 80
    lost[:, 4] = -1
    assert pck(truth, wrong).mean()[0] == pytest.approx(14 / 15) and pck(truth, lost).mean()[0] == 1


def test_a_lone_joint_has_no_box_and_is_wrong_even_in_place():
    truth = np.ones((2, 2, 2))
    predicted = np.stack([truth[0], [[1, 1], [-1, -1]]])
    counts = pck(truth, predicted)
    assert counts.counted.tolist() == [1, 0] and counts.correct.sum() == 0


def test_joints_are_pooled_over_clips_before_they_are_averaged():
    def counts(correct, counted):
        return PckCounts(np.array([correct]), np.array(counted), np.zeros(2, int))

    total = counts([1, 0], [1, 4]) + counts([0, 4], [9, 4])
    assert total.per_joint().tolist() == [[0.1, 0.5]] and total.mean() == pytest.approx([0.3])


def test_nothing_counted_and_nothing_scored():
    lost = pck(np.ones((3, 15, 2)), np.full((3, 15, 2), -1.0))
    assert np.isnan(lost.mean()).all() and lost.lost.tolist() == [2] * 15
    assert not pck(np.ones((1, 15, 2)), np.ones((1, 15, 2))).lost.any()


def test_what_does_not_fit_is_refused():
    good = np.ones((3, 15, 2))
    for truth, predicted in ((good, good[:2]), (good, good[:, :14]), (good[0], good[0]), (good, good * np.nan)):
        with pytest.raises(UserError, match="joints must be"):
            pck(truth, predicted)
