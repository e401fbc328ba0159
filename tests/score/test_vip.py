"""VIP's score against a slow scorer, by hand, and from the command line."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_vip import SIZE, make_vip, people, stems
from PIL import Image

from lib.data.vip import CLASSES, VipDataset, write_parts
from lib.errors import UserError
from lib.evaluation.features import rgb_patch_features
from lib.evaluation.masks import propagate_masks
from lib.evaluation.protocols import get_protocol
from lib.score.__main__ import main
from lib.score.vip import score_vip


def write_predictions(folder, videos):
    for name, masks in videos.items():
        for stem, mask in zip(stems(len(masks)), masks, strict=True):
            write_parts(folder / name / f"{stem}.png", mask)
    return folder


@pytest.fixture
def scene(tmp_path):
    videos = {"videos9": people(), "videos10": people(4, (16, 40))}
    truth = make_vip(tmp_path / "vip" / "VIP_Fine", videos).parent
    shifted = {name: np.roll(np.where(masks == 255, 0, masks), 1, axis=2) for name, masks in videos.items()}
    return truth, write_predictions(tmp_path / "predictions", shifted), videos


FIRST = "videos9/000000000001"
PREDICTION_FAULTS = {
    "predictions: no such folder": lambda folder: shutil.rmtree(folder),
    "videos10: no predictions for sequence videos10": lambda folder: shutil.rmtree(folder / "videos10"),
    r"000000000001.png: missing prediction of videos9 \(1 missing\)": lambda folder: (folder / f"{FIRST}.png").unlink(),
    r"000000000001.png: id 20; write class ids 0\.\.19": lambda folder: Image.fromarray(
        np.full(SIZE, 20, np.uint8)
    ).save(folder / f"{FIRST}.png"),
    "000000000001.png: id 255": lambda folder: Image.fromarray(np.full(SIZE, 255, np.uint8)).save(
        folder / f"{FIRST}.png"
    ),
    "000000000001.png: not a readable image": lambda folder: (folder / f"{FIRST}.png").write_bytes(b""),
    "000000000001.png: a mask must be .* not mode RGB": lambda folder: Image.new("RGB", SIZE, (128, 0, 0)).save(
        folder / f"{FIRST}.png"
    ),
}


@pytest.mark.parametrize("message", PREDICTION_FAULTS)
def test_every_fault_is_one_line_and_writes_no_scores(scene, tmp_path, capsys, message):
    truth, predictions, _ = scene
    out = tmp_path / "scores.json"
    command = ["vip", "--truth", str(truth), "--predictions", str(predictions), "--json", str(out)]
    assert main(command) == 0  # whole before it is broken
    out.unlink()
    PREDICTION_FAULTS[message](predictions)
    capsys.readouterr()
    assert main(command) == 2
    printed = capsys.readouterr()
    assert re.search(message, printed.err) and printed.err.count("\n") == 1 and printed.out == ""
    assert not out.exists()


# --- the score ----------------------------------------------------------------------------------------------


def slow_score(videos, predictions, start=0, stop=None):
    """Pixel by pixel, from arrays: the mean IoU and the IoU of each class that is somewhere."""
    hits, true, found = ({k: 0 for k in range(20)} for _ in range(3))
    for name, masks in videos.items():
        for mask, predicted in list(zip(masks.tolist(), predictions[name].tolist(), strict=True))[start:stop]:
            for y, row in enumerate(mask):
                for x, k in enumerate(row):
                    guess = predicted[int((y + 0.5) * len(predicted) / len(mask))][
                        int((x + 0.5) * len(predicted[0]) / len(row))
                    ]
                    if k < 20:
                        true[k] += 1
                        found[guess] += 1
                        hits[k] += guess == k
    ious = {k: hits[k] / (true[k] + found[k] - hits[k]) for k in range(20) if true[k] + found[k]}
    return sum(ious.values()) / len(ious), {CLASSES[k]: value for k, value in ious.items()}


def assert_equals_slow(result, expected):
    assert result["mIoU"] == pytest.approx(expected[0], abs=1e-6)
    assert {k: v for k, v in result["IoU"].items() if v is not None} == pytest.approx(expected[1], abs=1e-6)
    assert list(result["IoU"]) == list(CLASSES)


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([(1, 1), (2, 1), (1, 3), (0.5, 0.75)]))
def test_equals_the_slow_scorer(tmp_path_factory, seed, scale):
    """Random masks with void, rare and absent classes; predictions of the truth's size and of others."""
    rng, folder = np.random.default_rng(seed), tmp_path_factory.mktemp("vip")
    videos = {f"videos{i}": rng.choice([0, 0, 0, 1, 5, 7, 255], (3, 8, 12 + 4 * i)) for i in range(2)}
    for masks in videos.values():
        masks[1, 2, 3] = 19  # one pixel
    predictions = {
        name: rng.choice([0, 0, 1, 5, 11], (3, int(8 * scale[0]), int(masks.shape[2] * scale[1])))
        for name, masks in videos.items()
    }
    make_vip(folder / "truth", videos)
    write_predictions(folder / "predictions", predictions)
    paths = (folder / "truth", folder / "predictions")
    assert_equals_slow(score_vip(*paths), slow_score(videos, predictions))
    assert_equals_slow(score_vip(*paths, include_first=False, workers=1), slow_score(videos, predictions, 1))
    assert_equals_slow(score_vip(*paths, max_frames=2), slow_score(videos, predictions, 0, 2))


