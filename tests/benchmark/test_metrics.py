"""The benchmark of scoring: its reference is right, its data are what they claim, its numbers are measured."""

import argparse

import numpy as np
import pytest
from make_davis import make_davis, moving_squares

from lib.benchmark import __main__ as command
from lib.benchmark import metrics
from lib.errors import UserError
from lib.evaluation.metrics import score_sequence


def options(*words):
    parser = argparse.ArgumentParser()
    metrics.add_arguments(parser)
    return parser.parse_args(words)


# --- The reference ---


def test_the_reference_by_hand():
    truth, predicted = np.zeros((3, 40, 60), np.uint8), np.zeros((3, 40, 60), np.uint8)
    truth[0, 5:15, 5:15] = predicted[0, 5:15, 10:20] = 1  # 100 pixels each, 50 shared
    truth[1, 5:15, 5:15] = 1  # missed; in frame 2 there is nothing to find
    region, boundary = metrics.reference_scores(truth, predicted, 1)
    np.testing.assert_allclose(region, [[50 / 150, 0, 1]])
    # tolerance: 1 pixel. Each outline is a ring of 40 pixels, columns 4..14 and 9..19. Of the truth's upper and of its
    # lower line, columns 8..14 are matched (7 each), of its sides the right one's two ends (5, 14) and (13, 14)
    np.testing.assert_allclose(boundary, [[16 / 40, 0, 1]])


def test_the_reference_and_the_product_agree():
    masks = metrics.moving_blobs(np.random.default_rng(3), 4, 4, (120, 200))
    late = metrics.one_frame_late(masks, 4)
    expected, found = metrics.reference_scores(masks, late, 4), score_sequence(masks, late, 4)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert 0.3 < np.mean(expected[0][:, 1:]) < 0.999


# --- Its data ---


@pytest.mark.parametrize("num_objects", [1, 5, 24])
def test_blobs_move_and_all_start_in_sight(num_objects):
    masks = metrics.moving_blobs(np.random.default_rng(0), 3, num_objects, (96, 160))
    assert np.unique(masks[0]).tolist() == list(range(num_objects + 1))
    assert all((a != b).any() for a, b in zip(masks, masks[1:], strict=False))
    np.testing.assert_array_equal(masks, metrics.moving_blobs(np.random.default_rng(0), 3, num_objects, (96, 160)))


def test_a_late_prediction_knows_no_new_object():
    masks = np.array([[[0, 1]], [[1, 2]], [[2, 2]]], np.uint8)
    assert metrics.one_frame_late(masks, 1).tolist() == [[[0, 1]], [[0, 1]], [[1, 0]]]


# --- The whole ---

SMALL = ("--max-frames", "4", "--sequences", "2", "--objects", "2", "--size", "60", "90", "--rounds", "1")


def test_the_benchmark_measures_both_ways(capsys):
    result = metrics.run(options(*SMALL, "--compared", "2"))
    assert result["frame_objects"] == 2 * 2 * 2 and result["pixels"] == "60x90"
    assert result["largest_difference_J"] <= 1e-12 and result["largest_difference_F"] <= 1e-12
    assert 0 < result["mean_J"] < 1
    assert result["ratio"] == result["reference_seconds"] / result["score_sequence_seconds"]
    assert min(value for name, value in result.items() if "seconds" in name) > 0
    command.show(result)
    printed = capsys.readouterr().out
    assert all(name in printed for name in result)


def test_a_wrong_score_would_show(monkeypatch):
    def wrong(*pair):
        region, boundary = score_sequence(*pair)
        return region, boundary + 0.25

    monkeypatch.setattr(metrics, "score_sequence", wrong)
    result = metrics.run(options(*SMALL))
    assert result["largest_difference_J"] == 0 and result["largest_difference_F"] == pytest.approx(0.25)


def test_a_davis_folder_takes_the_place_of_the_blobs(tmp_path):
    make_davis(tmp_path, {"one": moving_squares(2), "two": moving_squares(1, frames=5)})
    before = sorted(tmp_path.rglob("*"))
    result = metrics.run(options("--davis", str(tmp_path), "--rounds", "1", "--compared", "9"))
    assert result["frame_objects"] == 6 * 2 + 3 and result["pixels"] == "40x60"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("option", ["--rounds", "--compared", "--sequences", "--objects", "--max-frames"])
def test_options_that_leave_nothing_are_refused(option):
    with pytest.raises(UserError, match=f"{option} must be . or more, not 0"):
        metrics.run(options(option, "0"))
