"""JHMDB's result files written and read, clips scored, and scores on the command line."""

import json
import pickle
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from make_jhmdb import SIZE, add_clip, joints_of, make_jhmdb, refused
from PIL import Image
from scipy.io import savemat

from lib.data.jhmdb import JOINTS, JhmdbDataset
from lib.evaluation.features import rgb_patch_features
from lib.evaluation.keypoints import cells_to_joints, copy_first_joints, joints_to_cells, propagate_joints
from lib.evaluation.pck import pck
from lib.evaluation.protocols import get_protocol
from lib.score.__main__ import main
from lib.score.jhmdb import GRID, print_jhmdb, read_joints, score_jhmdb, split_argument, write_joints
from lib.toyworld import ToyWorldOptions, ensure_toy_world


@pytest.fixture
def root(tmp_path) -> Path:
    return make_jhmdb(tmp_path / "jhmdb")


def write_cells(path: Path, joints: np.ndarray, size: tuple[int, int], grid: int) -> None:
    """A result file of another grid than ours."""
    write_joints(path, joints * grid / GRID, size)


# --- Result files ---


def test_result_files_hold_cells_of_the_stated_grid_and_come_back_as_pixels(tmp_path):
    joints = joints_of(3)
    joints[2, 4] = [-7, 3]
    path = tmp_path / "results" / "0.dat"
    write_cells(path, joints, SIZE, grid=10)
    stored = np.load(path, allow_pickle=True)  # as the published scorers read it
    assert stored.shape == (2, 15, 5) and stored.dtype == np.float32
    np.testing.assert_allclose(stored[:, 0, 0], joints[0, 0] * [10 / 40, 10 / 24], rtol=1e-6)
    assert stored[:, 4, 2].tolist() == [-1, -1]
    joints[2, 4] = -1
    np.testing.assert_allclose(read_joints(path, SIZE, grid=10), joints, rtol=1e-6)
    assert [file.name for file in path.parent.iterdir()] == ["0.dat"]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f8", "<i8", "<f2"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickled_arrays_are_read(tmp_path, protocol, kind, order):
    cells = np.random.default_rng(0).integers(0, 20, (2, 15, 6)).astype(kind, order=order)
    path = tmp_path / "0.dat"
    path.write_bytes(pickle.dumps(cells, protocol=protocol))
    np.testing.assert_array_equal(read_joints(path, (20, 20)), cells.transpose(2, 1, 0))
    turned = np.ascontiguousarray(cells.transpose(2, 0, 1)).transpose(1, 2, 0)  # in neither order
    path.write_bytes(pickle.dumps(turned, protocol=protocol))
    np.testing.assert_array_equal(read_joints(path, (20, 20)), cells.transpose(2, 1, 0))
    cells.dump(path)
    np.testing.assert_array_equal(read_joints(path, (20, 20)), cells.transpose(2, 1, 0))
    path.write_bytes(path.read_bytes().replace(b"numpy._core.", b"numpy.core."))  # as NumPy 1 writes it
    np.testing.assert_array_equal(read_joints(path, (20, 20)), cells.transpose(2, 1, 0))


