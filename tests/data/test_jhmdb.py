"""JHMDB: its files read, and damaged files refused."""

from pathlib import Path

import numpy as np
import pytest
from make_jhmdb import SIZE, add_clip, joints_of, make_jhmdb, refused
from PIL import Image
from scipy.io import savemat

from lib.data.jhmdb import JOINTS, JhmdbDataset
from lib.toyworld.actions import JOINTS as toy_world_joints


@pytest.fixture
def root(tmp_path) -> Path:
    return make_jhmdb(tmp_path / "jhmdb")


def names(dataset: JhmdbDataset) -> list[str]:
    return [clip.name for clip in dataset]


# --- Reading ---


def test_clips_come_in_the_stated_order(root):
    assert names(JhmdbDataset(root)) == ["Goal!_(x)", "b", "a"]
    assert names(JhmdbDataset(root, 2)) == ["c"]
    assert names(JhmdbDataset(root, None)) == ["Goal!_(x)", "c", "a", "b"]
    assert [clip.class_name for clip in JhmdbDataset(root)] == ["catch", "walk", "walk"]


@pytest.mark.parametrize("first", ["Rename_Images", "joint_positions"])
def test_a_file_list_sets_the_order_whichever_column_comes_first(root, tmp_path, first):
    def line(class_name, name):
        columns = [f"x/Rename_Images/{class_name}/{name}", f"x/joint_positions/{class_name}/{name}/joint_positions.mat"]
        return " ".join(sorted(columns, key=lambda column: first not in column))

    path = tmp_path / "list.txt"
    path.write_text("\n".join([line("walk", "a"), line("catch", "Goal!_(x)"), "", line("walk", "b")]))
    assert names(JhmdbDataset(root, path)) == ["a", "Goal!_(x)", "b"]


def test_lists_of_the_smaller_part_are_used_where_there_are_no_others(root):
    (root / "sub_splits").mkdir()
    (root / "sub_splits" / "walk_test_split1.txt").write_text("a.avi 2\n")
    assert len(JhmdbDataset(root)) == 3
    (root / "splits").rename(root / "elsewhere")
    assert names(JhmdbDataset(root)) == ["a"]


def test_a_clip_yields_frames_and_joints_counted_from_0(root):
    clip = JhmdbDataset(root)["b"]
    assert clip.frames().shape == (5, *SIZE, 3) and clip.frames().dtype == np.uint8 and len(clip) == 5
    assert clip.frames(2).shape[0] == len(list(clip.iter_frames(2))) == len(clip.joints(2)) == 2
    assert [clip.frame(t).max() for t in range(5)] == [0, 10, 20, 30, 40]
    assert clip.joints().dtype == np.float64
    np.testing.assert_allclose(clip.joints(), joints_of(0), atol=1e-12)


def test_frames_are_sorted_by_number_and_foreign_files_left_out(root):
    folder = root / "Rename_Images" / "walk" / "b"
    for t in range(5):
        (folder / f"{t + 1:05d}.png").rename(folder / f"{t + 8}.png")
    (folder / "._8.png").write_bytes(b"no image")
    assert [clip.frame(t).max() for clip in [JhmdbDataset(root)["b"]] for t in range(5)] == [0, 10, 20, 30, 40]


def test_images_beyond_the_last_annotation_are_kept(root):
    add_clip(root, "jump", "d", joints_of(9, 3), images=4)
    clip = JhmdbDataset(root, None)["d"]
    assert len(clip) == 4 and len(clip.joints()) == 3


def test_joints_have_the_data_sets_order():
    """The toy world writes joint files in that order from a list of its own."""
    assert [name.replace("right", "R").replace("left", "L") for name in JOINTS] == list(toy_world_joints)


# --- Damaged input: one line that names the file ---


