"""A small JHMDB folder for tests, written without the loader under test."""

from pathlib import Path

import numpy as np
import pytest
from make_videos import HEIGHT, WIDTH, write_numbered
from PIL import Image
from scipy.io import savemat

from lib.errors import UserError

SIZE = (24, 40)  # (H, W)


def joints_of(seed: int, frames: int = 5) -> np.ndarray:
    """Made-up joints (T, 15, 2) in pixels counted from 0."""
    return np.random.default_rng(seed).uniform(1, 23, (frames, 15, 2))


def add_clip(root: Path, class_name: str, name: str, joints: np.ndarray, images: int | None = None) -> Path:
    """One clip written by hand; frame t is grey 10 * t. Returns the joints' file."""
    folder = root / "Rename_Images" / class_name / name
    folder.mkdir(parents=True)
    for t in range(len(joints) if images is None else images):
        Image.fromarray(np.full((*SIZE, 3), 10 * t, np.uint8)).save(folder / f"{t + 1:05d}.png")
    path = root / "joint_positions" / class_name / name / "joint_positions.mat"
    path.parent.mkdir(parents=True)
    savemat(path, {"pos_img": joints.transpose(2, 1, 0) + 1, "pos_world": np.zeros((2, 15, len(joints)))})
    return path


def outline(t: int, size: tuple[int, int]) -> np.ndarray:
    """A person in frame t: (H, W) of 0 and the number of a body part."""
    mask = np.zeros(size, np.uint8)
    mask[10:30, 20 + t : 40 + t] = 3
    return mask


def add_outlines(root: Path, class_name: str, name: str, frames: int = 6) -> None:
    """One clip as the action recognition set has it: a video of numbered frames, and the outline in each."""
    folder, videos = root / "puppet_mask" / class_name / name, root / "ReCompress_Videos" / class_name
    folder.mkdir(parents=True)
    masks = [outline(t, (HEIGHT, WIDTH)) for t in range(frames)]
    savemat(folder / "puppet_mask.mat", {"part_mask": np.stack(masks, axis=2)})
    videos.mkdir(parents=True, exist_ok=True)
    write_numbered(videos / f"{name}.avi", frames, codec="mpeg4", **{"q:v": "2"})


def make_outlines(root: Path, marks: dict[tuple[str, str], str], frames: int = 6) -> Path:
    """Clips {(class, clip): mark in the list}; one called "gone" is listed, and not there."""
    (root / "splits").mkdir(parents=True)
    for (class_name, name), mark in marks.items():
        with (root / "splits" / f"{class_name}_test_split1.txt").open("a") as lines:
            lines.write(f"{name}.avi {mark}\n")
        if name != "gone":
            add_outlines(root, class_name, name, frames)
    return root


def make_jhmdb(root: Path) -> Path:
    """Two classes, four clips; the lists are not in alphabetical order, names have odd characters."""
    for seed, (class_name, name) in enumerate([("walk", "b"), ("walk", "a"), ("catch", "Goal!_(x)"), ("catch", "c")]):
        add_clip(root, class_name, name, joints_of(seed))
    (root / "splits").mkdir()
    (root / "splits" / "walk_test_split1.txt").write_text("b.avi 2\na.avi 2 \n")
    (root / "splits" / "catch_test_split1.txt").write_text("Goal!_(x).avi 2\nc.avi 1\n\n")
    (root / "splits" / "catch_test_split2.txt").write_text("Goal!_(x).avi 1\nc.avi 2\n")
    (root / "splits" / "._walk_test_split1.txt").write_bytes(b"\x00\x05\xff")  # as archives made on a Mac have them
    return root


def refused(call, *mentions: str) -> str:
    """The one line with which `call` refuses; it must hold the `mentions`."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in mentions), message
    return message
