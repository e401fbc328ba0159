"""A store of clips: what it holds is what it was made from, whenever making it was stopped."""

import os
import platform
import random
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from make_videos import numbered_frame, read_number, with_matrix, write_numbered

from data_scripts import prepare_kinetics
from lib.data.clips import FramePairs
from lib.data.kinetics import list_kinetics, scan_videos, split_videos
from lib.data.manifest import MANIFEST, read_manifest
from lib.data.store import StoreFormat, build_store
from lib.data.video import Clip, VideoInfo, probe, read_frames
from lib.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "data_scripts" / "prepare_kinetics.py"
ROWS = [("a", "waving", 60), ("b", "waving", 70), ("c", "high jump", 90), ("short", "high jump", 20)]


@pytest.fixture
def root(tmp_path) -> Path:
    """Kinetics' layout: three clips that serve, one that is short, one that is damaged, one that is not there."""
    folder, rows = tmp_path / "kinetics400", ["label,youtube_id,time_start,time_end,split"]
    for name, label, frames in ROWS:
        path = folder / "train" / label.replace(" ", "_") / f"{name}_000001_000011.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_numbered(path, frames, preset="ultrafast")
        rows.append(f"{label},{name},1,11,train")
    (folder / "train" / "waving" / "broken_000001_000011.mp4").write_bytes(b"no video")
    rows += ["waving,broken,1,11,train", "waving,gone,1,11,train"]
    (folder / "annotations").mkdir()
    (folder / "annotations" / "train.csv").write_text("\n".join(rows) + "\n")
    return folder


def prepare(root: Path, store: Path, *arguments: object) -> list[str]:
    """The command, as a job would start it."""
    return [sys.executable, str(SCRIPT), "--root", str(root), "--store", str(store), *map(str, arguments)]


@pytest.fixture
def made(monkeypatch, capsys):
    """The command, run here: what it exits with, prints, and says of errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", prepare(*arguments)[1:])
        try:
            code = prepare_kinetics.main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run


def tree(folder: Path) -> dict[str, bytes]:
    """What its files hold; of the manifest's rows not when the videos were written, which ends them."""
    seen = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    found = {str(path.relative_to(folder)): path.read_bytes() for path in seen}
    return found | {path: re.sub(rb",\w+\r\n", b"", found[path]) for path in {MANIFEST} & set(found)}


