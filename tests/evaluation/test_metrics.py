import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import binary_dilation

from lib.data.davis import DavisDataset
from lib.errors import UserError
from lib.evaluation import metrics

# --- An independent, slow reading of the same definitions ---


def slow_region(truth, predicted):
    union = int(np.sum(truth | predicted))
    return 1.0 if union == 0 else int(np.sum(truth & predicted)) / union


def slow_boundary_map(mask):
    height, width = mask.shape
    result = np.zeros((height, width), dtype=bool)
    for y in range(height):
        for x in range(width):
            neighbours = []
            if x + 1 < width:
                neighbours.append((y, x + 1))
            if y + 1 < height:
                neighbours.append((y + 1, x))
            if x + 1 < width and y + 1 < height:
                neighbours.append((y + 1, x + 1))
            result[y, x] = any(mask[y, x] != mask[other] for other in neighbours)
    return result


def slow_boundary(truth, predicted):
    radius = math.ceil(0.008 * math.sqrt(truth.shape[0] ** 2 + truth.shape[1] ** 2))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = x**2 + y**2 <= radius**2
    a, b = slow_boundary_map(truth), slow_boundary_map(predicted)
    if a.sum() == 0 or b.sum() == 0:
        return float(a.sum() == b.sum())
    recall = (a & binary_dilation(b, disc)).sum() / a.sum()
    precision = (b & binary_dilation(a, disc)).sum() / b.sum()
    return 0.0 if recall + precision == 0 else 2 * precision * recall / (precision + recall)


def slow_statistics(values):
    values = [float(value) for value in values]
    edges = [math.floor(1 + k * (len(values) - 1) / 4 + 1e-10 + 0.5) - 1 for k in (0, 1, 3, 4)]
    first, last = values[edges[0] : edges[1] + 1], values[edges[2] : edges[3] + 1]
    mean = sum(values) / len(values)
    recall = sum(value > 0.5 for value in values) / len(values)
    return mean, recall, sum(first) / len(first) - sum(last) / len(last)


def slow_scores(truth, predicted, num_objects):
    pairs = [(truth == k, predicted == k) for k in range(1, num_objects + 1)]
    region = [[slow_region(t, p) for t, p in zip(*pair, strict=True)] for pair in pairs]
    boundary = [[slow_boundary(t, p) for t, p in zip(*pair, strict=True)] for pair in pairs]
    return np.array(region), np.array(boundary)


small_masks = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
    lambda size: st.tuples(*[arrays(np.uint8, (2, *size), elements=st.integers(0, 3))] * 2)
)


def blobs(rng, frames, size, num_objects=3):
    """Discs at random places, some cut by the border, some on top of others, some missing."""
    y, x = np.mgrid[: size[0], : size[1]]
    masks = np.zeros((frames, *size), dtype=np.uint8)
    for mask in masks:
        for k in range(1, num_objects + 1):
            centre, radius = rng.uniform((-5, -5), (size[0] + 5, size[1] + 5)), rng.uniform(1, max(size) / 4)
            mask[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2] = k
    return masks


# --- Against it ---


@given(small_masks)
def test_small_masks_agree_with_the_slow_reading(masks):
    fast, slow = metrics.score_sequence(*masks, 3), slow_scores(*masks, 3)
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(60, 90), (130, 160), (250, 1), (1, 380)])  # tolerances of 1, 2, 2 and 4 pixels
def test_large_masks_agree_with_the_slow_reading(size):
    rng = np.random.default_rng(0)
    truth = blobs(rng, 4, size)
    predicted = np.where(rng.random(truth.shape) < 0.02, 1, np.roll(truth, (0, 1, 2), (0, 1, 2)))
    fast, slow = metrics.score_sequence(truth, predicted, 3), slow_scores(truth, predicted, 3)
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-12)
    assert 0.05 < np.mean(fast) < 0.95  # neither trivially right nor wrong


@pytest.mark.parametrize("num_objects", [8, 9, 17])  # eight objects share a pass: the ninth and the 17th open one
def test_many_objects_agree_with_the_slow_reading(num_objects):
    rng = np.random.default_rng(num_objects)
    truth = blobs(rng, 1, (80, 110), num_objects)
    predicted = np.roll(truth, (0, 2, 1), (0, 1, 2))
    truth[:, :9, :9] = 200  # more than the first frame shows: background
    scores, slow = metrics.score_sequence(truth, predicted, num_objects), slow_scores(truth, predicted, num_objects)
    np.testing.assert_allclose(scores, slow, rtol=0, atol=1e-12)
    assert 0.05 < np.mean(scores) < 0.95


