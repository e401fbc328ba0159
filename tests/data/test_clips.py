"""Kinetics clips: which files serve, which frames and crops are drawn, in which order; the cache."""

import csv
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torchvision.transforms import v2

import make
from data_scripts import prepare_kinetics
from lib.data import clips, video
from lib.data.clips import FramePairs, collate_pairs, draw_crop, draw_pair, read_clip
from lib.data.kinetics import class_folder, list_kinetics, scan_videos, split_videos
from lib.data.manifest import MANIFEST, Entry, probe_all, read_entries, read_manifest, write_manifest
from lib.data.video import Clip, VideoInfo, read_frames
from lib.errors import UserError
from lib.runtime import fingerprint
from lib.training import StepBatches
from tests.make_videos import read_number, write_frames, write_numbered

ROOT = make.ROOT
REAL = Path(os.environ.get("SIAMMAE_REAL_DATA", ROOT.parent / "shared" / "data")) / "kinetics400"


@pytest.fixture(scope="module")
def kinetics(tmp_path_factory) -> Path:
    """The official layout: three good clips, one too short, one broken, one named by the list alone."""
    root = tmp_path_factory.mktemp("kinetics")
    good = {
        "riding_a_bike/aaa_000001_000011": 30,
        "riding_a_bike/bbb_000002_000012": 25,
        "high_jump/ccc_000003_000013": 15,
    }
    for name, fps in {**good, "high_jump/short_000004_000014": 30}.items():
        path = root / "train" / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_numbered(path, 30 if "short" in name else 60, fps, preset="ultrafast")
    (root / "train" / "high_jump" / "broken_000005_000015.mp4").write_bytes(b"moov atom not found")
    rows = [
        ("riding a bike", "bbb", 2, 12),
        ("riding a bike", "aaa", 1, 11),
        ("high (jump)", "short", 4, 14),
        ("high (jump)", "broken", 5, 15),
        ("high (jump)", "ccc", 3, 13),
        ("high (jump)", "gone", 6, 16),
    ]
    (root / "annotations").mkdir()
    with (root / "annotations" / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("label", "youtube_id", "time_start", "time_end", "split")])
        csv.writer(file).writerows([(*row, "train") for row in rows])
    return root


@pytest.fixture(scope="module")
def good(kinetics) -> list[Clip]:
    return scan_videos(list_kinetics(kinetics), max_bad_fraction=0.6).clips


# --- Which files


def names(paths) -> list[str]:
    return [path.name.split("_")[0] for path in paths]


def test_the_annotations_decide_which_videos_are_read_and_in_which_order(kinetics):
    assert names(list_kinetics(kinetics)) == ["bbb", "aaa", "short", "broken", "ccc", "gone"]


def test_class_folders_lose_spaces_quotes_and_parentheses():
    assert class_folder("kicking someone's ball") == "kicking_someones_ball"
    assert class_folder("walking (on stage)") == "walking_on_stage"


def test_layouts_without_annotations(kinetics, tmp_path):
    files = sorted((kinetics / "train").rglob("*.mp4"))
    for folder in ("split/val/some class", "nested/videos", "flat"):
        (tmp_path / folder).mkdir(parents=True)
        for file in files[:2]:
            (tmp_path / folder / file.name).symlink_to(file)
        (tmp_path / folder / "notes.txt").write_text("no video")
    found = [
        list_kinetics(tmp_path / "split", "val"),
        list_kinetics(tmp_path / "nested"),
        list_kinetics(tmp_path / "flat"),
    ]
    assert [names(videos) for videos in found] == [names(files[:2])] * 3


def test_a_list_file_names_videos_relative_to_itself(kinetics):
    path = kinetics / "mine.csv"
    path.write_text(
        "path,label\ntrain/high_jump/ccc_000003_000013.mp4,jump\ntrain/riding_a_bike/aaa_000001_000011.mp4,\n"
    )
    assert names(list_kinetics(path)) == ["ccc", "aaa"]
    path.write_text("path\ntrain/high_jump/ccc_000003_000013.mp4\n")
    assert names(list_kinetics(path)) == ["ccc"]


