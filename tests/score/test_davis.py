"""J and F of prediction files, by hand and on the command line; every fault of a file is one line."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from make_davis import make_davis, moving_squares, write_png
from PIL import Image

import make
from lib.data.davis import DavisDataset
from lib.data.images import write_mask
from lib.errors import UserError
from lib.evaluation import metrics
from lib.score.__main__ import main
from lib.score.davis import score_davis

KEYS = ["J_mean", "J_recall", "J_decay", "F_mean", "F_recall", "F_decay", "JF_mean"]


def write_predictions(folder, sequences):
    for name, masks in sequences.items():
        for index, mask in enumerate(masks):
            write_mask(folder / name / f"{index:05d}.png", mask)
    return folder


@pytest.fixture
def scene(tmp_path):
    """A truth of two sequences with three objects in all, and predictions two columns too far left."""
    sequences = {"zebra": moving_squares(1, 9), "ant": moving_squares(2, 7, (48, 90))}
    truth = make_davis(tmp_path / "truth", sequences)
    predictions = {name: np.roll(masks, -2, axis=2) for name, masks in sequences.items()}
    return truth, write_predictions(tmp_path / "predictions", predictions), sequences


def files_below(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_the_truth_scores_one_and_leaves_the_data_untouched(tmp_path, scene):
    truth, _, sequences = scene
    perfect = write_predictions(tmp_path / "perfect", sequences)
    before = files_below(tmp_path)
    result = score_davis(truth, perfect)
    assert {key: result[key] for key in KEYS} == dict.fromkeys(KEYS, 1.0) | {"J_decay": 0.0, "F_decay": 0.0}
    assert files_below(tmp_path) == before


def test_scores_by_hand(scene):
    truth, predictions, _ = scene
    result = score_davis(truth, predictions)
    assert list(result["sequences"]) == ["zebra", "ant"]  # the list's order
    assert [list(objects) for objects in result["sequences"].values()] == [["1"], ["1", "2"]]
    for objects in result["sequences"].values():
        for values in objects.values():
            # squares of 8 x 10 pixels, 8 columns shared of 12 together
            assert values["J_mean"] == pytest.approx(8 / 12) and values["J_recall"] == 1
            assert values["J_decay"] == pytest.approx(0, abs=1e-12)
    flat = [values for objects in result["sequences"].values() for values in objects.values()]
    assert len(flat) == 3
    for key in KEYS[:-1]:
        assert result[key] == pytest.approx(np.mean([values[key] for values in flat]))
    assert result["JF_mean"] == pytest.approx((result["J_mean"] + result["F_mean"]) / 2)


def test_first_and_last_frame_do_not_count_and_max_frames_shortens_the_clip(scene):
    truth, predictions, sequences = scene
    reference = score_davis(truth, predictions)
    (predictions / "zebra" / "00000.png").unlink()
    (predictions / "zebra" / "00008.png").write_bytes(b"no image")
    assert score_davis(truth, predictions) == reference
    write_mask(predictions / "zebra" / "00004.png", np.zeros((40, 60), np.uint8))
    assert score_davis(truth, predictions) != reference
    assert score_davis(truth, predictions, max_frames=5) == score_davis(truth, predictions, max_frames=4)
    short = score_davis(truth, predictions, max_frames=6)["sequences"]["zebra"]["1"]
    assert short["J_recall"] == pytest.approx(3 / 4)  # frames 1..4 count, the last of them was emptied


def test_missing_objects_are_empty_masks(scene):
    truth, predictions, sequences = scene
    write_predictions(predictions, {"ant": np.where(sequences["ant"] == 2, 0, sequences["ant"])})
    objects = score_davis(truth, predictions)["sequences"]["ant"]
    assert objects["1"]["J_mean"] == objects["1"]["F_mean"] == 1
    assert objects["2"]["J_mean"] == objects["2"]["F_mean"] == 0


def test_the_number_of_workers_changes_nothing(scene):
    truth, predictions, _ = scene
    assert score_davis(truth, predictions, workers=1) == score_davis(truth, predictions, workers=4)


def test_2016_takes_grey_and_palette_predictions(tmp_path):
    masks = moving_squares(1, 5)
    truth = make_davis(tmp_path / "truth", {"dog": masks * 255}, year=2016)
    palette = write_predictions(tmp_path / "palette", {"dog": np.roll(masks, 1, axis=1)})
    for index, mask in enumerate(np.roll(masks, 1, axis=1)):
        write_png(tmp_path / "grey" / "dog" / f"{index:05d}.png", mask * 255, palette=False)
    assert score_davis(truth, palette) == score_davis(truth, tmp_path / "grey")
    assert 0.5 < score_davis(truth, palette)["J_mean"] < 1


def test_command_line(scene, tmp_path, capsys):
    truth, predictions, _ = scene
    out = tmp_path / "out" / "scores.json"
    assert main(["davis", "--truth", str(truth), "--predictions", str(predictions), "--json", str(out)]) == 0
    written, printed = json.loads(out.read_text()), capsys.readouterr().out
    assert written == score_davis(truth, predictions)
    assert list(written) == [*KEYS, "sequences"]
    for key in KEYS:
        assert re.search(rf"^{key} +{written[key]:.4f}$", printed, re.MULTILINE)
    assert len(re.findall(r"^(zebra|ant) +\d", printed, re.MULTILINE)) == 3


def test_as_a_program(scene):
    truth, predictions, _ = scene
    shutil.rmtree(predictions / "ant")
    command = [sys.executable, "-m", "lib.score", "davis", "--truth", str(truth), "--predictions", str(predictions)]
    done = subprocess.run(command, cwd=make.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert re.fullmatch(r"error: .*ant: no predictions for sequence ant.*\n", done.stderr)


Z = Path("zebra/00003.png")
BREAK = {
    "predictions: no such folder": lambda p: p.rename(p.with_name("elsewhere")),
    "zebra: no predictions for sequence zebra": lambda p: shutil.rmtree(p / "zebra"),
    r"zebra.00003.png: missing prediction of zebra \(1 missing\)": lambda p: (p / Z).unlink(),
    "00003.png: 30x20 pixels, but the annotation has 60x40": lambda p: write_mask(p / Z, np.zeros((20, 30), int)),
    r"00003.png: id 2, but the first annotation of zebra has 1 object": lambda p: write_mask(
        p / Z, np.full((40, 60), 2)
    ),
    "00003.png: id 255": lambda p: write_png(p / Z, np.full((40, 60), 255), palette=False),
    "00003.png: not a readable image": lambda p: (p / Z).write_bytes(b"no image"),
    "00003.png: damaged image": lambda p: (p / Z).write_bytes((p / Z).read_bytes()[:-30]),
    "00003.png: a mask must be .* not mode RGB": lambda p: Image.new("RGB", (60, 40), (128, 0, 0)).save(p / Z),
    "00003.png: a mask must be .* not mode I;16": lambda p: Image.fromarray(np.zeros((40, 60), np.uint16)).save(p / Z),
}


@pytest.mark.parametrize("message", BREAK)
def test_every_fault_is_one_line_and_writes_no_scores(scene, tmp_path, capsys, message):
    truth, predictions, _ = scene
    out = tmp_path / "scores.json"
    command = ["davis", "--truth", str(truth), "--predictions", str(predictions), "--json", str(out)]
    assert main(command) == 0  # whole before it is broken
    out.unlink()
    BREAK[message](predictions)
    capsys.readouterr()
    assert main(command) == 2
    printed = capsys.readouterr()
    assert re.search(message, printed.err) and printed.err.count("\n") == 1 and printed.out == ""
    assert not out.exists()


def damaged(path):
    path.write_bytes(path.read_bytes()[:-30])


TRUTH_BREAK = {
    r"zebra.00003.jpg: has no annotation \(\d of \d frames are annotated\)": lambda t, z: t.unlink(),
    "00003.png: damaged image": lambda t, z: damaged(t),
    "00003.png: not a readable image": lambda t, z: t.write_bytes(b""),
    "zebra.00003.jpg: not a readable image": lambda t, z: z.write_bytes(b"no image"),
    "00003.png: 60x40 pixels, but its frame .*00003.jpg has 30x20": lambda t, z: Image.new("RGB", (30, 20)).save(z),
    "00003.png: 30x20 pixels, but its frame .* has 60x40": lambda t, z: write_png(t, np.zeros((20, 30))),
    "00000.png: 60x40 pixels, but its frame .*00000.jpg has 90x48": lambda t, z: shutil.copy(
        z.parents[1] / "ant" / "00000.jpg", z.with_name("00000.jpg")
    ),
    r"00000.png: ids in the first frame must be 1, 2, ... without gaps, not \[2\]": lambda t, z: write_png(
        t.with_name("00000.png"), 2 * np.array(Image.open(t.with_name("00000.png")))
    ),
    r"00000.png: ids in the first frame must be .* not \[\]": lambda t, z: write_png(
        t.with_name("00000.png"), np.zeros((40, 60))
    ),
}


@pytest.mark.parametrize("message", TRUTH_BREAK)
def test_every_fault_of_the_truth_is_one_line_and_writes_no_scores(scene, tmp_path, capsys, message):
    truth, predictions, _ = scene
    out = tmp_path / "scores.json"
    frame = truth / "JPEGImages" / "480p" / "zebra" / "00003.jpg"
    TRUTH_BREAK[message](truth / "Annotations" / "480p" / "zebra" / "00003.png", frame)
    assert main(["davis", "--truth", str(truth), "--predictions", str(predictions), "--json", str(out)]) == 2
    printed = capsys.readouterr()
    assert re.search(message, printed.err) and printed.err.count("\n") == 1 and printed.out == ""
    assert not out.exists()


def test_a_truth_resized_before_scoring_equals_resized_files(scene, tmp_path, capsys):
    """The same numbers as from a data set that was resized on disk, as CropMAE and RSP do it, and from large files."""
    truth, predictions, sequences = scene
    size = (64, 84)  # no pixel's centre lies exactly between two ids

    def resized(masks):
        lines, columns = (np.arange(n) + 0.5 for n in size)
        height, width = masks.shape[1:]
        return masks[:, (lines * height / size[0]).astype(int)][:, :, (columns * width / size[1]).astype(int)]

    small = {name: np.roll(masks, -2, axis=2) for name, masks in sequences.items()}
    on_disk = make_davis(tmp_path / "resized", {name: resized(masks) for name, masks in sequences.items()})
    large = write_predictions(tmp_path / "large", {name: resized(masks) for name, masks in small.items()})
    expected = score_davis(on_disk, large)
    for folder in (predictions, large):
        result = score_davis(truth, folder, resized_truth=size)
        assert result.pop("resized_truth") == [64, 84]
        assert result == expected
    assert expected["J_mean"] != score_davis(truth, predictions)["J_mean"]
    with pytest.raises(UserError, match="84x64 pixels, but the annotation has"):
        score_davis(truth, large)
    out = tmp_path / "scores.json"
    command = ["davis", "--truth", str(truth), "--predictions", str(large), "--json", str(out)]
    assert main([*command, "--resized-truth", "64", "84"]) == 0
    assert json.loads(out.read_text()) == {**expected, "resized_truth": [64, 84]}
    assert "resized to 64 x 84 (H x W)" in capsys.readouterr().out
    with pytest.raises(UserError, match="resized_truth must be"):
        score_davis(truth, predictions, resized_truth=(0, 84))


def test_a_folder_is_no_place_for_the_result(scene, tmp_path, capsys):
    truth, predictions, _ = scene
    assert main(["davis", "--truth", str(truth), "--predictions", str(predictions), "--json", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: --json {tmp_path}: a folder; name a file\n"


def test_wrong_values_are_named(scene):
    truth, predictions, _ = scene
    for values, message in (
        ({"workers": 0}, "workers"),
        ({"max_frames": 0}, "max_frames"),
        ({"split": "vel"}, "'val'"),
    ):
        with pytest.raises(UserError, match=message):
            score_davis(truth, predictions, **values)
    with pytest.raises(UserError, match="zebra: 2 frames; at least 3"):
        score_davis(truth, predictions, max_frames=2)


def test_real_sequences(real_data, tmp_path):
    """Copying the first mask on the first frames of two real sequences, against the measures called directly."""
    root = real_data / "davis2016"
    dataset = DavisDataset(root)
    for sequence in dataset:
        shutil.copytree(sequence.sources[0].parent, tmp_path / sequence.name)
        for path in sequence.sources[:6]:
            shutil.copy(sequence.sources[0], tmp_path / sequence.name / path.name)
    result = score_davis(root, tmp_path, max_frames=6)
    masks = dataset["dog"].masks(6)
    region, _ = metrics.score_sequence(masks[1:-1], np.repeat(masks[:1], 4, axis=0), 1)
    assert result["sequences"]["dog"]["1"]["J_mean"] == pytest.approx(region.mean())
    assert len(result["sequences"]) == 10 and 0.3 < result["JF_mean"] < 0.9
