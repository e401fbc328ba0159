"""Predictions of whole data sets: their values, formats and scores; killed runs, damaged data, full disks."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from make_davis import make_davis, moving_squares, write_png
from make_vip import colours, make_vip, people
from PIL import Image
from scipy.io import savemat

from lib.data.davis import DavisDataset
from lib.data.images import read_mask
from lib.data.jhmdb import JhmdbDataset
from lib.data.sequences import MaskSequence
from lib.data.vip import VipDataset
from lib.errors import UserError
from lib.evaluation.features import FRAMES_AT_ONCE, rgb_patch_features
from lib.evaluation.keypoints import copy_first_joints, propagate_joints
from lib.evaluation.masks import copy_first_mask, propagate_masks
from lib.evaluation.protocols import get_protocol
from lib.runtime import REPO_ROOT, atomic_path, write_json
from lib.score.davis import score_davis
from lib.score.jhmdb import read_joints, score_jhmdb
from lib.score.tracking import fingerprint, track_joints, track_masks, track_parts
from lib.score.vip import score_vip

NAMES = ["zebra", "ant", "bear"]
PROTOCOL = get_protocol("dino", input_size=(40, 60), radius=3)
SETTINGS = {"protocol": "dino", "input_size": (40, 60)}
tracker = partial(propagate_masks, feature_fn=rgb_patch_features(4), patch_size=4, protocol=PROTOCOL)


def davis(root: Path, frames: int = 5) -> DavisDataset:
    """Three sequences of two objects, not in alphabetical order; each begins a little later in the motion."""
    masks = moving_squares(2, frames + 2)
    make_davis(root, {name: masks[i : i + frames] for i, name in enumerate(NAMES)})
    for i, name in enumerate(NAMES):
        for t in range(frames):
            Image.fromarray(colours(masks[i + t])).save(root / f"JPEGImages/480p/{name}/{t:05d}.jpg", quality=95)
    return DavisDataset(root)


@pytest.fixture
def dataset(tmp_path) -> DavisDataset:
    return davis(tmp_path / "davis")


def counting(calls: list, inner=tracker):
    """The tracker, noting the first masks that it is called with."""

    def track(frames, first_mask):
        calls.append(first_mask)
        return inner(frames, first_mask)

    return track


def contents(folder: Path) -> dict[str, bytes]:
    """Everything below a folder, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def one_line(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# --- What is written ---


def test_masks_are_those_of_the_direct_propagation(dataset, tmp_path):
    folder = track_masks(dataset, tracker, tmp_path / "out", SETTINGS)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*NAMES, "settings.json"])
    assert json.loads((folder / "settings.json").read_text()) == {
        "protocol": "dino", "input_size": [40, 60], "max_frames": None,
    }  # fmt: skip
    for sequence in dataset:
        direct = list(tracker(sequence.frames(), sequence.mask(0)))
        assert sorted(path.stem for path in (folder / sequence.name).iterdir()) == list(sequence.stems)
        for stem, mask in zip(sequence.stems, direct, strict=True):
            np.testing.assert_array_equal(read_mask(folder / sequence.name / f"{stem}.png"), mask)
        assert Image.open(folder / sequence.name / "00000.png").mode == "P"
        assert not np.array_equal(direct[0], direct[-1])  # the objects move, or a copy would pass


def test_written_masks_are_scored(dataset, tmp_path):
    copied = score_davis(dataset.root, track_masks(dataset, copy_first_mask, tmp_path / "copied", {}))
    tracked = score_davis(dataset.root, track_masks(dataset, tracker, tmp_path / "tracked", SETTINGS))
    # the squares drift 2 columns a frame; frames 1 to 3 are scored
    by_hand = np.mean([(10 - shift) / (10 + shift) for shift in (2, 4, 6)])
    assert copied["J_mean"] == pytest.approx(by_hand)
    assert list(tracked["sequences"]) == NAMES and tracked["J_mean"] > by_hand + 0.1
    perfect = track_masks(dataset, lambda frames, first: truth_like(dataset, first), tmp_path / "truth", {})
    assert score_davis(dataset.root, perfect)["JF_mean"] == 1