@pytest.mark.parametrize(
    ("content", "mention"),
    [
        ({"pos_world": np.zeros((2, 15, 5))}, "holds no pos_img"),
        ({"pos_img": np.zeros((2, 14, 5))}, "(2, 14, 5)"),
        ({"pos_img": np.zeros((15, 2, 5))}, "(15, 2, 5)"),
        ({"pos_img": np.zeros((2, 15))}, "(2, 15)"),
        ({"pos_img": np.zeros((2, 15, 0))}, "(2, 15, 0)"),
        ({"pos_img": "text"}, "pos_img must be"),
        ({"pos_img": {"field": 1.0}}, "pos_img must be"),
        ({"pos_img": np.full((2, 15, 5), np.nan)}, "finite"),
        ({"pos_img": np.ones((2, 15, 5)) * 1j}, "pos_img must be"),
        ({"pos_img": np.zeros((2, 15, 6))}, "6 frames"),  # one more than there are images
    ],
)
def test_a_joint_file_with_other_content_is_refused(root, content, mention):
    clip = JhmdbDataset(root)["a"]
    savemat(clip.joints_path, content)
    refused(clip.joints, str(clip.joints_path), mention)


def test_a_joint_file_of_another_format_is_refused(root):
    clip = JhmdbDataset(root)["a"]
    whole = clip.joints_path.read_bytes()
    hdf5 = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n".ljust(600)
    for data in (b"", b"no joints here", whole[:200], whole[:140], bytes(1000), b"\x80" * 1000):
        clip.joints_path.write_bytes(data)
        refused(clip.joints, str(clip.joints_path))
    clip.joints_path.write_bytes(hdf5)
    refused(clip.joints, str(clip.joints_path), "7.3")
    clip.joints_path.unlink()
    refused(clip.joints, str(clip.joints_path))


def test_missing_and_damaged_images_are_named(root):
    clip = JhmdbDataset(root)["a"]
    clip.frame_paths[2].write_bytes(clip.frame_paths[2].read_bytes()[:60])
    refused(lambda: clip.frame(2), str(clip.frame_paths[2]))
    refused(clip.frames, str(clip.frame_paths[2]))
    Image.new("RGB", (8, 8)).save(clip.frame_paths[2])
    refused(clip.frames, str(clip.frame_paths[2]), "8x8")
    assert len(clip.frames(2)) == 2  # what is not asked for is not read
    for path in clip.frame_paths:
        path.unlink()
    refused(lambda: JhmdbDataset(root), str(clip.frame_paths[0].parent))
    refused(lambda: clip.frames(0), "max_frames 0")


def test_wrong_roots_splits_and_lists_are_named(root, tmp_path):
    refused(lambda: JhmdbDataset(tmp_path), str(tmp_path), "Rename_Images")
    refused(lambda: JhmdbDataset(root, 7), "split", "1, 2")
    refused(lambda: JhmdbDataset(root, tmp_path / "no.txt"), "no.txt")
    refused(lambda: JhmdbDataset(root)["Goal"], "'Goal'", "did you mean 'Goal!_(x)'")
    listing = root / "splits" / "walk_test_split1.txt"
    for line in ("a.avi\n", "a.avi 3\n", "2\n"):
        listing.write_text("b.avi 2\n" + line)
        refused(lambda: JhmdbDataset(root), f"{listing}:2")
    listing.write_text("gone.avi 2\n")
    refused(lambda: JhmdbDataset(root), "walk/gone")
    for path in (root / "splits").glob("[!.]*split2*"):
        path.write_text("c.avi 1\n")
    refused(lambda: JhmdbDataset(root, 2), "no test clip")
    free = tmp_path / "list.txt"
    free.write_text("Rename_Images/walk/a\nwalk/b\n")
    refused(lambda: JhmdbDataset(root, free), f"{free}:2")
    (root / "joint_positions" / "catch" / "Goal!_(x)" / "joint_positions.mat").unlink()
    refused(lambda: JhmdbDataset(root, 1), "Goal!_(x)", "joint_positions.mat")
    for path in (root / "splits").iterdir():
        path.unlink()
    (root / "splits").rmdir()
    refused(lambda: JhmdbDataset(root), "sub_splits", "split=None")
