import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lib.errors import UserError
from lib.evaluation import miou
from lib.evaluation.miou import iou_per_class, mean_iou


def confusion(truth, predicted, num_classes=20):
    return miou.confusion(truth, predicted, num_classes)


def slow_confusion(truth, predicted, num_classes):
    matrix = [[0] * num_classes for _ in range(num_classes)]
    for true, given_id in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True):
        if 0 <= true < num_classes:
            matrix[true][given_id] += 1
    return matrix


def slow_ious(truth, predicted, num_classes):
    """By sets of pixels; None for a class that is nowhere. Void pixels belong to no set."""
    counted = [index for index, true in enumerate(truth.ravel().tolist()) if 0 <= true < num_classes]
    values = []
    for k in range(num_classes):
        true = {index for index in counted if truth.flat[index] == k}
        found = {index for index in counted if predicted.flat[index] == k}
        values.append(len(true & found) / len(true | found) if true | found else None)
    return values


IDS = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        arrays(np.uint8, (n, 3), elements=st.sampled_from([*range(6), 19, 20, 254, 255])),
        arrays(np.uint8, (n, 3), elements=st.sampled_from([*range(6), 19])),
    )
)


@given(IDS)
def test_equals_slow_references(pair):
    truth, predicted = pair
    matrix = confusion(truth, predicted)
    assert matrix.dtype == np.int64 and matrix.shape == (20, 20)
    assert matrix.tolist() == slow_confusion(truth, predicted, 20)
    expected = slow_ious(truth, predicted, 20)
    values = iou_per_class(matrix)
    assert [None if np.isnan(value) else value for value in values] == pytest.approx(expected, abs=1e-12)
    present = [value for value in expected if value is not None]
    if present:
        assert mean_iou(matrix) == pytest.approx(sum(present) / len(present), abs=1e-12)


def test_by_hand():
    truth = np.array([[0, 0, 0, 1], [0, 0, 1, 1], [255, 2, 2, 1]], np.uint8)
    predicted = np.array([[0, 0, 1, 1], [0, 0, 1, 0], [1, 0, 0, 4]], np.uint8)
    matrix = confusion(truth, predicted, 5)
    # 0: 4 of 5 + 3 more predicted; 1: 2 of 4 + 1 more; 2: missed; 3: nowhere; 4: one pixel, wrong
    assert matrix.tolist() == [[4, 1, 0, 0, 0], [1, 2, 0, 0, 1], [2, 0, 0, 0, 0], [0] * 5, [0] * 5]
    values = iou_per_class(matrix)
    assert values[[0, 1, 2, 4]] == pytest.approx([4 / 8, 2 / 5, 0, 0]) and np.isnan(values[3])
    assert mean_iou(matrix) == pytest.approx((4 / 8 + 2 / 5) / 4)


@given(IDS)
def test_the_truth_scores_one_and_absent_classes_are_skipped(pair):
    truth, _ = pair
    truth = np.where(truth == 255, 0, truth)
    truth[0, 0] = 5
    matrix = confusion(truth, np.where(truth < 20, truth, 0))
    assert mean_iou(matrix) == 1
    present = set(truth[truth < 20].tolist())
    assert {k for k in range(20) if not np.isnan(iou_per_class(matrix)[k])} == present


@given(IDS, st.permutations(range(20)))
def test_renaming_the_classes_permutes_the_ious_and_keeps_the_mean(pair, order):
    truth, predicted = pair
    truth[0, 0] = 3
    renamed = np.arange(256, dtype=np.uint8)
    renamed[:20] = order
    before, after = confusion(truth, predicted), confusion(renamed[truth], renamed[predicted])
    np.testing.assert_array_equal(iou_per_class(after)[list(order)], iou_per_class(before))
    assert mean_iou(after) == pytest.approx(mean_iou(before), abs=1e-12)


@given(IDS, st.integers(0, 19))
def test_what_is_predicted_on_void_does_not_matter(pair, other):
    truth, predicted = pair
    painted = np.where(truth >= 20, other, predicted)
    np.testing.assert_array_equal(confusion(truth, predicted), confusion(truth, painted))


def test_frames_add_up_and_are_not_averaged():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 4, (2, 5, 6, 7))
    parts = [confusion(t, p) for t, p in zip(truth, predicted, strict=True)]
    np.testing.assert_array_equal(sum(parts), confusion(truth, predicted))
    assert mean_iou(sum(parts)) != pytest.approx(np.mean([mean_iou(part) for part in parts]))


def test_one_pixel_weighs_as_much_as_a_class_of_thousands():
    truth = np.zeros((100, 100), int)
    truth[40, 60] = 7
    missed, found = np.zeros_like(truth), truth.copy()
    assert mean_iou(confusion(truth, missed)) == pytest.approx((9999 / 10000 + 0) / 2)
    assert mean_iou(confusion(truth, found)) == 1
    assert mean_iou(confusion(truth, np.roll(found, 1, axis=1))) == pytest.approx((9998 / 10000 + 0) / 2)


def test_wrong_input_is_refused():
    zeros = np.zeros((2, 3), np.uint8)
    for bad, message in (
        (np.full((2, 3), 20, np.uint8), r"predicted id 20; ids must be 0\.\.19"),
        (np.full((2, 3), -1), "predicted id -1"),
        (np.full((2, 3), 255, np.uint8), "predicted id 255"),
        (np.zeros((3, 2), np.uint8), r"\(3, 2\), truth is \(2, 3\)"),
    ):
        with pytest.raises(UserError, match=message):
            confusion(zeros, bad)
    void = np.full((2, 3), 255, np.uint8)
    with pytest.raises(UserError, match="id 20"):  # even where the truth is void: the file is wrong
        confusion(void, np.full((2, 3), 20, np.uint8))
    with pytest.raises(UserError, match="every true id is void"):
        mean_iou(confusion(void, zeros))