def truth_like(dataset, first):
    return next(sequence.masks() for sequence in dataset if np.array_equal(sequence.mask(0), first))


def test_parts_start_without_void_and_count_frame_0_as_the_cells_hold_it(tmp_path):
    root = make_vip(tmp_path / "vip", {"videos7": people(5, (40, 60)), "videos2": people(4, (40, 60))})
    dataset, firsts = VipDataset(root), []
    track = counting(firsts, partial(tracker, keep_first=False))
    folder = track_parts(dataset, track, tmp_path / "out", SETTINGS)
    for sequence, first in zip(dataset, firsts, strict=True):
        assert sequence.mask(0).max() == 255 and sorted(np.unique(first)) == [0, 2, 13]
        np.testing.assert_array_equal(first, sequence.first_mask())
        direct = list(tracker(sequence.frames(), sequence.first_mask(), keep_first=False))
        assert len(direct) == len(sequence) and not np.array_equal(direct[0], first)
        for stem, mask in zip(sequence.stems, direct, strict=True):
            path = folder / sequence.name / f"{stem}.png"
            with Image.open(path) as image:
                assert image.mode == "L"
            np.testing.assert_array_equal(read_mask(path), mask)
    found = score_vip(root, folder)
    assert found["frames"] == 9 and 0.5 < found["IoU"]["face"] < 1
    assert found["IoU"]["hat"] == 0  # seen from frame 2 on only: it can never be predicted


def jhmdb(root: Path, clips: int = 3, frames: int = 4) -> JhmdbDataset:
    """Clips of noise that moves 4 pixels a frame, with the joints on it; one joint lies outside."""
    for index in range(clips):
        rng = np.random.default_rng(index)
        wide = rng.integers(0, 256, (48, 64 + 4 * frames, 3), dtype=np.uint8)
        images = root / "Rename_Images" / "walk" / f"clip{index}"
        images.mkdir(parents=True)
        for t in range(frames):
            Image.fromarray(wide[:, 4 * t : 4 * t + 64]).save(images / f"{t + 1:05d}.png")
        start = rng.uniform(24, 44, (15, 2))
        start[0] = -90
        joints = start - np.array([4, 0]) * np.arange(frames)[:, None, None]
        path = root / "joint_positions" / "walk" / f"clip{index}" / "joint_positions.mat"
        path.parent.mkdir(parents=True)
        savemat(path, {"pos_img": joints.transpose(2, 1, 0) + 1})
    return JhmdbDataset(root, None)


JOINT_PROTOCOL = get_protocol("cropmae", "jhmdb", input_size=(48, 64))
joint_tracker = partial(propagate_joints, feature_fn=rgb_patch_features(4), patch_size=4, protocol=JOINT_PROTOCOL)


def test_joints_are_those_of_the_direct_propagation_and_scored(tmp_path):
    dataset = jhmdb(tmp_path / "jhmdb")
    folder = track_joints(dataset, joint_tracker, tmp_path / "out", {})
    assert sorted(path.name for path in folder.iterdir()) == ["0.dat", "1.dat", "2.dat", "settings.json"]
    for index, clip in enumerate(dataset):
        direct = np.stack(list(joint_tracker(clip.frames(), clip.joints()[0])))
        written = read_joints(folder / f"{index}.dat", (48, 64))
        np.testing.assert_allclose(written, direct, atol=1e-4)
        assert (direct[:, 0] == -1).all() and not np.allclose(direct[0], direct[-1])
    copied = track_joints(dataset, copy_first_joints, tmp_path / "copied", {})
    found, baseline = (score_jhmdb(tmp_path / "jhmdb", path, None) for path in (folder, copied))
    assert found["PCK@0.2"] > baseline["PCK@0.2"] + 0.1
    assert found["lost_joints"]["count"] == 9  # 3 clips, 3 scored frames


