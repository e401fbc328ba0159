"""Every data set's command against a server on this machine: whole, in parts, through faults, with the same end."""

import hashlib
import json
import random
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fetch_server import serve
from make_archives import make_rar, make_tar, make_zip
from make_videos import write_frames

import make
from lib.data.kinetics import list_kinetics, scan_videos
from lib.fetch import command, datasets
from lib.fetch.download import open_session

FETCHED = ("kinetics400", "davis2017", "jhmdb", "ucf101", "cifar10", "kitti")
BY_HAND = ("ssv2", "vip", "vspw", "uvo")
rng = np.random.default_rng(0)
NOISE = [rng.bytes(size) for size in (5000, 9000, 100, 70_000)]
AWS = "s3.amazonaws.com/kinetics/400"


def clip(folder: Path, name: str, codec: str = "libx264", frames: int = 60) -> bytes:
    """A small video's bytes."""
    picture = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
    path = write_frames(folder / name, [np.roll(picture, t, axis=1) for t in range(frames)], 30, codec)
    return path.read_bytes()


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """For each data set its files by host and path, as they are published, but small."""
    folder = tmp_path_factory.mktemp("clips")
    videos = [clip(folder, f"{number}.mp4") for number in range(5)]
    short, broken = clip(folder, "short.mp4", frames=5), videos[0][:200]
    names = [f"id-{number}_{number:06d}_{number + 10:06d}.mp4" for number in range(7)]
    head = "label,youtube_id,time_start,time_end,split\n"
    rows = [f'"riding (a) bike\'s",id-{number},{number},{number + 10},train\n' for number in range(6)]
    kinetics = {
        f"{AWS}/annotations/train.csv": (head + "".join(rows)).encode(),
        f"{AWS}/annotations/val.csv": (head + "yoga,id-6,6,16,val\n").encode(),
        f"{AWS}/train/k400_train_path.txt": "".join(
            f"https://{AWS}/train/part_{k}.tar.gz\n" for k in range(3)
        ).encode(),
        f"{AWS}/train/part_0.tar.gz": make_tar({names[0]: videos[0], names[1]: broken}),
        f"{AWS}/train/part_1.tar.gz": make_tar({f"./{names[2]}": videos[1], names[3]: short, "unknown_1_2.mp4": b"x"}),
        f"{AWS}/train/part_2.tar.gz": make_tar({names[4]: broken, names[5]: videos[3]}),
        f"{AWS}/val/k400_val_path.txt": f"https://{AWS}/val/part_0.tar.gz\n".encode(),
        f"{AWS}/val/part_0.tar.gz": make_tar({names[6]: videos[4]}),
        f"{AWS}/replacement_for_corrupted_k400.tgz": make_tar({f"replacement/{names[4]}": videos[2]}),
    }
    pictures = {"JPEGImages": "jpg", "Annotations": "png"}
    davis = {f"DAVIS/{kind}/480p/bear/00000.{end}": NOISE[k] for k, (kind, end) in enumerate(pictures.items())}
    davis |= {"DAVIS/ImageSets/2017/val.txt": b"bear\n", "DAVIS/README.md": b"x", "__MACOSX/JPEGImages/._x": b""}
    tue, jhmdb = "files.is.tue.mpg.de/jhmdb", {}
    for k, name in enumerate(("joint_positions", "puppet_mask")):
        jhmdb[f"{tue}/{name}.zip"] = make_zip({f"{name}/walk/c/{name}.mat": NOISE[k], f"{name}/.DS_Store": b""})
    for name in ("splits", "sub_splits"):
        jhmdb[f"{tue}/{name}.zip"] = make_zip({f"{name}/walk_test_split1.txt": b"c.avi 1\n"})
    jhmdb[f"{tue}/JHMDB_video.zip"] = make_zip({"ReCompress_Videos/walk/c.avi": NOISE[0], "__MACOSX/._c.avi": b"x"})
    jhmdb[f"{tue}/Rename_Images.tar.gz"] = make_tar({"Rename_Images/walk/c/00001.png": NOISE[3]})
    lists = {f"ucfTrainTestlist/{name}": b"1 Walk\n" for name in ("classInd.txt", "trainlist01.txt")}
    ucf = {f"UCF-101/Walk/v_Walk_g0{k}_c01.avi": clip(folder, f"{k}.avi", "mpeg4", 20) for k in range(3)}
    splits = "www.crcv.ucf.edu/wp-content/uploads/2019/03/UCF101TrainTestSplits-RecognitionTask.zip"
    kitti = {"image": {"training/image_02/0000/0.png": NOISE[0]}, "label": {"training/label_02/0.txt": NOISE[1]}}
    avg = "s3.eu-central-1.amazonaws.com/avg-kitti"
    webm = {f"20bn-something-something-v2/{k}.webm": clip(folder, f"{k}.webm", "libvpx-vp9", 12) for k in range(3)}
    uvo = {"VideoDenseSet/UVO_video_val_dense.json": b"{}", "x/uvo_videos_dense_frames/a/0.png": NOISE[2]}
    return {
        "kinetics400": kinetics,
        "davis2017": {"data.vision.ee.ethz.ch/jpont/davis/DAVIS-2017-trainval-480p.zip": make_zip(davis)},
        "jhmdb": jhmdb,
        "ucf101": {
            splits: make_zip(lists),
            "www.crcv.ucf.edu/datasets/human-actions/ucf101/UCF101.rar": make_rar(ucf),
        },
        "cifar10": {
            "www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz": make_tar({"cifar-10-batches-py/data_batch_1": NOISE[3]})
        },
        "kitti": {f"{avg}/data_tracking_{kind}_2.zip": make_zip(members) for kind, members in kitti.items()},
        "ssv2": {"part": make_tar(webm)},
        "vip": {"VIP.zip": make_zip({"VIP_Fine/lists/val_videos.txt": b"v\n", "VIP_Fine/Images/v/0.jpg": NOISE[0]})},
        "vspw": {"VSPW_480p.tar": make_tar({"VSPW_480p/val.txt": b"a\n", "VSPW_480p/data/a/0.jpg": NOISE[1]}, "w")},
        "uvo": {"uvo_dense.zip": make_zip(uvo)},
    }


