"""Drawn folders: names, suffixes, numbers, encodings, links and litter change, and every loader finds the same.

A loader that cannot tell what is meant refuses in one line; none may find less, or something else, without a word.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lib.data.actions import list_jhmdb_actions, list_kinetics_actions, list_ssv2, list_ucf101
from lib.data.cifar import read_cifar
from lib.data.davis import DavisDataset
from lib.data.jhmdb import JhmdbDataset
from lib.data.kitti import KittiDataset
from lib.data.uvo import UvoDataset
from lib.data.vip import VipDataset
from lib.data.vspw import VspwDataset
from lib.errors import UserError
from lib.toyworld import ToyWorldOptions, ensure_toy_world

OPTIONS = ToyWorldOptions(
    datasets=("kinetics400", "davis2017", "jhmdb", "vip", "ucf101", "ssv2", "vspw", "uvo", "kitti"), height=48,
    width=64, objects=2, kinetics_train=3, kinetics_val=2, kinetics_frames=60, davis_train=0, davis_val=2,
    davis_frames=30, small_clips=2, small_frames=25, uvo_videos=2, uvo_frames=6,
)  # fmt: skip
LITTER_FOLDERS = (".ipynb_checkpoints", "__MACOSX", ".git", ".Trash-1000", "@eaDir", ".cache")
LITTER_FILES = (".DS_Store", "Thumbs.db", "desktop.ini")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16")
TREES = 12


def frames(dataset) -> dict:
    """All that a loader of sequences gives: pictures, and masks or joints."""
    found = {}
    for sequence in dataset:
        truth = sequence.joints() if hasattr(sequence, "joints") else sequence.masks()
        found[sequence.name] = [sequence.frames(), truth]
    return found


def videos(actions) -> dict:
    """All that a list of actions gives: the videos' bytes with the words of their classes, in order."""
    named = [(video.path, actions.classes[video.label] if video.label >= 0 else "") for video in actions.videos]
    return {"classes": actions.classes, "videos": [(path.read_bytes(), name) for path, name in named]}