class Attack:
    """Unpickled without care, this creates a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_malicious_pickle_is_refused_and_does_nothing(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "0.dat"
    hidden = np.empty(1, dtype=object)
    hidden[0] = Attack(victim)
    named = b"\x80\x02cbuiltins\nexec\nX\x05\x00\x00\x001 + 1\x85R."
    dotted = b"\x80\x04\x8c\x05numpy\x8c\x12ndarray.__reduce__\x93."
    for data in (
        pickle.dumps(Attack(victim)),
        pickle.dumps([Attack(victim)], 2),
        pickle.dumps(hidden, 2),
        named,
        dotted,
    ):
        path.write_bytes(data)
        assert re.search("it asks for|element type", refused(lambda: read_joints(path, SIZE), str(path)))
    np.save(tmp_path / "0.npy", hidden)
    (tmp_path / "0.npy").replace(path)
    refused(lambda: read_joints(path, SIZE), str(path), "allow_pickle=False")
    assert not victim.exists()
    pickle.loads(pickle.dumps(Attack(victim)))
    assert victim.exists()  # the attack works where nothing stops it


def test_damaged_and_other_result_files_are_refused(tmp_path):
    path = tmp_path / "0.dat"
    good = np.ones((2, 15, 5), np.float32)
    good.dump(path)
    dumped = path.read_bytes()
    np.save(tmp_path / "x.npy", good)
    saved = (tmp_path / "x.npy").read_bytes()
    damaged = [
        b"",
        b"text",
        dumped[:-40],
        dumped[:60],
        saved[:-10],
        saved[:40],
        pickle.dumps("text"),
        pickle.dumps([1]),
    ]
    damaged.append(dumped.replace(b"f4", b"O8"))
    damaged.append(dumped.replace(b"K\x0f", b"K\x0e"))  # 14 joints announced, 15 stored
    for data in damaged:
        path.write_bytes(data)
        refused(lambda: read_joints(path, SIZE), str(path))
    for array, mention in (
        (np.ones((2, 5, 15), np.float32), "15"),
        (np.ones((15, 2, 5), np.float32), "15"),
        (np.ones((2, 15), np.float32), "15"),
        (np.full((2, 15, 5), np.nan), "finite"),
        (np.full((2, 15, 5), 39.0), "39"),  # a file of a grid of 40
    ):
        array.dump(path)
        refused(lambda: read_joints(path, SIZE, grid=20), str(path), mention)
    refused(lambda: read_joints(tmp_path / "1.dat", SIZE), "1.dat")
    for array in (np.zeros((2, 15, 5)), np.full((5, 15, 2), np.inf), np.zeros((0, 15, 2))):
        refused(partial(write_joints, tmp_path / "new.dat", array, SIZE), "new.dat")
    assert not (tmp_path / "new.dat").exists()


# --- Scores ---


def write_all(root: Path, folder: Path, predict, split=1) -> Path:
    """One result file a clip: `predict(clip)` gives (T, 15, 2)."""
    for index, clip in enumerate(JhmdbDataset(root, split)):
        write_joints(folder / f"{index}.dat", predict(clip), SIZE)
    return folder


def test_the_score_pools_clips_and_reports_what_was_lost(root, tmp_path, capsys):
    def predict(clip):
        joints = clip.joints()
        if clip.name == "b":
            joints[:, 3] += 2.0  # about 2.8 pixels off; the box's 0.06 is at most 2
            joints[2:, 5] = -1
        joints[:, 7] = -1
        return joints

    result = score_jhmdb(root, write_all(root, tmp_path / "out", predict))
    joints = [result["joints"][name] for name in JOINTS]
    assert joints[0] == {"PCK@0.1": 1.0, "PCK@0.2": 1.0, "counted": 12, "lost": 0}
    assert joints[3]["PCK@0.1"] == pytest.approx(2 / 3) and joints[3]["counted"] == 12
    assert joints[5] == {"PCK@0.1": 1.0, "PCK@0.2": 1.0, "counted": 9, "lost": 3}
    assert joints[7] == {"PCK@0.1": None, "PCK@0.2": None, "counted": 0, "lost": 12}
    assert result["PCK@0.1"] == pytest.approx((13 + 2 / 3) / 14)
    assert result["lost_joints"] == {"count": 15, "share": pytest.approx(15 / 180)}
    assert {name: values["lost"] for name, values in result["clips"].items()} == {"Goal!_(x)": 4, "b": 7, "a": 4}
    assert result["clips"]["b"]["PCK@0.1"] == pytest.approx(13 / 14) and result["clips"]["a"]["PCK@0.1"] == 1
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    print_jhmdb(result)
    printed = capsys.readouterr().out
    assert re.search(r"^right elbow +- +- +0 +12$", printed, re.M) and "PCK@0.1     0.9762" in printed
    assert "lost joints 15 (8.33%), skipped; 3 clips" in printed


def test_the_number_of_frames_can_be_limited(root, tmp_path):
    def predict(clip):
        return np.concatenate([clip.joints()[:3], np.full((2, 15, 2), 1.0)])

    folder = write_all(root, tmp_path / "out", predict)
    assert score_jhmdb(root, folder)["PCK@0.2"] < 0.9
    result = score_jhmdb(root, folder, max_frames=3)
    assert result["PCK@0.1"] == 1 and result["joints"]["neck"]["counted"] == 6
    refused(lambda: score_jhmdb(root, folder, max_frames=1), "max_frames 1")


def test_the_grid_only_changes_the_unit(root, tmp_path):
    for grid in (20, 40):
        for index, clip in enumerate(JhmdbDataset(root)):
            write_cells(tmp_path / str(grid) / f"{index}.dat", clip.joints() + 1, SIZE, grid)
    a, b = (score_jhmdb(root, tmp_path / str(grid), grid=grid) for grid in (20, 40))
    assert a.pop("grid") == 20 and b.pop("grid") == 40 and a == b and a["PCK@0.1"] > 0
    refused(lambda: score_jhmdb(root, tmp_path / "40", grid=20), "grid is 20")
    refused(lambda: score_jhmdb(root, tmp_path / "40", grid=0), "grid 0")


def test_results_of_another_split_or_order_are_refused(root, tmp_path):
    folder = write_all(root, tmp_path / "out", lambda clip: clip.joints())
    refused(lambda: score_jhmdb(root, folder, split=None), "3.dat", "4 clips")
    refused(lambda: score_jhmdb(root, folder, split=2), "1.dat", "1 clips")
    refused(lambda: score_jhmdb(root, tmp_path / "gone"), "gone")
    for frames in (4, 6):
        write_joints(folder / "1.dat", joints_of(0, frames), SIZE)
        refused(lambda: score_jhmdb(root, folder), "1.dat", f"{frames} frames", "clip b")
    write_all(root, folder, lambda clip: np.full((5, 15, 2), -1.0))
    refused(lambda: score_jhmdb(root, folder), "no joint")


def test_images_without_annotation_are_not_scored(root, tmp_path):
    add_clip(root, "jump", "d", joints_of(9, 3), images=4)
    listing = tmp_path / "list.txt"
    listing.write_text("Rename_Images/jump/d\n")
    write_joints(tmp_path / "out" / "0.dat", np.concatenate([joints_of(9, 3), np.ones((1, 15, 2))]), SIZE)
    result = score_jhmdb(root, tmp_path / "out", split=listing)
    assert result["PCK@0.1"] == 1 and result["joints"]["neck"]["counted"] == 2


def test_split_argument():
    assert split_argument("2") == 2 and split_argument("all") is None
    assert split_argument("lists/val.txt") == Path("lists/val.txt")


def test_jhmdb_on_the_command_line(tmp_path, capsys):
    """Two clips of 4 frames of 24 x 40; the files of one are right, of the other 30 pixels off."""
    root, out = tmp_path / "jhmdb", tmp_path / "scores.json"
    joints = np.random.default_rng(0).uniform(1, 9, (4, 15, 2)).round()
    for index, name in enumerate(("a", "b")):
        images = root / "Rename_Images" / "walk" / name
        images.mkdir(parents=True)
        for t in range(4):
            Image.new("RGB", (40, 24)).save(images / f"{t + 1:05d}.png")
        (root / "joint_positions" / "walk" / name).mkdir(parents=True)
        savemat(root / "joint_positions" / "walk" / name / "joint_positions.mat", {"pos_img": joints.T + 1})
        write_cells(tmp_path / "results" / f"{index}.dat", joints + [30 * index, 0], (24, 40), grid=40)
    (root / "splits").mkdir()
    (root / "splits" / "walk_test_split2.txt").write_text("a.avi 2\nb.avi 2\n")
    command = ["jhmdb", "--truth", str(root), "--predictions", str(tmp_path / "results"), "--json", str(out)]
    assert main([*command, "--split", "2", "--grid", "40"]) == 0
    written = json.loads(out.read_text())
    assert written == score_jhmdb(root, tmp_path / "results", split=2, grid=40) and written["PCK@0.1"] == 0.5
    assert re.search(r"^PCK@0.1 +0.5000$", capsys.readouterr().out, re.MULTILINE)
    assert main([*command, "--split", "all", "--grid", "40", "--max-frames", "2"]) == 0
    assert json.loads(out.read_text())["joints"]["neck"]["counted"] == 2
    out.unlink()
    assert main(command) == 2  # there is no split 1
    printed = capsys.readouterr()
    assert re.match("error: unknown split .* choose one of 2", printed.err) and printed.err.count("\n") == 1
    assert not out.exists()


# --- The whole way ---


def test_the_toy_world_is_tracked_and_scored(tmp_path):
    options = ToyWorldOptions(datasets=("jhmdb",), height=72, width=96, small_clips=2, small_frames=25)
    root = ensure_toy_world(tmp_path / "world", options, workers=1) / "jhmdb"
    protocol = get_protocol("cropmae", "jhmdb", input_size=(96, 96))
    dataset = JhmdbDataset(root)
    trackers = {
        "copy": lambda clip: copy_first_joints(clip.iter_frames(8), clip.joints()[0]),
        "pixels": lambda clip: propagate_joints(
            clip.iter_frames(8), clip.joints()[0], rgb_patch_features(8), 8, protocol
        ),
    }
    results = {}
    for name, track in trackers.items():
        for index, clip in enumerate(dataset):
            joints = np.stack(list(track(clip)))
            assert joints.shape == (8, 15, 2)
            write_joints(tmp_path / name / f"{index}.dat", joints, clip.frame(0).shape[:2])
        results[name] = score_jhmdb(root, tmp_path / name, max_frames=8)
    outside = [(clip.joints()[0] < 0).any(axis=1).sum() for clip in dataset]
    assert sum(outside) == 1  # the toy world's bad item
    assert results["copy"]["lost_joints"]["count"] == 7
    for result in results.values():
        assert 0.2 < result["PCK@0.1"] <= result["PCK@0.2"] <= 1


def test_the_real_clip_reaches_the_known_ceiling(real_data):
    """What is left when the truth itself passes through the cells: the limit for any tracker on that grid."""
    (clip,) = JhmdbDataset(real_data / "jhmdb", split=None)
    truth, size = clip.joints(), clip.frame(0).shape[:2]
    assert truth.shape == (40, 15, 2) and size == (240, 320) and len(clip) == 40

    def ceiling(side: int, top_cells: int) -> float:
        cells = [cells_to_joints(joints_to_cells(joints, size, (side, side)), top_cells) for joints in truth]
        return 100 * pck(truth, np.stack(cells) * (320 / side, 240 / side)).mean()[0]

    assert [round(ceiling(side, 1), 1) for side in (20, 40)] == [95.6, 100.0]
    # five cells are the peak and its four neighbours, alike on both sides; three pull the joint aside
    assert [round(ceiling(20, top_cells), 1) for top_cells in (3, 5)] == [88.5, 95.6]


def test_the_real_clip_is_tracked_by_its_pixels(real_data):
    (clip,) = JhmdbDataset(real_data / "jhmdb", split=None)
    truth = clip.joints(6)
    tracked = propagate_joints(clip.iter_frames(6), truth[0], rgb_patch_features(8), 8, get_protocol("crw", "jhmdb"))
    tracked = np.stack(list(tracked))
    copied = np.stack(list(copy_first_joints(clip.iter_frames(6), truth[0])))
    assert tracked.shape == truth.shape and (tracked >= 0).all() and (tracked <= (320, 240)).all()
    near, far = (pck(truth, joints).mean()[1] for joints in (tracked, copied))
    assert near > far + 0.2, "a goalkeeper jumps: his pixels find him better than his first place does"