def test_max_frames_is_part_of_the_settings(dataset, tmp_path):
    folder, calls = tmp_path / "out", []
    track_masks(dataset, counting(calls), folder, SETTINGS, max_frames=3)
    assert [path.name for path in sorted((folder / "ant").iterdir())] == ["00000.png", "00001.png", "00002.png"]
    assert 0 < score_davis(dataset.root, folder, max_frames=3)["JF_mean"] < 1
    track_masks(dataset, counting(calls), folder, SETTINGS, max_frames=3)
    assert len(calls) == 3
    track_masks(dataset, counting(calls), folder, SETTINGS, max_frames=99)
    assert len(calls) == 6 and len(list((folder / "ant").iterdir())) == 5
    before = contents(folder)
    for wrong in (0, -1):  # a slip must not cost what is there
        with pytest.raises(UserError, match="max_frames .* give 1 or more"):
            track_masks(dataset, tracker, folder, SETTINGS, max_frames=wrong)
    assert contents(folder) == before


# --- Memory ---


@pytest.mark.parametrize("frames", [10, 40])
def test_a_long_video_is_never_in_memory_as_a_whole(tmp_path, frames):
    """The frames, features and masks alive at any moment are a few, however long the video."""
    alive, most = {"frames": weakref.WeakSet(), "features": weakref.WeakSet(), "masks": weakref.WeakSet()}, {}

    class Watched(np.ndarray):  # NumPy's own arrays cannot be kept in a WeakSet
        __hash__ = object.__hash__

    def note(kind, array):
        alive[kind].add(array)
        most[kind] = max(most.get(kind, 0), len(alive[kind]))
        return array

    class Long(MaskSequence):
        def iter_frames(self, max_frames=None):
            for t in range(frames):
                yield note("frames", np.full((40, 60, 3), t, np.uint8).view(Watched))

    def feature_fn(images):
        return note("features", rgb_patch_features(4)(images).clone())

    def track(frames, first_mask):
        masks = propagate_masks(frames, first_mask, feature_fn, 4, PROTOCOL)
        return (note("masks", mask.view(Watched)) for mask in masks)

    write_png(tmp_path / "first.png", moving_squares(2, 1)[0])
    paths = tuple(tmp_path / f"{t:05d}.jpg" for t in range(frames))
    Image.new("RGB", (60, 40)).save(paths[0])
    sequence = Long("long", paths, (tmp_path / "first.png",) * frames, read_mask)
    folder = track_masks([sequence], track, tmp_path / "out", {})
    assert len(list((folder / "long").iterdir())) == frames
    assert most["frames"] <= 2 * FRAMES_AT_ONCE + 1  # a batch, the next one being read, and the first for its size
    assert most["features"] <= 2 and most["masks"] <= 2


def test_two_runs_in_one_folder_leave_no_part_of_a_sequence(dataset, tmp_path):
    """The second clears what the first has begun, taking it for a killed run's; the first must not call that whole."""
    out = tmp_path / "out"

    def interrupted(frames, first_mask):
        for number, mask in enumerate(tracker(frames, first_mask)):
            if number == 2:
                track_masks(dataset, tracker, out, SETTINGS)
            yield mask

    with pytest.raises(UserError, match="another run") as error:
        track_masks(dataset, interrupted, out, SETTINGS)
    one_line(error)
    whole = track_masks(dataset, tracker, tmp_path / "alone", SETTINGS)
    assert contents(out) == contents(whole)


def test_sequences_are_read_one_after_another(tmp_path, monkeypatch):
    dataset, order = davis(tmp_path / "davis"), []
    for name in ("iter_frames", "first_mask"):
        plain = getattr(MaskSequence, name)
        monkeypatch.setattr(MaskSequence, name, lambda self, *a, f=plain: [order.append(self.name), f(self, *a)][1])
    track_masks(dataset, copy_first_mask, tmp_path / "out", {})
    assert order == [name for name in NAMES for _ in range(2)]


# --- Runs that were stopped ---

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = ["tests", "tests/score"]
from test_tracking import SETTINGS, DavisDataset, tracker, track_masks