@pytest.fixture(autouse=True)
def known(published, monkeypatch):
    """The toy archives' own sizes and checksums in place of the real ones'; a busy server is asked again at once."""
    for name in FETCHED:
        found = datasets.DATASETS[name]
        archives = []
        for source in found.archives:
            content = published[name][source.url.removeprefix("https://")]
            size, md5 = source.size and len(content), source.md5 and hashlib.md5(content).hexdigest()
            archives.append(replace(source, size=size, md5=md5))
        monkeypatch.setitem(datasets.DATASETS, name, replace(found, archives=tuple(archives)))
    monkeypatch.setattr(command, "REPLACEMENT", datasets.DATASETS["kinetics400"].archives[0])
    monkeypatch.setattr(command, "open_session", lambda: open_session(pause=0.001))


def tree(root: Path) -> dict[str, bytes]:
    """What is there in the end, but for locks and what has to do with times of files."""
    files = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files if path.name != "video_manifest.csv"}


def get(name: str, root: Path, server, *words: str) -> int:
    try:
        return command.main(name, ["--root", str(root), "--mirror", server.url, *words])
    except SystemExit as end:
        return end.code


@pytest.fixture(scope="module")
def wanted():
    """Each data set's tree after a quiet run, made when it is first asked for."""
    return {}


def expected(wanted, name: str, published, folder: Path) -> dict[str, bytes]:
    if name not in wanted:
        with serve(published[name]) as server:
            assert get(name, folder / "quiet", server) == 0
        wanted[name] = tree(folder / "quiet")
    return wanted[name]


def biggest(files: dict[str, bytes]) -> str:
    return max(files, key=lambda name: len(files[name]))


