"""JHMDB's outlines in the common form: written by hand, and the real ones."""

from pathlib import Path

import numpy as np
import pytest
from make_jhmdb import make_outlines, outline, refused
from make_videos import HEIGHT, WIDTH, read_number
from PIL import Image
from scipy.io import savemat

from lib.data.jhmdb_outlines import OutlineDataset

SIZE, FRAMES = (HEIGHT, WIDTH), 6
CLIPS = {("walk", "b"): "2", ("walk", "a"): "1", ("catch", "Goal!_(x)"): "2", ("catch", "gone"): "2"}


@pytest.fixture
def root(tmp_path) -> Path:
    return make_outlines(tmp_path / "jhmdb", CLIPS, FRAMES)


def test_a_clip_has_the_frames_of_its_video_and_one_object(root):
    data = OutlineDataset(root)
    assert [clip.name for clip in data] == ["Goal!_(x)", "b"] and data.absent == 1
    assert [clip.name for clip in OutlineDataset(root, "train")] == ["a"]
    assert [clip.name for clip in OutlineDataset(root, names={"b"})] == ["b"]
    clip = data["b"]
    assert [read_number(frame) for frame in clip.iter_frames()] == list(range(FRAMES))
    assert [read_number(frame) for frame in clip.frames(2)] == [0, 1] and read_number(clip.frame(4)) == 4
    assert clip.stems == tuple(f"{t:05d}" for t in range(1, FRAMES + 1)) and clip.num_objects == 1
    np.testing.assert_array_equal(clip.masks(), np.stack([outline(t, SIZE) > 0 for t in range(FRAMES)]))
    assert clip.files == (root / "ReCompress_Videos" / "walk" / "b.avi",)


def test_every_second_frame_is_a_clip_of_its_own(root):
    clip, whole = OutlineDataset(root, names={"b"}, every=2)["b"], OutlineDataset(root)["b"]
    assert [read_number(frame) for frame in clip.iter_frames()] == [0, 2, 4] and read_number(clip.frame(1)) == 2
    assert clip.stems == ("00001", "00003", "00005")
    np.testing.assert_array_equal(clip.masks(), whole.masks()[::2])


def test_images_are_read_where_they_are(root):
    """They are what the videos were made of; the last may have no outline."""
    folder = root / "Rename_Images" / "walk" / "b"
    folder.mkdir(parents=True)
    for t in range(FRAMES + 2):
        Image.fromarray(np.full((*SIZE, 3), 10 * t, np.uint8)).save(folder / f"{t + 1:05d}.png")
    clip = OutlineDataset(root)["b"]
    assert len(clip) == FRAMES and clip.frame(3).max() == 30 and clip.masks().shape == (FRAMES, *SIZE)
    for image in sorted(folder.iterdir())[3:]:
        image.unlink()
    refused(lambda: OutlineDataset(root), "outlines 6 frames", "holds 3;")


def test_what_does_not_fit_is_told(root):
    refused(lambda: OutlineDataset(root, "val"), "unknown split 'val'")
    refused(lambda: OutlineDataset(root, names={"nobody"}), "holds no sequence")
    folder = root / "puppet_mask" / "walk" / "b"
    savemat(folder / "puppet_mask.mat", {"part_mask": np.zeros((*SIZE, FRAMES), np.uint8)})
    refused(lambda: OutlineDataset(root)["b"].num_objects, "puppet_mask.mat, frame 0", "ids in the first frame")
    savemat(folder / "puppet_mask.mat", {"part_mask": np.ones((8, 9, FRAMES), np.uint8)})
    refused(lambda: OutlineDataset(root)["b"].first_mask(), "9x8 pixels", "160x64")
    for path in (root / "puppet_mask").rglob("*.mat"):
        path.unlink()
    refused(lambda: OutlineDataset(root), "none of the 3 listed test clips")


def test_the_real_ones(real_data):
    root = real_data / "jhmdb_actions"
    if not root.is_dir():
        pytest.skip("no JHMDB clips here")
    test, train = OutlineDataset(root), OutlineDataset(root, "train")
    assert (len(test), test.absent, len(train), train.absent) == (126, 142, 294, 366)
    assert not {clip.name for clip in test} & {clip.name for clip in train}
    clip = test.sequences[0]
    assert clip.frames().shape == (*clip.masks().shape, 3) and 0.01 < clip.first_mask().mean() < 0.5