def track(frames, first_mask):
    number = len(list(Path("{out}").glob("[!.]*/")))
    for t, mask in enumerate(tracker(frames, first_mask)):
        if number == 1 and t == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        yield mask

track_masks(DavisDataset("{root}"), track, "{out}", SETTINGS)
"""


def test_a_killed_run_goes_on_after_what_is_done(dataset, tmp_path):
    whole = contents(track_masks(dataset, tracker, tmp_path / "whole", SETTINGS))
    folder = tmp_path / "out"
    code = KILLED.format(root=dataset.root, out=folder)
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = sorted(path.name for path in folder.iterdir())
    assert left[1:] == ["settings.json", "zebra"] and left[0].startswith(".ant.") and ".partial" in left[0]
    assert len(list((folder / left[0]).iterdir())) == 3  # killed in the middle indeed
    first = {path: path.stat().st_mtime_ns for path in (folder / "zebra").iterdir()}
    calls = []
    track_masks(dataset, counting(calls), folder, SETTINGS)
    assert [np.array_equal(call, dataset[name].mask(0)) for call, name in zip(calls, NAMES[1:], strict=True)] == [
        True
    ] * 2
    assert {path: path.stat().st_mtime_ns for path in (folder / "zebra").iterdir()} == first
    assert contents(folder) == whole and not list(folder.glob(".*"))
    track_masks(dataset, counting(calls), folder, SETTINGS)
    assert len(calls) == 2 and contents(folder) == whole


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_stops_a_tracker_leaves_whole_sequences_only(dataset, tmp_path, error):
    def track(frames, first_mask):
        for t, mask in enumerate(tracker(frames, first_mask)):
            if t == 2 and (folder / "zebra").exists():
                raise error
            yield mask

    folder = tmp_path / "out"
    with pytest.raises(error):
        track_masks(dataset, track, folder, SETTINGS)
    assert sorted(path.name for path in folder.iterdir()) == ["settings.json", "zebra"]
    assert len(list((folder / "zebra").iterdir())) == 5


def test_threads_write_the_same_and_leave_whole_sequences_when_one_fails(dataset, tmp_path):
    whole = contents(track_masks(dataset, tracker, tmp_path / "whole", SETTINGS))
    together = threading.Barrier(3, timeout=30)  # broken unless three come

    def track(frames, first_mask):
        together.wait()
        yield from tracker(frames, first_mask)

    assert contents(track_masks(dataset, track, tmp_path / "out", SETTINGS, workers=3)) == whole
    (dataset.root / "JPEGImages/480p/ant/00003.jpg").write_bytes(b"")
    folder = tmp_path / "stopped"
    with pytest.raises(UserError, match="ant/00003.jpg: not a readable image"):
        track_masks(dataset, tracker, folder, SETTINGS, workers=3)
    left = contents(folder)
    assert left.items() <= whole.items() and "zebra/00004.png" in left and not any("ant" in name for name in left)
    assert {path.name for path in folder.iterdir()} <= {"settings.json", "zebra", "bear"}
    for done in ("zebra", "bear"):
        assert sum(name.startswith(done) for name in left) in (0, 5)


def test_a_run_killed_before_its_first_record_is_no_foreign_folder(dataset, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / ".settings.4711.partial.json").write_text("{")
    track_masks(dataset, tracker, folder, SETTINGS)
    assert sorted(path.name for path in folder.iterdir()) == sorted([*NAMES, "settings.json"])


def test_other_settings_start_anew(dataset, tmp_path):
    folder, calls = tmp_path / "out", []
    first = contents(track_masks(dataset, counting(calls), folder, SETTINGS))
    other = get_protocol("crw", input_size=(40, 60))
    track = counting(calls, partial(tracker, protocol=other))
    track_masks([dataset["bear"]], track, folder, SETTINGS | {"protocol": "crw"})
    assert len(calls) == 4 and sorted(path.name for path in folder.iterdir()) == ["bear", "settings.json"]
    assert json.loads((folder / "settings.json").read_text())["protocol"] == "crw"
    assert contents(folder)["bear/00004.png"] != first["bear/00004.png"]
    track_masks(dataset, counting(calls), folder, SETTINGS)
    assert len(calls) == 7 and contents(folder) == first


def test_a_clear_that_was_killed_leaves_what_its_record_says(dataset, tmp_path, monkeypatch):
    """Killed while old results are removed, and started once more with the old settings."""
    folder = tmp_path / "out"
    whole = contents(track_masks(dataset, tracker, folder, SETTINGS))
    plain = Path.rename

    def rename(self, target):
        if ".partial" in str(target) and not list(folder.glob(".*")):
            return plain(self, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        track_masks(dataset, tracker, folder, {"protocol": "other"})
    monkeypatch.undo()
    assert len(list(folder.glob("[!.]*/"))) == 2
    calls = []
    assert contents(track_masks(dataset, counting(calls), folder, SETTINGS)) == whole and len(calls) == 1


def test_other_clips_start_anew_because_files_have_numbers_only(tmp_path):
    dataset, folder = jhmdb(tmp_path / "jhmdb"), tmp_path / "out"
    track_joints(dataset, joint_tracker, folder, {})
    before = contents(folder)
    dataset.sequences.reverse()
    track_joints(dataset, joint_tracker, folder, {})
    after = contents(folder)
    assert after["0.dat"] == before["2.dat"] != before["0.dat"] and after["1.dat"] == before["1.dat"]


# --- Folders that are not a run's ---


def foreign_file(folder):
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")


def without_record(folder):
    (folder / "zebra").mkdir(parents=True)
    write_png(folder / "zebra" / "00000.png", np.ones((4, 4)))


def other_record(text):
    def make(folder):
        without_record(folder)
        (folder / "settings.json").write_bytes(text)

    return make


@pytest.mark.parametrize(
    "message, make",
    [
        (r"no settings.json\); choose another", foreign_file),
        (r"no settings.json\); choose another", without_record),
        (r"no settings.json\); choose another", lambda folder: folder.write_text("a file")),
        (r"no settings.json\); choose another", lambda folder: (folder / "settings.json").mkdir(parents=True)),
        ("settings.json is damaged", other_record(b"")),
        ("settings.json is damaged", other_record(b'{"protocol": "dino", "max_fr')),
        ("settings.json is damaged", other_record(b"\xff\xfe\x00")),
        ("settings.json is damaged", other_record(b"[" * 100_000)),
        ("settings.json is another program's", other_record(b'["max_frames"]')),
        ("settings.json is another program's", other_record(b'{"editor.fontSize": 12}')),
    ],
)
def test_foreign_folders_are_refused_and_left_untouched(dataset, tmp_path, message, make):
    folder = tmp_path / "100%s"
    make(folder)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        track_masks(dataset, tracker, folder, SETTINGS)
    assert one_line(error).startswith(f"{folder}: not a folder of predictions (")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["notes.txt", "global_results-val.csv", "ant/notes.txt", "other/deep/00000.png"])
def test_starting_anew_removes_predictions_only(dataset, tmp_path, name):
    folder = track_masks(dataset, tracker, tmp_path / "out", SETTINGS)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("dear to somebody")
    before = contents(folder)
    with pytest.raises(UserError, match="not a prediction, but other settings start") as error:
        track_masks(dataset, tracker, folder, {"protocol": "other"})
    assert one_line(error).startswith(f"{folder / name.split('/')[0]}: ") and contents(folder) == before
    track_masks(dataset, tracker, folder, SETTINGS)  # the run itself goes on
    assert contents(folder) == before


def test_what_a_link_points_to_is_not_removed(dataset, tmp_path):
    folder = track_masks(dataset, tracker, tmp_path / "out", SETTINGS)
    kept = folder.rename(tmp_path / "kept") / "zebra"
    folder.mkdir()
    write_json(folder / "settings.json", {"max_frames": None})
    (folder / "zebra").symlink_to(kept, target_is_directory=True)
    with pytest.raises(UserError, match="zebra: not a prediction"):
        track_masks(dataset, tracker, folder, SETTINGS)
    assert len(list(kept.iterdir())) == 5


@pytest.mark.parametrize("name", ["..", "../elsewhere", "a/b", ".hidden"])
def test_names_from_a_list_cannot_lead_out_of_the_folder(dataset, tmp_path, name):
    first = dataset["zebra"]
    sequence = MaskSequence(name, first.frame_paths, first.sources, first.read_ids)
    with pytest.raises(UserError, match="cannot be the name of a sequence's results"):
        track_masks([sequence], tracker, tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out").exists() and not (tmp_path / "elsewhere").exists()


def test_settings_that_json_cannot_hold_cost_nothing(dataset, tmp_path):
    folder = track_masks(dataset, copy_first_mask, tmp_path / "out", {})
    before = contents(folder)
    with pytest.raises(TypeError):
        track_masks(dataset, copy_first_mask, folder, {"model": torch.nn.Identity()})
    assert contents(folder) == before


# --- Damaged data ---


def no_mask(root):
    path = root / "Annotations/480p/ant/00000.png"
    path.unlink()
    return path


def small_mask(root):
    path = root / "Annotations/480p/ant/00000.png"
    write_png(path, moving_squares(2, 1, (40, 50))[0])
    return path


def skipping_mask(root):
    path = root / "Annotations/480p/ant/00000.png"
    write_png(path, 2 * moving_squares(2, 1)[0])
    return path


def cut_frame(root):
    path = root / "JPEGImages/480p/ant/00003.jpg"
    path.write_bytes(path.read_bytes()[:-100])
    return path


def small_frame(root):
    path = root / "JPEGImages/480p/ant/00003.jpg"
    Image.new("RGB", (50, 40)).save(path)
    return path


@pytest.mark.parametrize(
    "message, damage",
    [
        ("no such image", no_mask),
        ("50x40 pixels, but its frame .*00000.jpg has 60x40", small_mask),
        (r"without gaps, not \[2, 4\]", skipping_mask),
        ("damaged image", cut_frame),
        ("50x40 pixels, but .*00000.jpg has 60x40", small_frame),
    ],
)
def test_a_damaged_second_sequence_leaves_the_first(dataset, tmp_path, message, damage):
    whole = contents(track_masks(dataset, tracker, tmp_path / "whole", SETTINGS))
    dataset = DavisDataset(dataset.root)  # whose first masks have not been looked at
    path = damage(dataset.root)
    repaired = davis(tmp_path / "repaired")
    folder = tmp_path / "out"
    with pytest.raises(UserError, match=message) as error:
        track_masks(dataset, tracker, folder, SETTINGS)
    assert one_line(error).startswith(str(path))
    assert contents(folder) == {name: whole[name] for name in whole if name.startswith(("zebra", "settings"))}
    assert sorted(path.name for path in folder.iterdir()) == ["settings.json", "zebra"]
    calls = []
    assert contents(track_masks(repaired, counting(calls), folder, SETTINGS)) == whole and len(calls) == 2


def test_masks_are_carried_on_from_the_only_annotation(dataset, tmp_path):
    """As in DAVIS's test-dev and challenge splits."""
    masks = dataset.root / "Annotations/480p/bear"
    frames = len(dataset["bear"])
    for path in sorted(masks.iterdir())[1:]:
        path.unlink()
    track_masks(DavisDataset(dataset.root), copy_first_mask, tmp_path / "out", {})
    assert len(list((tmp_path / "out" / "bear").iterdir())) == frames
    with pytest.raises(UserError, match=r"has no annotation \(1 of \d+ frames are annotated\); carry masks on"):
        score_davis(dataset.root, tmp_path / "out", workers=1)
    (masks / "00000.png").unlink()
    with pytest.raises(UserError, match="bear/00000.png: missing annotation of bear"):
        DavisDataset(dataset.root)