FAULTS = {
    "cut": [("cut", 100)], "cut and cut": [("cut", 100), ("cut", 50)], "garbled": [("garbled",)],
    "busy twice": [("status", 503), ("status", 503)],
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", FETCHED)
def test_through_every_fault_the_tree_is_the_same(name, fault, published, wanted, tmp_path):
    quiet = expected(wanted, name, published, tmp_path)
    with serve(published[name]) as server:
        for path in published[name]:
            checked = next((s for s in datasets.DATASETS[name].archives if s.url.endswith(path) and s.md5), None)
            if fault != "garbled" or checked:  # else nobody can tell
                server.faults[f"/{path}"] = list(FAULTS[fault])
        assert get(name, tmp_path / "root", server) == 0
        assert tree(tmp_path / "root") == quiet
        asked = len(server.requests)
        assert get(name, tmp_path / "root", server) == 0 and tree(tmp_path / "root") == quiet
        again = [path for path, _ in server.requests[asked:]]
        assert not again, "what is done is not done again"


@pytest.mark.parametrize("name", FETCHED)
def test_what_is_missing_now_is_fetched_by_the_next_run(name, published, wanted, tmp_path, capsys):
    quiet = expected(wanted, name, published, tmp_path)
    with serve(published[name]) as server:
        path = biggest(published[name])
        server.faults[f"/{path}"] = [("status", 404)]
        assert get(name, tmp_path / "root", server) == 1
        shown = capsys.readouterr()
        assert f"{path.rpartition('/')[2]}: failed: " in shown.out and "start again for these" in shown.out
        assert get(name, tmp_path / "root", server) == 0 and tree(tmp_path / "root") == quiet


@pytest.mark.parametrize("name", ["kinetics400", "jhmdb"])
def test_shards_make_the_same_tree(name, published, wanted, tmp_path):
    quiet = expected(wanted, name, published, tmp_path)
    with serve(published[name]) as server:
        for number in (3, 1, 2):
            assert get(name, tmp_path / "root", server, "--shard", f"{number}/3") == 0
        assert tree(tmp_path / "root") == quiet


RUN = """
    import sys
    sys.path[:0] = [{root!r}, {tests!r}]
    from dataclasses import replace
    from lib.fetch import command, datasets
    found = datasets.DATASETS[{name!r}]
    plain = tuple(replace(source, size=None, md5=None) for source in found.archives)
    datasets.DATASETS[{name!r}] = replace(found, archives=plain)
    command.REPLACEMENT = plain[0] if {name!r} == "kinetics400" else command.REPLACEMENT
    sys.exit(command.main({name!r}, ["--root", {folder!r}, "--mirror", {url!r}]))
"""


@pytest.mark.parametrize("name", ["kinetics400", "davis2017", "ucf101"])
def test_killed_at_any_moment_it_goes_on(name, published, wanted, tmp_path):
    quiet = expected(wanted, name, published, tmp_path)
    moments = random.Random(0)
    with serve(published[name]) as server:
        server.pace = 0.02
        given = {"root": str(make.ROOT), "tests": str(make.ROOT / "tests"), "name": name, "url": server.url}
        code = textwrap.dedent(RUN).format(**given, folder=str(tmp_path / "root"))
        ended = []
        for _ in range(4):
            process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
            before, until = len(server.requests), time.monotonic() + 30
            while len(server.requests) == before and process.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 0.5))
            process.kill()
            ended.append(process.wait())
            for path, content in tree(tmp_path / "root").items():  # what has its name is whole
                assert path not in quiet or quiet[path] == content, path
        server.pace = 0
        assert -signal.SIGKILL in ended
        assert get(name, tmp_path / "root", server) == 0 and tree(tmp_path / "root") == quiet


@pytest.mark.parametrize("name", ["kinetics400", "davis2017"])
def test_a_full_disk_is_told_and_survived(name, published, wanted, tmp_path, capsys):
    quiet, disk = expected(wanted, name, published, tmp_path), tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no small disk can be mounted here")
    try:
        with serve(published[name]) as server:
            assert get(name, disk, server) in (1, 2)
            shown = capsys.readouterr()
            assert "no space left" in (shown.out + shown.err).lower() and "Traceback" not in shown.err
            subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
            assert get(name, disk, server) == 0 and tree(disk) == quiet
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --- Each data set's own ---


def test_kinetics_lies_as_its_readers_want_it(published, tmp_path, capsys):
    with serve(published["kinetics400"]) as server:
        assert get("kinetics400", tmp_path, server) == get("kinetics400", tmp_path, server, "--split", "val") == 0
    root = tmp_path / "kinetics400"
    assert len(list_kinetics(root)) == 6 and len(list_kinetics(root, "val")) == 1
    scan = scan_videos(list_kinetics(root), min_seconds=1)
    assert len(scan.clips) == 4 and len(scan.skipped) == 2 and scan.looked_up == 6  # the broken and the short one
    shown = capsys.readouterr().out
    assert "5 of 6 videos can be read" in shown and "skipped: 1, the first train/riding_a_bikes/id-1" in shown
    noted = json.loads((root / ".fetched" / "train_part_1.tar.gz.json").read_text())
    assert noted["left"] == 1 and noted["train_part_1.tar.gz"]["bytes"] == len(
        published["kinetics400"][f"{AWS}/train/part_1.tar.gz"]
    )