def test_no_video_is_both_trained_on_and_held_out(tmp_path):
    for split in ("train", "val"):
        (tmp_path / "official" / split / "a").mkdir(parents=True)
        for letter in "ab":
            (tmp_path / "official" / split / "a" / f"{split}{letter}.mp4").touch()
    train, held = split_videos(tmp_path / "official")
    assert names(train) == ["traina.mp4", "trainb.mp4"] and names(held) == ["vala.mp4", "valb.mp4"]

    flat = tmp_path / "videos"
    flat.mkdir()
    for number in range(7):
        (flat / f"v{number}.mp4").touch()
    train, held = split_videos(tmp_path)
    assert names(held) == ["v2.mp4", "v6.mp4"]
    assert names(train) == ["v0.mp4", "v1.mp4", "v3.mp4", "v4.mp4", "v5.mp4"]
    rows = [f"videos/v{number}.mp4\n" for number in (3, 4, 5, 6, 0, 1, 2)]
    (tmp_path / "list.csv").write_text("path\n" + "".join(rows))
    assert names(split_videos(tmp_path / "list.csv")[1]) == ["v5.mp4", "v2.mp4"]
    (tmp_path / "list.csv").write_text("path\n" + "".join(rows[:6]))
    with pytest.raises(UserError, match="leaves 1 videos to hold out"):
        split_videos(tmp_path / "list.csv")


def test_wrong_folders_and_lists_are_told_in_one_line(kinetics, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "photos").mkdir(parents=True)
    texts = {
        "gone.csv": "path\nx/1.mp4\nx/2.mp4\n",
        "headless.csv": "x/1.mp4\n",
        "nothing.csv": "path\n",
        "ragged.csv": "label,path\nonly a label\n",
        "binary.csv": "path\n\udcff",
    }
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text.encode(errors="surrogateescape"))
    cases = {
        tmp_path / "nowhere": "no such folder; give",
        tmp_path / "empty": "no videos in it, only nothing",
        tmp_path / "other": "no videos in it, only photos",
        tmp_path / "gone.csv": f"2 of 2 videos missing, first {tmp_path / 'x' / '1.mp4'}",
        tmp_path / "headless.csv": "must name the columns path",
        tmp_path / "nothing.csv": "the list is empty",
        tmp_path / "ragged.csv": "must name the columns path",
        tmp_path / "binary.csv": r"1 of 1 videos missing, first " + str(tmp_path) + r"/\udcff",
    }
    for path, message in cases.items():
        with pytest.raises(UserError) as caught:
            list_kinetics(path)
        assert message in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_what_cannot_serve_is_skipped_and_counted(kinetics):
    scan = scan_videos(list_kinetics(kinetics), max_bad_fraction=0.5)
    assert names(clip.path for clip in scan.clips) == ["bbb", "aaa", "ccc"]
    reasons = {path.name.split("_")[0]: reason for path, reason in scan.skipped.items()}
    assert set(reasons) == {"short", "broken", "gone"}
    assert reasons["short"] == "too short: it spans 0.97 s, not 1.60 s"
    assert reasons["broken"].startswith("cannot be decoded") and reasons["gone"].startswith("no such file")
    assert scan.report() == f"3 clips, 3 skipped (first: short_000004_000014.mp4: {reasons['short']})"


def test_too_many_bad_files_are_an_error_that_names_them(kinetics):
    with pytest.raises(UserError, match=r"3 clips, 3 skipped \(first: short_.*at most 49% may be skipped"):
        scan_videos(list_kinetics(kinetics), max_bad_fraction=0.49)
    with pytest.raises(UserError, match="too few usable videos: 0 clips, 1 skipped"):
        scan_videos([kinetics / "no.mp4"], max_bad_fraction=1.0)


@pytest.mark.parametrize(("num_frames", "serves"), [(49, True), (48, False)])
def test_the_shortest_clip_that_serves_holds_the_largest_gap(tmp_path, num_frames, serves):
    paths = [write_numbered(tmp_path / f"{i}.mp4", n, preset="ultrafast") for i, n in enumerate((60, num_frames))]
    scan = scan_videos(paths)
    assert len(scan.clips) == 1 + serves
    if serves:
        assert {draw_pair(VideoInfo(49, 30.0, 1, 1), np.random.default_rng(i)) for i in range(2000)} >= {(0, 48)}