@given(small_masks, st.sampled_from([np.int16, np.int64, np.uint16]))
def test_the_integer_type_does_not_matter(masks, dtype):
    np.testing.assert_array_equal(
        metrics.score_sequence(*masks, 3), metrics.score_sequence(*(m.astype(dtype) for m in masks), 3)
    )


@given(small_masks)
def test_every_object_scores_as_if_it_were_alone(masks):
    together = metrics.score_sequence(*masks, 3)
    for k in (1, 2, 3):
        alone = metrics.score_sequence(*((m == k).astype(np.uint8) for m in masks), 1)
        np.testing.assert_array_equal([values[k - 1 : k] for values in together], alone)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=130))
def test_statistics_agree_with_the_slow_reading(values):
    np.testing.assert_allclose(metrics.statistics(np.array(values)), slow_statistics(values), rtol=0, atol=1e-12)


# Six statistics of real sequences' first 12 frames, written down from the slow reading above (its loops take minutes).
GOLDEN = {
    ("blackswan", "copied"): [
        0.6859394461717148,
        1.0,
        0.27864098227151857,
        0.567191565731963,
        0.3,
        0.45771015469832704,
    ],
    ("blackswan", "shifted"): [0.8827395376544065, 1.0, 0.0006250145153261499, 1.0, 1.0, 0.0],
    ("breakdance", "copied"): [
        0.49477836836680666,
        0.4,
        0.3184762996678655,
        0.42501969147460095,
        0.3,
        0.3927583117079428,
    ],
    ("breakdance", "shifted"): [
        0.8484748832475557,
        1.0,
        -0.017551919980361208,
        0.9989297075904935,
        1.0,
        -0.0007913479293062409,
    ],
}


def shifted(masks, rows, columns):
    result = np.zeros_like(masks)
    result[:, rows:, columns:] = masks[:, :-rows, :-columns]
    return result


@pytest.mark.parametrize("name, prediction", GOLDEN)
def test_golden_numbers_of_real_masks(real_data, name, prediction):
    masks = DavisDataset(real_data / "davis2016")[name].masks(12)
    predicted = shifted(masks, 3, 5) if prediction == "shifted" else np.repeat(masks[:1], 12, axis=0)
    scores = metrics.score_sequence(masks[metrics.SCORED], predicted[metrics.SCORED], 1)
    (found,) = metrics.object_statistics(*scores)
    np.testing.assert_allclose(list(found.values()), GOLDEN[name, prediction], rtol=0, atol=1e-9)


# --- What must hold for any masks ---


@given(small_masks)
def test_the_truth_itself_scores_one(masks):
    region, boundary = metrics.score_sequence(masks[0], masks[0], 3)
    assert region.shape == boundary.shape == (3, 2) and np.all(region == 1) and np.all(boundary == 1)


@given(small_masks, st.permutations([1, 2, 3]))
def test_renaming_the_objects_renames_the_scores(masks, order):
    names = np.array([0, *order], dtype=np.uint8)
    before, after = metrics.score_sequence(*masks, 3), metrics.score_sequence(*(names[m] for m in masks), 3)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new[names[1:] - 1])


@given(small_masks)
def test_scores_are_symmetric_fractions(masks):
    forth, back = metrics.score_sequence(*masks, 3), metrics.score_sequence(*masks[::-1], 3)
    for a, b in zip(forth, back, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
        assert np.all((a >= 0) & (a <= 1))


def test_memory_is_a_few_frames_whatever_the_length():
    rng = np.random.default_rng(0)
    masks = np.stack([blobs(rng, 40, (120, 160), 6), blobs(rng, 40, (120, 160), 6)])
    tracemalloc.start()
    metrics.score_sequence(*masks, 6)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * masks[0, 0].nbytes  # 10 measured; all objects apart would take 480


# --- By hand ---


def test_boundary_of_a_square_by_hand():
    mask = np.zeros((6, 6), bool)
    mask[2:4, 2:4] = True
    expected = np.array(
        [
            [0, 0, 0, 0, 0, 0],
            [0, 1, 1, 1, 0, 0],
            [0, 1, 0, 1, 0, 0],
            [0, 1, 1, 1, 0, 0],
            [0, 0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0, 0],
        ],
        dtype=bool,
    )
    np.testing.assert_array_equal(metrics.boundary_map(mask), expected)
    assert not metrics.boundary_map(np.ones((6, 6), bool)).any()  # outside the image there is nothing to differ from


def test_region_by_hand():
    truth, predicted = np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8)
    truth[:, :2] = 1  # 8 pixels
    predicted[:, 1:3] = 1  # 8 pixels, 4 shared
    predicted[0, 3] = 2
    np.testing.assert_allclose(metrics.region_similarity(truth, predicted, 3), [4 / 12, 0, 1])