@pytest.mark.parametrize(("subset", "fetched"), [(1, 1), (2, 1), (3, 2), (5, 3)])
def test_a_subset_of_kinetics_fetches_no_more_than_it_needs(subset, fetched, published, tmp_path):
    with serve(published["kinetics400"]) as server:
        for _ in range(2):
            assert get("kinetics400", tmp_path, server, "--subset", str(subset)) == 0
            assert len(list(tmp_path.rglob("*.mp4"))) == subset
        assert len(list_kinetics(tmp_path / "kinetics400")) == subset  # the others are not missed
        assert get("kinetics400", tmp_path, server, "--subset", "1") == 0  # which is there
        assert sum("part_" in path for path, _ in server.requests) == fetched
        assert get("kinetics400", tmp_path, server) == 0 and len(list(tmp_path.rglob("*.mp4"))) == 6


@pytest.mark.parametrize("name", BY_HAND)
def test_what_a_person_fetches_is_taken_over(name, published, tmp_path, capsys):
    with serve({}) as server:
        assert get(name, tmp_path, server) == 2
        error = capsys.readouterr().err
        assert str(tmp_path / name / "downloads") in error and datasets.DATASETS[name].page in error
        downloads = tmp_path / name / "downloads"
        downloads.mkdir(parents=True)
        for file, content in published[name].items():
            if name == "ssv2":
                for number in range(3):
                    part = content[number * 2000 : (number + 1) * 2000 if number < 2 else None]
                    (downloads / f"20bn-something-something-v2-{number:02d}").write_bytes(part)
                (downloads / "something-something-v2-labels.json").write_text("{}")
            else:
                (downloads / file).write_bytes(content)
        assert get(name, tmp_path, server) == 0 and not server.requests
    found = {path.relative_to(tmp_path / name).parts[0] for path in (tmp_path / name).rglob("*") if path.is_file()}
    inside = {
        "ssv2": {"20bn-something-something-v2", "something-something-v2-labels.json", "video_manifest.csv"},
        "vip": {"VIP_Fine"}, "vspw": {"VSPW_480p"}, "uvo": {"VideoDenseSet", "uvo_videos_dense_frames"},
    }  # fmt: skip
    assert found - {"downloads", ".fetched"} == inside[name]


def test_a_dry_run_asks_nobody_and_says_what_how_much_and_on_which_terms(tmp_path, capsys):
    with serve({}) as server:
        for name, found in datasets.DATASETS.items():
            assert get(name, tmp_path, server, "--dry-run") == 0
            shown = capsys.readouterr().out
            assert found.terms in shown and found.page in shown and "free there: " in shown
            assert all(source.url in shown for source in found.archives)
            assert found.by_hand in shown and bool(found.archives or found.by_hand)
        assert not server.requests and not list(tmp_path.iterdir())


def test_a_dry_run_of_a_part_does_not_promise_the_whole(tmp_path, capsys):
    with serve({}) as server:
        for words in (["--subset", "10"], ["--shard", "1/8"], ["--split", "val"]):
            assert get("kinetics400", tmp_path, server, "--dry-run", *words) == 0
            shown = capsys.readouterr().out
            assert "all of it, of which you want a part: to fetch: 450 GB" in shown
            assert (datasets.REPLACEMENT.url in shown) == ("--subset" not in words)


def test_wrong_arguments_are_refused(tmp_path):
    with serve({}) as server:
        assert get("kinetics400", tmp_path, server, "--subset", "3", "--shard", "1/2") == 2
        assert get("kinetics400", tmp_path, server, "--subset", "0") == 2
        for words in (["--shard", "0/2"], ["--shard", "3/2"], ["--shard", "x"]):
            assert get("kinetics400", tmp_path, server, *words) == 2


def test_every_data_set_has_its_command():
    scripts = {path.stem for path in (make.ROOT / "data_scripts").glob("get_*.py")}
    assert scripts == {f"get_{name}" for name in datasets.DATASETS}
    done = subprocess.run(
        [sys.executable, make.ROOT / "data_scripts" / "get_cifar10.py", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "CIFAR-10" in done.stdout and "--subset" not in done.stdout