# --- Manifest


@pytest.fixture
def data(kinetics, tmp_path) -> Path:
    """A copy of the data set, to change."""
    return shutil.copytree(kinetics, tmp_path / "data")


def prepare(monkeypatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["prepare_kinetics.py", *map(str, arguments)])
    return prepare_kinetics.main()


@pytest.fixture
def probed(monkeypatch) -> list[str]:
    """The videos that were opened since."""
    opened = []

    def probe(path):
        opened.append(path.name.split("_")[0])
        return video.probe(path)

    monkeypatch.setattr("lib.data.manifest.probe", probe)
    return opened


def test_a_scan_looks_up_what_the_manifest_knows(data, tmp_path, probed):
    before = scan_videos(list_kinetics(data))
    files = {path.name for path in data.iterdir()}
    assert len(probed) == 6 and before.looked_up == 0
    script = ROOT / "data_scripts" / "prepare_kinetics.py"
    command = [sys.executable, str(script), "--root", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{data / MANIFEST}: 6 videos, 4 readable, 2 not (first " in done.stdout
    assert {path.name for path in data.iterdir()} == files | {MANIFEST}
    probed.clear()
    scan = scan_videos(list_kinetics(data))
    assert probed == ["gone"]  # which is not there
    assert (scan.clips, scan.skipped, scan.looked_up) == (before.clips, before.skipped, 5)
    assert scan.report() == f"{before.report()}; 5 looked up in {MANIFEST}"


def test_videos_that_are_new_changed_or_gone_are_not_looked_up(data, monkeypatch, probed):
    assert prepare(monkeypatch, "--root", data) == 0
    written = (data / MANIFEST).stat().st_mtime_ns
    folder = data / "train" / "riding_a_bike"
    changed, gone, new = (folder / f"{name}.mp4" for name in ("aaa_000001_000011", "bbb_000002_000012", "new"))
    paths = [*list_kinetics(data)[:5], new]
    shutil.copy(changed, new)
    write_numbered(changed, 70, preset="ultrafast")
    os.utime(changed, ns=(written + 1, written + 1))
    gone.unlink()
    probed.clear()
    scan = scan_videos(paths)
    assert sorted(probed) == ["aaa", "bbb", "new.mp4"] and scan.looked_up == 3
    assert [clip.path for clip in scan.clips] == [changed, data / "train/high_jump/ccc_000003_000013.mp4", new]
    assert scan.clips[0].info.num_frames == 70 and scan.skipped[gone].startswith("no such file")


def test_a_manifest_is_gone_on_with(data, monkeypatch):
    """Rows that were read stay as they are; videos that are missing there or bad are probed."""
    paths = [path.resolve() for path in list_kinetics(data)]
    other = VideoInfo(1234, 30.0, 10, 20)
    entries = [Entry(other, fingerprint(paths[0])), Entry("was still downloading", fingerprint(paths[1]))]
    write_manifest(data / MANIFEST, dict(zip(paths, entries, strict=False)))
    assert prepare(monkeypatch, "--root", data) == 0
    known = read_manifest(data / MANIFEST)
    assert known[paths[0]] == other and known[paths[1]] == VideoInfo(60, 30.0, 64, 160)
    assert set(known) == set(paths[:5])


def test_a_manifest_of_before_there_were_jumps_is_still_good(data, monkeypatch, probed):
    path = list_kinetics(data)[0]
    row = f"{path.relative_to(data)},60,30.0,64,160,,ok,{fingerprint(path)}\n"
    (data / MANIFEST).write_text("path,num_frames,fps,height,width,times,status,fingerprint\n" + row)
    scan = scan_videos([path])
    assert scan.looked_up == 1 and probed == [] and scan.clips[0].info.jumps is None
    assert read_number(read_clip(scan.clips[0], [41], None, None)[0]) == 41


def test_the_manifest_moves_with_its_videos(tmp_path):
    (tmp_path / "old").mkdir()
    path = write_numbered(tmp_path / "old" / "a.mp4", 60, Fraction(30000, 1001), preset="ultrafast")
    known = dict(probe_all([path], workers=1))
    write_manifest(tmp_path / "old" / MANIFEST, known)
    (tmp_path / "old").rename(tmp_path / "new")
    assert read_entries(tmp_path / "new" / MANIFEST) == {tmp_path / "new" / "a.mp4": known[path]}


def test_videos_are_probed_by_all_cores(good, monkeypatch):
    together = threading.Barrier(3)

    def probe(path):
        together.wait(timeout=60)  # passes when three come at once
        return video.probe(path)

    monkeypatch.setattr("lib.data.kinetics.cpu_cores", lambda: 3)
    monkeypatch.setattr("lib.data.manifest.probe", probe)
    assert scan_videos([clip.path for clip in good]).clips == good


def test_errors_of_the_command_line(data, tmp_path, monkeypatch, capsys):
    for arguments, message in {
        ("--root", tmp_path / "no"): "no such folder",
        ("--root", data, "--workers", 0): "workers must be 1 or more, not 0",
    }.items():
        assert prepare(monkeypatch, *arguments) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ") and message in told and told.count("\n") == 1
        assert not (data / MANIFEST).exists()
    name = "train/high_jump/ccc_000003_000013.mp4"
    row = f"{name},x,1,1,1,,,ok,{fingerprint(data / name)}\n"
    (data / MANIFEST).write_text("path,num_frames,fps,height,width,times,jumps,status,fingerprint\n" + row)
    assert prepare(monkeypatch, "--root", data) == 2
    assert "the row of train/high_jump/ccc_000003_000013.mp4 lacks numbers" in capsys.readouterr().err


REPLACED = {  # name, what a file is first, what lies in its place then
    "encoded anew": ({"num_frames": 90, "fps": 15}, {"num_frames": 180, "fps": 30}),
    "shortened": ({"num_frames": 180, "fps": 30}, {"num_frames": 90, "fps": 30}),
    "another film": ({"num_frames": 90, "fps": 30, "g": "90"}, {"num_frames": 90, "fps": 30, "g": "5"}),
    "damaged": ({"num_frames": 90, "fps": 30}, None),
}


@pytest.mark.parametrize("name", REPLACED)
def test_neither_manifest_nor_cache_takes_one_file_for_another(tmp_path, monkeypatch, name):
    """The same name, size and times: only what is in it differs."""
    before, after = REPLACED[name]
    path = write_numbered(tmp_path / "videos" / "a.mp4", **before) if (tmp_path / "videos").mkdir() is None else None
    other = tmp_path / "other.mp4"
    other.write_bytes(b"no video any more") if after is None else write_numbered(other, **after)
    size = max(file.stat().st_size for file in (path, other))
    for file in (path, other):  # what follows the last box of an MP4 is passed over
        free = size + 8 - file.stat().st_size
        file.write_bytes(file.read_bytes() + free.to_bytes(4, "big") + b"free" + bytes(free - 8))
        os.utime(file, (1e9, 1e9))
    assert prepare(monkeypatch, "--root", tmp_path) == 0
    old = scan_videos([path]).clips[0]
    frames = read_clip(old, [40], None, tmp_path / "frames")
    os.replace(other, path)
    assert path.stat().st_size == size + 8 and path.stat().st_mtime == 1e9
    if after is None:
        with pytest.raises(UserError, match="0 clips, 1 skipped"):
            scan_videos([path])
        with pytest.raises(UserError, match="a.mp4: cannot be decoded"):
            read_clip(old, [40], None, tmp_path / "frames")
    else:
        scan = scan_videos([path])
        assert scan.looked_up == 0 and scan.clips[0].info == video.probe(path)
        now = read_clip(scan.clips[0], [40], None, tmp_path / "frames")
        assert np.array_equal(now, read_frames(path, [40])) and read_number(frames[0]) == 40
    assert prepare(monkeypatch, "--root", tmp_path) == (2 if after is None else 0)
    verdict = read_manifest(tmp_path / MANIFEST)[path]
    assert isinstance(verdict, str) if after is None else verdict == video.probe(path)


def test_a_copy_elsewhere_is_looked_up_and_a_manifest_may_lie_elsewhere(data, tmp_path, monkeypatch):
    assert prepare(monkeypatch, "--root", data, "--manifest", tmp_path / "mine.csv") == 0
    assert not (data / MANIFEST).exists()
    monkeypatch.setenv("SIAMMAE_MANIFEST", str(tmp_path / "mine.csv"))
    assert scan_videos(list_kinetics(data)).looked_up == 5
    monkeypatch.delenv("SIAMMAE_MANIFEST")
    assert prepare(monkeypatch, "--root", data) == 0
    copy = shutil.copytree(data, tmp_path / "copy")  # with the files' times
    assert scan_videos(list_kinetics(copy)).looked_up == 5


def test_unsteady_times_come_back_from_the_manifest(tmp_path):
    times = tuple(np.cumsum([0.0, *np.random.default_rng(0).choice([0.02, 0.031, 0.25], 20_000)]).round(6).tolist())
    info, path = VideoInfo(len(times), 30.0, 64, 160, times), tmp_path / "a.mp4"
    path.write_bytes(b"anything")
    write_manifest(tmp_path / MANIFEST, {path: Entry(info, fingerprint(path))})
    assert read_manifest(tmp_path / MANIFEST) == {path: info}


def test_names_that_are_no_utf_8_are_kept(tmp_path, monkeypatch, capsys):
    (tmp_path / "videos").mkdir()
    names = [b"caf\xe9.mp4", b"a.mp4", b"two\nlines.mp4"]
    paths = [tmp_path / "videos" / os.fsdecode(name) for name in names]
    for path in paths:
        write_numbered(path, 60, preset="ultrafast")
    paths[0].write_bytes(b"no video")
    assert prepare(monkeypatch, "--root", tmp_path) == 0 and capsys.readouterr().out
    assert set(read_manifest(tmp_path / MANIFEST)) == set(paths)
    scan = scan_videos(list_kinetics(tmp_path))
    assert (len(scan.clips), scan.looked_up) == (2, 3) and scan.report().encode() and "\n" not in scan.report()
    (tmp_path / "list.csv").write_bytes(b"path\nvideos/caf\xe9.mp4\nvideos/a.mp4\n")
    assert list_kinetics(tmp_path / "list.csv") == paths[:2]


COPIES = {
    "flat": "{id}_000001_000011.mp4", "flat, webm": "{id}_000001_000011.webm",
    "two suffixes": "{label}/{id}_000001_000011.mp4.mkv", "as they are": "{label}/{id}_000001_000011.mp4",
    "upper case": "{label}/{id}_000001_000011.MP4",
    "few digits": "{label}/{id}_1_11.mp4", "no brackets": "{folder}/{id}_000001_000011.mp4",
}  # fmt: skip


@pytest.mark.parametrize("seconds", ["1,11", "1.0,11.0"])
@pytest.mark.parametrize("copy", COPIES)
def test_copies_of_kinetics_as_people_have_them(tmp_path, copy, seconds):
    (tmp_path / "annotations").mkdir()
    rows, expected = "label,youtube_id,time_start,time_end,split\n", []
    for label, name in (("punching person (boxing)", "-a1"), ("archery", "b_2"), ("yoga", "c3_1_2")):
        path = tmp_path / "train" / COPIES[copy].format(label=label, folder=class_folder(label), id=name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        expected.append(path)
        rows += f"{label},{name},{seconds},train\n"
    (tmp_path / "annotations" / "train.csv").write_text(rows)
    assert list_kinetics(tmp_path) == expected
    (tmp_path / "annotations" / "train.csv").write_text(rows.replace(seconds, "1.5,11"))
    with pytest.raises(UserError, match="the row of -a1 has no whole seconds as time_start"):
        list_kinetics(tmp_path)


def test_the_cache_is_filled_with_a_frame_in_memory_at_a_time(tmp_path):
    """Half a gigabyte of frames, written with a fifth of it."""
    code = f"""
import resource, sys
from pathlib import Path
from lib.data.clips import read_clip
from lib.data.video import Clip, probe
import torch
path = Path({str(tmp_path / "large.mp4")!r})
clip = Clip(path, probe(path))
read_clip(clip, [0], None, None)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
frames = read_clip(clip, [0, 300], None, {str(tmp_path / "frames")!r})
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, frames.shape)
"""
    still = np.zeros((480, 640, 3), np.uint8)
    write_frames(tmp_path / "large.mp4", [still] * 600, 30, "libx264", preset="ultrafast")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(done.stdout.split()[0]) < 0.2 * 600 * still.nbytes / 1024, done.stdout


# --- Which frames, which part of them


@given(
    fps=st.floats(8, 60),
    extra=st.integers(0, 300),
    smallest=st.integers(4, 60),
    width=st.integers(0, 60),
    seed=st.integers(0, 10**6),
)
def test_a_pair_fits_the_clip_and_its_gap_in_time(fps, extra, smallest, width, seed):
    gap = (smallest, smallest + width)
    num_frames = int(np.ceil(gap[1] / 30 * fps)) + 1 + extra
    first, second = draw_pair(VideoInfo(num_frames, fps, 1, 1), np.random.default_rng(seed), gap)
    assert 0 <= first < second < num_frames
    drawn = np.random.default_rng(seed).integers(gap[0], gap[1] + 1) / 30
    assert abs((second - first) / fps - drawn) <= 0.5 / fps + 1e-9


def test_gaps_and_places_are_uniform_with_both_bounds():
    rng = np.random.default_rng(0)
    pairs = [draw_pair(VideoInfo(300, 30.0, 1, 1), rng) for _ in range(45_000)]
    gaps = Counter(j - i for i, j in pairs)
    assert set(gaps) == set(range(4, 49))
    assert max(abs(count - 1000) for count in gaps.values()) < 5 * np.sqrt(1000)
    places = Counter(i for i, j in pairs if j - i == 4)  # uniform on 0..295
    assert min(places) < 10 and max(places) > 285
    tenths = np.histogram(list(places.elements()), bins=8, range=(0, 296))[0]
    assert np.abs(tenths - tenths.mean()).max() < 5 * np.sqrt(tenths.mean())


def test_a_slower_clip_gets_the_same_gaps_in_time():
    rng = np.random.default_rng(0)
    gaps = Counter(j - i for i, j in (draw_pair(VideoInfo(100, 15.0, 1, 1), rng) for _ in range(9000)))
    assert set(gaps) == set(range(2, 25))  # 4 / 30 s to 48 / 30 s at 15 fps
    assert abs(gaps[10] - 2 * 9000 / 45) < 100  # two of the 45 gaps, 19 and 20, fall on 10 frames


@given(height=st.integers(8, 400), width=st.integers(8, 400), seed=st.integers(0, 10**6))
def test_a_crop_lies_in_the_frame(height, width, seed):
    top, left, h, w = draw_crop(height, width, np.random.default_rng(seed))
    assert 0 <= top <= top + h <= height and 0 <= left <= left + w <= width and min(h, w) > 0


@pytest.mark.parametrize("size", [(240, 320), (100, 300)])
def test_crops_have_the_law_of_torchvision(size):
    """Means and deviations of area, ratio and place agree with the trusted implementation's."""

    def summary(boxes: np.ndarray) -> np.ndarray:
        top, left, h, w = boxes.T
        values = np.stack([h * w / (size[0] * size[1]), w / h, top / size[0], left / size[1]])
        return np.concatenate([values.mean(axis=1), values.std(axis=1)])

    torch.manual_seed(0)
    rng, image = np.random.default_rng(0), torch.empty(3, *size)
    ours = np.array([draw_crop(*size, rng) for _ in range(6000)])
    trusted = v2.RandomResizedCrop(8, scale=(0.5, 1.0), ratio=(3 / 4, 4 / 3))
    boxes = [trusted.make_params([image]) for _ in range(6000)]
    theirs = np.array([[box[name] for name in ("top", "left", "height", "width")] for box in boxes])
    np.testing.assert_allclose(summary(ours), summary(theirs), atol=0.012)


def gradient_clip(folder: Path, fps: int = 30) -> Clip:
    """Every frame shows one picture: red grows with x, green with y. So a view tells where it was cut."""
    y, x = np.mgrid[0:128, 0:192]
    picture = np.stack([x * 255 // 191, y * 255 // 127, np.full_like(x, 128)], axis=-1).astype(np.uint8)
    path = write_frames(folder / "gradient.mp4", np.repeat(picture[None], 60, axis=0), fps, "libx264", crf="10")
    return scan_videos([path]).clips[0]


def test_both_frames_share_crop_and_flip_and_pairs_do_not(tmp_path):
    dataset = FramePairs([gradient_clip(tmp_path)], image_size=32, repeated_sampling=2)
    samples = [dataset[i] for i in range(40)]
    past = torch.cat([sample["past"] for sample in samples]).float()
    future = torch.cat([sample["future"] for sample in samples]).float()
    assert (past - future).abs().max() < 12  # nothing but the codec's noise
    steps = past[:, 0, 16, -1] - past[:, 0, 16, 0]  # red from left to right: falls where the view is flipped
    flipped = (steps < 0).float().mean().item()
    assert 0.3 < flipped < 0.7 and steps.abs().min() > 100
    corners = {tuple(view[:2, 0, 0].tolist()) for view in past}
    assert len(corners) > 60  # 80 pairs, each with a crop of its own
    assert (past[:, 1, -1] > past[:, 1, 0]).all()  # never upside down


def test_a_view_is_torchvisions_resized_crop_of_the_frame(good):
    clip = good[0]
    dataset = FramePairs([clip], image_size=48, repeated_sampling=1, seed=3)
    rng = np.random.default_rng([3, 7])
    pair = draw_pair(clip.info, rng)
    box = draw_crop(clip.info.height, clip.info.width, rng)
    flip = rng.random() < 0.5
    for name, frame in zip(("past", "future"), read_frames(clip.path, pair), strict=True):
        image = torch.from_numpy(frame).permute(2, 0, 1)
        mode = v2.InterpolationMode.BICUBIC
        expected = v2.functional.resized_crop(image, *box, [48, 48], interpolation=mode, antialias=True)
        expected = expected.flip(-1) if flip else expected
        assert (dataset[7][name][0].int() - expected.int()).abs().max() <= 1


def test_the_past_comes_before_the_future_by_the_gap(good, monkeypatch):
    monkeypatch.setattr(clips, "draw_crop", lambda height, width, *_: (0, 0, height, width))
    dataset = FramePairs(good, image_size=160, gap=(10, 20), repeated_sampling=3)
    for index in range(12):
        fps, (sample, cuts) = good[index % 3].info.fps, dataset.sample(index)
        for *views, gap, cut in zip(sample["past"], sample["future"], sample["gap"], cuts, strict=True):
            upright = [view.flip(-1) if cut.flip else view for view in views]
            first, second = (read_number(view.permute(1, 2, 0).numpy()) for view in upright)
            assert gap.item() == pytest.approx((second - first) / fps * 30, rel=1e-6) and gap.dtype == torch.float32
            assert 10 / 30 - 0.5 / fps <= (second - first) / fps <= 20 / 30 + 0.5 / fps and first >= 0


def test_the_index_alone_decides_a_sample(good):
    options = {"image_size": 32, "seed": 5}
    first, again = FramePairs(good, **options), FramePairs(good, **options)
    order = [4, 1, 10**6, 1, 0]
    samples = [first[i] for i in order]
    for i, sample in zip(order, samples, strict=True):
        assert torch.equal(sample["past"], again[i]["past"]) and torch.equal(sample["future"], again[i]["future"])
        assert sample["past"].shape == (2, 3, 32, 32) and sample["past"].dtype == torch.uint8
    assert not torch.equal(first[1]["past"], first[4]["past"])  # the same clip, an epoch later
    assert not torch.equal(first[1]["past"], FramePairs(good, image_size=32, seed=6)[1]["past"])


def test_workers_change_nothing(good):
    dataset, batches = FramePairs(good, image_size=16), StepBatches(len(good), 4, steps=3)
    alone, shared = (
        list(DataLoader(dataset, batch_sampler=batches, collate_fn=collate_pairs, num_workers=n)) for n in (0, 2)
    )
    assert len(alone) == 3 and alone[0]["past"].shape == (8, 3, 16, 16)
    assert all(torch.equal(a[name], b[name]) for a, b in zip(alone, shared, strict=True) for name in a)


def test_a_data_set_refuses_what_it_cannot_serve(good):
    with pytest.raises(UserError, match="no clips"):
        FramePairs([])
    with pytest.raises(UserError, match="spans less than the largest gap; scan with min_seconds=10.000"):
        FramePairs(good, gap=(4, 300))
    with pytest.raises(UserError, match=r"gap \(9, 4\)"):
        FramePairs(good, gap=(9, 4))


# --- Cache


def fill(clip: Clip, folder: Path) -> np.ndarray:
    return read_clip(clip, range(clip.info.num_frames), 32, folder)


def test_the_cache_holds_the_same_frames_and_is_used(good, tmp_path, monkeypatch):
    options = {"image_size": 24, "frame_size": 32}
    direct, cached = FramePairs(good, **options), FramePairs(good, **options, frame_cache=tmp_path / "cache")
    for index in range(4):
        assert torch.equal(direct[index]["past"], cached[index]["past"])
        assert torch.equal(direct[index]["future"], cached[index]["future"])
    assert len(list((tmp_path / "cache").iterdir())) == 3
    monkeypatch.setattr(clips, "read_frames", None)  # no video may be opened now
    assert cached[5]["past"].shape == (2, 3, 24, 24)


def test_a_changed_video_or_size_is_decoded_again(tmp_path):
    path = write_numbered(tmp_path / "a.mp4", 60, preset="ultrafast")
    clip = scan_videos([path]).clips[0]
    assert fill(clip, tmp_path / "c").shape == (60, 32, 80, 3)
    assert read_clip(clip, [3, 0], None, tmp_path / "c").shape == (2, 64, 160, 3)
    write_frames(path, np.full((60, 64, 160, 3), 77, np.uint8), 30, "libx264")
    os.utime(path, ns=(1, 1))
    assert abs(int(fill(clip, tmp_path / "c").mean()) - 77) < 3
    path.unlink()
    with pytest.raises(UserError, match="a.mp4: no such file any more"):
        fill(clip, tmp_path / "c")


def test_a_killed_writer_leaves_nothing_that_is_read(good, tmp_path, monkeypatch):
    """The process ends in the middle of writing, without any clean-up."""

    def half(path, wanted, short_side):
        yield from islice(video.iter_frames(path, wanted, short_side), 30)
        os._exit(9)

    context = multiprocessing.get_context("fork" if sys.platform != "win32" else "spawn")
    monkeypatch.setattr(clips, "iter_frames", half)
    process = context.Process(target=fill, args=(good[0], tmp_path))
    process.start()
    process.join()
    monkeypatch.undo()
    assert process.exitcode == 9 and len(list(tmp_path.iterdir())) == 1
    expected = read_frames(good[0].path, range(60), 32)
    np.testing.assert_array_equal(fill(good[0], tmp_path), expected)


def test_several_writers_of_one_clip_do_not_disturb_each_other(good, tmp_path):
    processes = [multiprocessing.get_context("fork").Process(target=fill, args=(good[0], tmp_path)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(list(tmp_path.iterdir())) == 1


def test_a_spoilt_cache_file_is_named(good, tmp_path):
    fill(good[0], tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"\.npy: is no whole frame cache .*delete it"):
        fill(good[0], tmp_path)


# --- Real clips


@pytest.mark.skipif(not REAL.is_dir(), reason="no real Kinetics clips: set SIAMMAE_REAL_DATA")
def test_real_clips_serve(tmp_path):
    scan = scan_videos(list_kinetics(REAL))
    assert len(scan.clips) == 20 and not scan.skipped
    rates = sorted({round(clip.info.fps) for clip in scan.clips})
    assert (rates[0], rates[-1]) == (12, 30)
    small = sorted(scan.clips, key=lambda clip: clip.path.stat().st_size)[:2]
    direct = FramePairs(small, image_size=64, frame_size=96)
    cached = FramePairs(small, image_size=64, frame_size=96, frame_cache=tmp_path)
    assert torch.equal(direct[0]["future"], cached[0]["future"])
    assert torch.equal(direct[1]["past"], cached[1]["past"])