LOADERS: dict[str, Callable[[Path], dict]] = {
    "davis": lambda root: frames(DavisDataset(root / "davis2017")),
    "vspw": lambda root: frames(VspwDataset(next(p for p in (root / "vspw/VSPW_480p", root / "vspw") if p.is_dir()))),
    "vip": lambda root: frames(VipDataset(root / "vip")),
    "kitti": lambda root: frames(KittiDataset(root / "kitti")),
    "uvo": lambda root: frames(UvoDataset(root / "uvo")),
    "jhmdb": lambda root: frames(JhmdbDataset(root / "jhmdb")),
    "every jhmdb": lambda root: frames(JhmdbDataset(root / "jhmdb", None)),
    "kinetics": lambda root: videos(list_kinetics_actions(root / "kinetics400")),
    "kinetics by folder": lambda root: videos(list_kinetics_actions(root / "kinetics400", "val")),
    "ssv2": lambda root: videos(list_ssv2(root / "ssv2")),
    "ssv2 test": lambda root: videos(list_ssv2(root / "ssv2", "test")),
    "ucf101": lambda root: videos(list_ucf101(root / "ucf101")),
    "jhmdb actions": lambda root: videos(list_jhmdb_actions(root / "jhmdb")),
    "pictures": lambda root: read_cifar(root / "pictures", "train")._asdict(),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Every layout, small; and pictures by class."""
    root = ensure_toy_world(tmp_path_factory.mktemp("trees") / "world", OPTIONS, workers=1)
    rng = np.random.default_rng(0)
    from PIL import Image

    for split in ("train", "test"):
        for name in ("cat", "dog"):
            folder = root / "pictures" / split / name
            folder.mkdir(parents=True)
            for number in range(2):
                picture = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
                picture.save(folder / f"{number}.png")
    avi = root / "jhmdb" / "ReCompress_Videos"  # the toy JHMDB has pictures; its videos' bytes are not looked at here
    for clip in sorted((root / "jhmdb" / "Rename_Images").glob("*/*")):
        (avi / clip.parent.name).mkdir(parents=True, exist_ok=True)
        (avi / clip.parent.name / f"{clip.name}.avi").write_bytes(clip.name.encode())
    (root / "kinetics400" / "annotations" / "val.csv").unlink(missing_ok=True)
    return root


@pytest.fixture(scope="module")
def expected(world) -> dict[str, dict]:
    return {name: load(world) for name, load in LOADERS.items()}


def same(one, other) -> bool:
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def folders_of(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())


def add_litter(root: Path, rng: np.random.Generator) -> None:
    for folder in [root, *folders_of(root)]:
        files = sorted(path for path in folder.iterdir() if path.is_file())
        if rng.random() < 0.7:
            (folder / LITTER_FILES[rng.integers(len(LITTER_FILES))]).write_bytes(b"\0\1")
        if files and rng.random() < 0.7:  # what macOS keeps of each file beside it
            file = files[rng.integers(len(files))]
            (folder / f"._{file.name}").write_bytes(b"\0\5\x16\7")
        if rng.random() < 0.7:
            stranger = folder / LITTER_FOLDERS[rng.integers(len(LITTER_FOLDERS))]
            stranger.mkdir()
            for file in files[:3]:
                shutil.copy(file, stranger / f"{file.stem}-checkpoint{file.suffix}")
            if not files:
                (stranger / "00000.jpg").write_bytes(b"no picture")


def change_encodings(root: Path, rng: np.random.Generator) -> None:
    for path in sorted(path for path in root.rglob("*") if path.suffix in (".txt", ".csv", ".json") and path.is_file()):
        if path.name != "manifest.json":
            text = path.read_text()
            end = "\r\n" if rng.random() < 0.5 else "\n"
            path.write_bytes(text.replace("\n", end).encode(ENCODINGS[rng.integers(len(ENCODINGS))]))


def change_frames(root: Path, rng: np.random.Generator) -> None:
    """Other suffixes and no padding, the same for a video's frames and masks."""
    places = [
        ("davis2017/JPEGImages/480p", "davis2017/Annotations/480p"),
        ("kitti/training/image_02", "kitti/instances"),
    ]
    for images, masks in places:
        for folder in sorted((root / images).iterdir()):
            bare, loud = rng.random() < 0.5, rng.random() < 0.5
            for path in sorted([*folder.iterdir(), *((root / masks / folder.name).iterdir())]):
                stem = str(int(path.stem)) if bare else path.stem
                path.rename(path.with_name(stem + (path.suffix.upper() if loud else path.suffix)))
    for path in sorted((root / "jhmdb" / "Rename_Images").rglob("*.png")):
        path.rename(path.with_name(f"{int(path.stem)}.PNG"))
    for path in sorted((root / "vspw").rglob("*.jpg")):
        path.rename(path.with_suffix((".JPG", ".jpeg", ".jpg")[rng.integers(3)]))


def change_videos(root: Path, rng: np.random.Generator) -> None:
    """Kinetics as copies have it: flat or with the labels' own names, double suffixes, fewer digits."""
    kind = rng.integers(4)
    for path in sorted((root / "kinetics400" / "train").rglob("*.mp4")):
        if kind == 0:
            path.rename(path.parents[1] / path.name)
        elif kind == 1:
            path.rename(path.with_name(path.name + ".mkv" if rng.random() < 0.5 else path.stem + ".MP4"))
        elif kind == 2:
            name, start, end = path.stem.rsplit("_", 2)
            path.rename(path.with_name(f"{name}_{int(start)}_{int(end)}.mp4"))
    table = root / "kinetics400" / "annotations" / "train.csv"
    if rng.random() < 0.5:
        lines = [line.split(",") for line in table.read_text().splitlines()]
        rest = [[*line[:2], f"{line[2]}.0", f"{line[3]}.0", *line[4:]] for line in lines[1:]]
        table.write_text("\n".join(",".join(line) for line in [lines[0], *rest]) + "\n")
    ssv2 = root / "ssv2"
    if rng.random() < 0.5:  # as published now
        (ssv2 / "labels").mkdir()
        for path in sorted(ssv2.glob("something-something-v2-*.json")):
            path.rename(ssv2 / "labels" / path.name.removeprefix("something-something-v2-"))


def link_folders(root: Path, store: Path, rng: np.random.Generator) -> None:
    """Some folders lie elsewhere, and are linked; a link leads back to where it is."""
    store.mkdir()
    for number, folder in enumerate(folders_of(root)):
        if folder.is_dir() and not folder.is_symlink() and rng.random() < 0.2:
            if any(part.is_symlink() for part in folder.parents):
                continue
            shutil.move(folder, store / str(number))
            folder.symlink_to(store / str(number))
    loop = root / "kinetics400" / "train" / "loop"
    loop.symlink_to(root / "kinetics400" / "train")


@pytest.mark.parametrize("number", range(TREES))
def test_loaders_find_the_same_in_any_tree_or_refuse(world, expected, tmp_path, number):
    rng = np.random.default_rng(number)
    root = tmp_path / os.fsdecode([b"plain", b"with spaces", b"a:b", b"caf\xe9"][number % 4])
    shutil.copytree(world, root)
    change_videos(root, rng)
    change_frames(root, rng)
    change_encodings(root, rng)
    add_litter(root, rng)
    link_folders(root, tmp_path / "store", rng)
    refused, wrong = {}, []
    for name, load in LOADERS.items():
        try:
            found = load(root)
        except UserError as error:
            assert "\n" not in str(error)
            refused[name] = str(error)
            continue
        if not same(found, expected[name]):
            wrong.append(name)
    assert not wrong and not refused, f"other than they are: {wrong}; refused: {refused}"