def test_a_store_is_a_data_set_of_the_same_layout(root, tmp_path, made):
    store = tmp_path / "store"
    code, told, wrong = made(root, store)
    assert (code, wrong) == (0, "") and f"{store}: 3 clips kept" in told
    for reason in ("1, shorter than 1.6 s", "1, no such file", "1, cannot be decoded"):
        assert f"left out: {reason}" in told
    scan = scan_videos(list_kinetics(store))
    names = [clip.path.relative_to(store) for clip in scan.clips]
    assert names == [clip.path.relative_to(root) for clip in scan_videos(list_kinetics(root)).clips]
    assert len(names) == 3 == scan.looked_up and len(scan.skipped) == 3
    for clip, (_, _, frames) in zip(scan.clips, ROWS, strict=False):
        assert clip.info == probe(root / clip.path.relative_to(store)) and clip.info.num_frames == frames
        (run,) = clip.info.jumps
        assert (run.every, run.count) == (4, -(-frames // 4))
        order = np.random.default_rng(0).permutation(frames)
        assert [read_number(frame) for frame in read_frames(clip.path, order, info=clip.info)] == order.tolist()
    sample = FramePairs(scan.clips, image_size=32)[1]
    assert sample["past"].shape == (2, 3, 32, 32)


def write_unsteady(path: Path) -> Path:
    """60 frames, half of them 20 ms apart and half 50."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        picture = numbered_frame(0)
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, milliseconds in enumerate([*range(0, 600, 20), *range(600, 2100, 50)]):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
            frame.pts, frame.time_base = milliseconds, Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def test_what_is_stored_is_small_upright_and_as_long(tmp_path):
    plain = write_numbered(tmp_path / "plain.mp4", 60, preset="ultrafast")
    tall, unsteady = with_matrix(plain, tmp_path / "a.mp4", 0, 1, -1, 0), write_unsteady(tmp_path / "b.mp4")
    plain.unlink()
    clips = [Clip(path, probe(path)) for path in (tall, unsteady)]
    assert build_store(clips, tmp_path, tmp_path / "store", StoreFormat(short_side=40), 2) == {}
    stored, kept = (probe(tmp_path / "store" / path.name) for path in (tall, unsteady))
    assert (stored.height, stored.width, stored.num_frames) == (100, 40, 60) and stored.jumps
    for number in (41, 7):
        upright, small = (read_frames(path, [number])[0] for path in (tall, tmp_path / "store" / "a.mp4"))
        turns = [k for k in range(4) if read_number(np.rot90(upright, k)) == number]
        assert turns and all(read_number(np.rot90(small, k)) == number for k in turns)
    np.testing.assert_allclose(kept.times, clips[1].info.times, atol=1e-4)


def test_what_is_there_is_not_made_again(root, tmp_path, made):
    store = tmp_path / "store"
    made(root, store)
    before, quiet = {path: path.stat().st_ctime_ns for path in store.rglob("*.mp4")}, tree(store)
    (store / "train" / "waving" / "a_000001_000011.mp4").unlink()
    made(root, store)
    after = {path: path.stat().st_ctime_ns for path in before}
    assert sum(before[path] != after[path] for path in before) == 1 and tree(store) == quiet


def test_shards_make_the_same_store(root, tmp_path, made):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    made(root, whole)
    jobs = [subprocess.Popen(prepare(root, parts, "--shard", f"{i}/3"), stdout=subprocess.DEVNULL) for i in (1, 2, 3)]
    assert [job.wait() for job in jobs] == [0, 0, 0]
    assert tree(parts) == {path: content for path, content in tree(whole).items() if path != MANIFEST}
    made(root, parts)
    assert tree(parts) == tree(whole)


def test_a_kill_leaves_whole_clips_and_the_next_run_the_same_store(root, tmp_path, made):
    quiet, start = tmp_path / "quiet", time.monotonic()
    subprocess.run(prepare(root, quiet, "--workers", 1), capture_output=True, check=True)
    whole, ended, chance = time.monotonic() - start, [], random.Random(0)
    for number in range(4):
        store = tmp_path / str(number)
        process = subprocess.Popen(prepare(root, store, "--workers", 1), stdout=subprocess.DEVNULL)
        time.sleep(whole * chance.uniform(0.6, 1))
        process.kill()
        ended.append(process.wait())
        for path in store.rglob("*.mp4"):
            assert path.name.startswith(".") or path.read_bytes() == (quiet / path.relative_to(store)).read_bytes()
        made(root, store)
        assert tree(store) == tree(quiet)
        assert not list(store.rglob(".*.partial*"))
    assert -signal.SIGKILL in ended


def test_what_another_machine_is_writing_stays(root, tmp_path, made):
    left = tmp_path / "store" / "train" / "waving" / ".a.1@elsewhere.partial.mp4"
    ours = left.with_name(f".b.{2**22 + 1}@{platform.node()}.partial.mp4")  # of no process: beyond the largest number
    made(root, tmp_path / "store")
    for path in (left, ours):
        path.write_bytes(b"begun")
    assert made(root, tmp_path / "store")[0] == 0 and left.is_file() and not ours.exists()


def test_a_full_disk_is_told_and_survived(root, tmp_path, made):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        code, _, wrong = made(root, disk / "store")
        assert code == 2 and "no space left" in wrong and wrong.count("\n") == 1
        opened = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
        assert not [path for path in opened if path.startswith(str(disk))], "what was deleted still takes space"
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        assert made(root, disk / "store")[0] == made(root, tmp_path / "store")[0] == 0
        assert tree(disk / "store") == tree(tmp_path / "store")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_another_format_or_somebody_s_folder_is_refused(root, tmp_path):
    clips = scan_videos(list_kinetics(root)).clips
    assert build_store(clips[:1], root, tmp_path / "store", StoreFormat(), 1) == {}
    with pytest.raises(UserError, match="holds clips of another format, see store.json"):
        build_store(clips, root, tmp_path / "store", StoreFormat(gop=2), 1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="mine: holds other files"):
        build_store(clips, root, tmp_path / "mine", StoreFormat(), 1)
    for wrong in ({"gop": 0}, {"crf": 60}, {"short_side": 2}):
        with pytest.raises(UserError, match="gop must be 1 or more"):
            StoreFormat(**wrong)


def test_two_videos_of_one_name_are_refused_before_anything_is_made(root, tmp_path, made):
    (root / "annotations" / "train.csv").unlink()
    twin = root / "train" / "waving" / "a_000001_000011.mkv"
    twin.write_bytes(twin.with_suffix(".mp4").read_bytes())
    code, told, wrong = made(root, tmp_path / "store")
    assert (code, told) == (2, "") and "a_000001_000011.mp4: 2 videos would be stored there" in wrong
    assert not (root / MANIFEST).exists()


def test_a_video_that_was_replaced_and_a_stored_one_that_is_damaged_are_made_again(root, tmp_path, made):
    store = tmp_path / "store"
    made(root, store)
    path, other = (root / "train" / "waving" / f"{name}_000001_000011.mp4" for name in "ab")
    write_numbered(path, 80, preset="ultrafast")
    os.utime(path, (1e9, 1e9))  # as a copy that keeps times: it is older than what it replaces
    (store / other.relative_to(root)).write_bytes(b"")
    code, told, _ = made(root, store)
    assert code == 1 and "1 stored clips were damaged and are deleted; start again" in told
    assert made(root, store)[0] == 0
    assert [probe(store / video.relative_to(root)).num_frames for video in (path, other)] == [80, 70]


def test_a_clip_that_breaks_on_the_way_is_left_out_with_its_reason(root, tmp_path):
    good, other, _ = scan_videos(list_kinetics(root)).clips
    good.path.write_bytes(good.path.read_bytes()[:2000])
    failed = build_store([good, other], root, tmp_path / "store", StoreFormat(), 1)
    assert list(failed) == [good.path] and "\n" not in failed[good.path]
    (stored,) = (tmp_path / "store").rglob("*.mp4")
    assert stored.name == other.path.name
    content = stored.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


@pytest.fixture
def videos(tmp_path) -> Path:
    """Ten clips without a val split: the second is short, the fifth breaks in the middle."""
    folder = tmp_path / "clips" / "videos"
    folder.mkdir(parents=True)
    for number in range(10):
        write_numbered(folder / f"clip{number}.mp4", 20 if number == 1 else 60, preset="ultrafast")
    path = folder / "clip4.mp4"
    content = bytearray(path.read_bytes())
    content[len(content) // 3 : len(content) // 2] = bytes(len(content) // 2 - len(content) // 3)
    path.write_bytes(content)
    return folder.parent


def test_a_store_holds_out_what_its_source_does(videos, tmp_path, made):
    assert made(videos, tmp_path / "store")[0] == 0
    (_, held), (train, store_held) = split_videos(videos), split_videos(tmp_path / "store")
    assert [path.name for path in store_held] == [path.name for path in held] == ["clip2.mp4", "clip6.mp4"]
    assert [path.name for path in train] == [f"clip{number}.mp4" for number in (0, 3, 5, 7, 8, 9)]


def test_what_breaks_in_the_middle_is_named_and_no_longer_readable(videos, tmp_path, made):
    assert isinstance(probe(videos / "videos" / "clip4.mp4"), VideoInfo)  # which does not decode it all
    _, told, _ = made(videos, tmp_path / "store")
    assert f"broken: {videos / 'videos' / 'clip4.mp4'}" in told
    found = read_manifest(videos / MANIFEST)
    assert [path.name for path, verdict in found.items() if isinstance(verdict, str)] == ["clip4.mp4"]
    (videos / MANIFEST).unlink()
    script = [sys.executable, str(SCRIPT), "--root", str(videos), "--decode"]
    told = subprocess.run(script, capture_output=True, text=True, check=True).stdout
    assert "10 videos, 9 readable, 1 not" in told and read_manifest(videos / MANIFEST) == found
    subprocess.run(script[:-1], capture_output=True, check=True)  # opens what it does not know
    assert read_manifest(videos / MANIFEST) == found


def test_places_that_cannot_serve_are_refused_before_anything_is_made(videos, tmp_path, made):
    for arguments, words in (
        ((videos, videos / "store"), "whose videos are read"),
        ((videos, tmp_path / "s", "--min-seconds", "nan"), "give 0 or more"),
        ((videos, SCRIPT), f"{SCRIPT}: File exists"),
    ):
        code, told, wrong = made(*arguments)
        assert (code, told) == (2, "") and words in wrong and wrong.count("\n") == 1
    assert not (videos / MANIFEST).exists() and not (tmp_path / "s").exists()