@pytest.mark.parametrize(
    "message, content",
    [("holds no pos_img", {"pos_world": np.zeros((2, 15, 4))}), ("pos_img must be 2 x 15", {"pos_img": np.zeros(3)})],
)
def test_a_damaged_joint_file_leaves_the_first_clip(tmp_path, message, content):
    dataset, folder = jhmdb(tmp_path / "jhmdb"), tmp_path / "out"
    savemat(dataset.sequences[1].joints_path, content)
    with pytest.raises(UserError, match=message) as error:
        track_joints(dataset, joint_tracker, folder, {})
    assert one_line(error).startswith(str(dataset.sequences[1].joints_path))
    assert sorted(path.name for path in folder.iterdir()) == ["0.dat", "settings.json"]


def test_parts_beyond_the_classes_are_not_written(tmp_path):
    dataset = VipDataset(make_vip(tmp_path / "vip", {"videos1": people(3)}))
    with pytest.raises(UserError, match="ids 0..19"):
        track_parts(dataset, lambda frames, first: (first + 20 for _ in frames), tmp_path / "out", {})
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["settings.json"]


# --- A full disk ---


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_line_and_leaves_whole_sequences(dataset, tmp_path, monkeypatch, number):
    plain, folder = Image.Image.save, tmp_path / "out"

    def save(self, path, *args, **kwargs):
        plain(self, path, *args, **kwargs)
        if (folder / "zebra").exists() and Path(path).name.startswith(".00002"):
            raise OSError(number, os.strerror(number))

    whole = contents(track_masks(dataset, tracker, tmp_path / "whole", SETTINGS))
    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(UserError, match="00002.png: no space left to write it; free some") as error:
        track_masks(dataset, tracker, folder, SETTINGS)
    one_line(error)
    assert sorted(path.name for path in folder.iterdir()) == ["settings.json", "zebra"]
    monkeypatch.undo()
    assert contents(track_masks(dataset, tracker, folder, SETTINGS)) == whole


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_what_really_fails_on_a_full_disk_is_told_so(tmp_path):
    for write in (lambda file: np.save(file, np.zeros(9)), lambda file: file.write(b"x" * 99)):
        with pytest.raises(UserError, match="a.dat: no space left"), atomic_path(tmp_path / "a.dat") as temporary:
            temporary.write_bytes(b"half")
            with open("/dev/full", "wb") as file:
                write(file)
    assert not list(tmp_path.iterdir())