@pytest.mark.parametrize(
    "height, width, pixels", [(480, 854, 8), (480, 880, 9), (480, 910, 9), (480, 1152, 10), (9, 9, 1)]
)
def test_tolerance_grows_with_the_image(height, width, pixels):
    assert metrics.boundary_tolerance(height, width) == pixels


def test_tolerance_is_a_disc_and_includes_its_edge():
    truth = np.zeros((480, 854), np.uint8)
    truth[240, 400] = 1
    for shift, within in (((0, 8), True), ((0, 10), False), ((5, 6), True), ((7, 8), False)):
        # a single pixel's boundary is a 2x2 square, so of a shift by (0, 8) all four, of (0, 10) none are matched
        value = metrics.boundary_accuracy(truth == 1, np.roll(truth, shift, (0, 1)) == 1, 1)
        assert (value == 1) if within else (value < 1), (shift, value)
    assert metrics.boundary_accuracy(truth == 1, np.roll(truth, (0, 10), (0, 1)) == 1, 1) == 0


def test_empty_and_vanished_objects():
    truth = np.zeros((3, 30, 40), np.uint8)
    truth[:2, 5:9, 5:9] = 1  # object 1 is gone in the last frame; object 2 never shows
    predicted = np.zeros_like(truth)
    predicted[0, 5:9, 5:9] = 1
    region, boundary = metrics.score_sequence(truth, predicted, 2)
    assert region.tolist() == boundary.tolist() == [[1, 0, 1], [1, 1, 1]]
    predicted[2, 0, 0] = 1  # seen where it is not
    region, boundary = metrics.score_sequence(truth, predicted, 2)
    assert region[0, 2] == boundary[0, 2] == 0


def test_one_pixel_objects_in_every_corner():
    for y, x in ((0, 0), (0, 9), (9, 0), (9, 9)):
        truth = np.zeros((1, 10, 10), np.uint8)
        truth[0, y, x] = 1
        far = np.zeros_like(truth)
        far[0, 5, 5] = 1
        assert metrics.score_sequence(truth, truth, 1) == ([[1]], [[1]])
        assert metrics.score_sequence(truth, far, 1) == ([[0]], [[0]])


def test_an_object_that_appears_later_is_background_of_the_truth():
    truth = np.zeros((1, 8, 8), np.uint8)
    truth[0, 2:4, 2:4], truth[0, 5:7, 5:7] = 1, 2
    region, boundary = metrics.score_sequence(truth, np.where(truth == 2, 0, truth), 1)
    assert region.tolist() == boundary.tolist() == [[1]]


def test_predictions_that_do_not_fit_are_refused():
    truth = np.zeros((2, 4, 4), np.uint8)
    with pytest.raises(UserError, match="id -1"):
        metrics.score_sequence(truth, truth.astype(np.int64) - 1, 1)
    with pytest.raises(UserError, match="id 2.*1 object"):
        metrics.score_sequence(truth, truth + 2, 1)
    with pytest.raises(UserError, match=r"\(2, 4, 5\).*\(2, 4, 4\)"):
        metrics.score_sequence(truth, np.zeros((2, 4, 5), np.uint8), 1)


def test_statistics_by_hand():
    values = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])  # quarters 0-2, 2-4, 4-6, 6-8
    np.testing.assert_allclose(metrics.statistics(values), (0.5, 4 / 9, 0.8 - 0.2))


def test_a_clip_of_more_than_256_frames_keeps_its_last_quarter():
    values = np.concatenate([np.ones(300), np.zeros(100)])
    assert metrics.statistics(values)[2] == pytest.approx(1, abs=0.02)


def test_the_summary_weighs_objects_not_sequences():
    one = metrics.object_statistics(np.ones((1, 5)), np.ones((1, 5)))
    two = metrics.object_statistics(np.zeros((2, 5)), np.full((2, 5), 0.25))
    total = metrics.summary(one + two)
    assert total["J_mean"] == pytest.approx(1 / 3) and total["F_mean"] == pytest.approx(0.5)
    assert total["JF_mean"] == pytest.approx((1 / 3 + 0.5) / 2) and total["J_decay"] == 0