def test_by_hand(tmp_path):
    """Two videos of one frame of 4 x 6 and 2 x 2 pixels: their pixels are pooled, not their scores."""
    first, second = np.zeros((1, 4, 6), np.uint8), np.full((1, 2, 2), 3, np.uint8)
    first[0, :2, :3], first[0, 0, 5] = 3, 255
    guess = np.zeros((1, 4, 6), np.uint8)
    guess[0, :2, 1:4], guess[0, 0, 5] = 3, 7  # 7 on void alone: it never counts
    make_vip(tmp_path / "truth", {"a": first, "b": second})
    write_predictions(tmp_path / "predictions", {"a": guess, "b": np.zeros((1, 2, 2), np.uint8)})
    result = score_vip(tmp_path / "truth", tmp_path / "predictions")
    # class 3: 4 hits of 6 + 4 true and 6 predicted pixels; background: 15 hits of 17 true and 15 + 2 + 4 predicted
    assert result["IoU"]["glove"] == pytest.approx(4 / 12)
    assert result["IoU"]["background"] == pytest.approx(15 / 23)
    assert result["mIoU"] == pytest.approx((4 / 12 + 15 / 23) / 2)
    assert result["IoU"]["socks"] is None and result["frames"] == 2 and result["include_first"] is True


def test_the_truth_scores_one(scene, tmp_path):
    truth, _, videos = scene
    perfect = write_predictions(tmp_path / "perfect", {name: np.where(m == 255, 0, m) for name, m in videos.items()})
    result = score_vip(truth, perfect)
    assert result["mIoU"] == 1
    assert {name for name, value in result["IoU"].items() if value is not None} == {"background", "hat", "hair", "face"}


def test_the_first_frame_counts_unless_it_is_left_out(scene):
    truth, predictions, videos = scene
    assert score_vip(truth, predictions)["frames"] == 9
    before = score_vip(truth, predictions, include_first=False)
    assert before["frames"] == 7 and before["include_first"] is False
    for name in videos:
        (predictions / name / "000000000001.png").unlink()
    assert score_vip(truth, predictions, include_first=False) == before
    with pytest.raises(UserError, match="missing prediction"):
        score_vip(truth, predictions)
    with pytest.raises(UserError, match="no frame is left"):
        score_vip(truth, predictions, include_first=False, max_frames=1)


def test_the_number_of_workers_changes_nothing(scene):
    truth, predictions, _ = scene
    assert score_vip(truth, predictions, workers=1) == score_vip(truth, predictions, workers=3)
    for name in ("workers", "max_frames"):
        with pytest.raises(UserError, match=f"{name} must be 1 or more"):
            score_vip(truth, predictions, **{name: 0})


def test_command_line(scene, tmp_path, capsys):
    truth, predictions, _ = scene
    out = tmp_path / "out" / "scores.json"
    command = ["vip", "--truth", str(truth), "--predictions", str(predictions), "--json", str(out)]
    assert main(command) == 0
    written, printed = json.loads(out.read_text()), capsys.readouterr().out
    assert written == score_vip(truth, predictions)
    assert re.search(rf"^mIoU +{written['mIoU']:.4f}$", printed, re.MULTILINE) and "first of each video incl" in printed
    assert re.search(rf"^face +{written['IoU']['face']:.4f}$", printed, re.MULTILINE)
    assert re.search(r"^dress +absent$", printed, re.MULTILINE)
    assert main([*command, "--without-first", "--max-frames", "3", "--workers", "1"]) == 0
    assert json.loads(out.read_text()) == score_vip(truth, predictions, max_frames=3, include_first=False)


def test_end_to_end_a_late_class_is_never_predicted(scene, tmp_path):
    """Raw colours propagate parts well, yet the hat that frame 0 does not show scores 0, and void does not spread."""
    truth, _, videos = scene
    protocol = get_protocol("crw", "vip", input_size=None, radius=4)
    for sequence in VipDataset(truth):
        masks = propagate_masks(
            sequence.iter_frames(), sequence.first_mask(), rgb_patch_features(4), 4, protocol, keep_first=False
        )
        for stem, mask in zip(sequence.stems, masks, strict=True):
            write_parts(tmp_path / "tracked" / sequence.name / f"{stem}.png", mask)
    result = score_vip(truth, tmp_path / "tracked")
    assert result["IoU"]["hat"] == 0  # it is in the truth: it counts in the mean
    assert result["IoU"]["face"] > 0.5 and result["IoU"]["hair"] > 0.5
    present = [value for value in result["IoU"].values() if value is not None]
    assert len(present) == 4 and result["mIoU"] == pytest.approx(np.mean(present))
    found = {np.array(Image.open(path)).max() for path in Path(tmp_path / "tracked").rglob("*.png")}
    assert max(found) <= 13