def test_other_failures_of_the_system_keep_their_name(dataset, tmp_path, monkeypatch):
    def save(*_, **__):
        raise OSError(errno.EIO, "input/output error")

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(OSError, match="input/output error"):
        track_masks(dataset, tracker, tmp_path / "out", SETTINGS)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["settings.json"]


# --- Names of weights ---


def module_of(**values: torch.Tensor) -> torch.nn.Module:
    module = torch.nn.Module()
    for name, value in values.items():
        module.register_buffer(name, value)
    return module


def test_equal_weights_have_equal_names_and_others_do_not():
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    name = fingerprint(model)
    assert len(name) == 16 and name == fingerprint(model.eval().requires_grad_(False))
    again = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3))
    assert fingerprint(again) != name
    again.load_state_dict(model.state_dict())
    assert fingerprint(again) == name
    model[1].num_batches_tracked += 1
    assert fingerprint(model) != name


def test_weights_that_differ_little_or_in_form_alone_have_other_names():
    zeros, one = torch.zeros(2, 3), torch.ones(1, dtype=torch.float64)
    found = [
        module_of(a=zeros), module_of(b=zeros), module_of(a=zeros.T), module_of(a=zeros.int()),
        module_of(a=zeros, b=zeros), module_of(a=zeros.bfloat16()), module_of(a=-zeros), module_of(),
        module_of(a=one), module_of(a=torch.nextafter(one, 2 * one)), module_of(a=torch.tensor(1.0).double()),
    ]  # fmt: skip
    assert len({fingerprint(module) for module in found}) == len(found)
    strided = torch.arange(6.0).reshape(2, 3).T
    assert fingerprint(module_of(a=strided)) == fingerprint(module_of(a=strided.contiguous()))
