import shutil
from pathlib import Path

import numpy as np
import pytest
from make_davis import grey_levels, make_davis, moving_squares, write_png
from PIL import Image

from lib.data.davis import DavisDataset
from lib.data.images import davis_palette, read_frame, read_mask, write_mask
from lib.errors import UserError


def test_palette_is_the_published_one():
    palette = np.array(davis_palette()).reshape(256, 3)
    published = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 8: (64, 0, 0), 9: (191, 0, 0)}
    published |= {15: (191, 128, 128), 18: (0, 191, 0), 21: (128, 64, 128), 22: (22, 22, 22), 255: (255, 255, 255)}
    assert {index: tuple(palette[index].tolist()) for index in published} == published
    assert len({tuple(colour) for colour in palette[:22].tolist()}) == 22


def test_masks_come_back_as_written(tmp_path):
    ids = np.arange(256, dtype=np.int64).reshape(8, 32)
    write_mask(tmp_path / "new" / "00000.png", ids)
    assert np.array_equal(read_mask(tmp_path / "new" / "00000.png"), ids)
    with Image.open(tmp_path / "new" / "00000.png") as image:
        assert image.mode == "P" and image.getpalette()[:768] == davis_palette()


@pytest.mark.parametrize("ids", [np.full((4, 4), 256), np.full((4, 4), -1), np.zeros((4, 4, 3), int), np.ones((4, 4))])
def test_write_mask_refuses_what_is_no_mask(tmp_path, ids):
    with pytest.raises(UserError, match="00000.png"):
        write_mask(tmp_path / "00000.png", ids)
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_old_mask(tmp_path, monkeypatch):
    path = tmp_path / "00000.png"
    write_mask(path, np.ones((4, 4), np.uint8))

    def half_written(self, target, **_):
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", half_written)
    with pytest.raises(OSError, match="disk full"):
        write_mask(path, np.zeros((4, 4), np.uint8))
    monkeypatch.undo()
    assert read_mask(path).all() and [p.name for p in tmp_path.iterdir()] == ["00000.png"]


def test_sequences_frames_and_masks(tmp_path):
    small, wide = moving_squares(2, 5), moving_squares(3, 4, (48, 90))
    wide[2, :2, :2] = 255
    dataset = DavisDataset(make_davis(tmp_path, {"zebra": small, "ant": wide}))
    assert (dataset.year, len(dataset), [s.name for s in dataset]) == (2017, 2, ["zebra", "ant"])
    ant = dataset["ant"]
    assert (len(ant), ant.num_objects, dataset["zebra"].num_objects) == (4, 3, 2)
    assert np.array_equal(ant.masks(), np.where(wide == 255, 0, wide)) and ant.masks().dtype == np.uint8
    assert ant.frames().shape == (4, 48, 90, 3) and ant.frames(2).shape == (2, 48, 90, 3)
    error = np.abs(ant.frames().astype(int) - grey_levels(wide))[[0, 1, 3]]
    assert np.median(error) <= 1  # right frames in the right order; JPEG blurs edges only
    assert np.array_equal(dataset["zebra"].masks(3), small[:3])
    with pytest.raises(UserError, match="max_frames"):
        ant.frames(0)


def test_2016_masks_show_one_object_and_2017_wins_where_both_are_listed(tmp_path):
    masks = (moving_squares(1, 4) * 255).astype(np.uint8)
    make_davis(tmp_path, {"dog": masks}, year=2016)
    dataset = DavisDataset(tmp_path)
    assert dataset.year == 2016 and dataset["dog"].num_objects == 1
    assert np.array_equal(dataset["dog"].masks(), masks // 255)
    make_davis(tmp_path, {"dog": moving_squares(2, 4)}, year=2017)
    assert DavisDataset(tmp_path).year == 2017
    both = DavisDataset(tmp_path, year=2016)["dog"]
    assert both.num_objects == 1 and both.masks().max() == 1


def test_the_archive_of_davis_2016_is_read_as_it_is(tmp_path):
    """Its lists pair each frame with its mask; of one mask the archive has a grey picture with an alpha channel."""
    masks = (moving_squares(1, 4) * 255).astype(np.uint8)
    make_davis(tmp_path, {"dog": masks, "cat": masks[::-1]}, year=2016)
    lists = tmp_path / "ImageSets"
    shutil.rmtree(lists / "2016")
    (lists / "480p").mkdir()
    names = [(name, t) for name in ("dog", "cat") for t in range(4)]
    rows = [f"/JPEGImages/480p/{name}/{t:05d}.jpg /Annotations/480p/{name}/{t:05d}.png " for name, t in names]
    (lists / "480p" / "val.txt").write_text("\n".join(rows) + "\n")
    path = tmp_path / "Annotations" / "480p" / "dog" / "00002.png"
    grey = Image.fromarray(masks[2])
    Image.merge("LA", (grey, Image.new("L", grey.size, 255))).save(path)
    dataset = DavisDataset(tmp_path)
    assert (dataset.year, [s.name for s in dataset]) == (2016, ["dog", "cat"])
    assert np.array_equal(dataset["dog"].masks(), masks // 255)
    make_davis(tmp_path, {"dog": moving_squares(2, 4)}, year=2017)
    assert DavisDataset(tmp_path).year == 2017 and len(DavisDataset(tmp_path, year=2016)) == 2


def remove(path):
    (path.unlink if path.is_file() else lambda: [remove(p) for p in path.iterdir()] + [path.rmdir()])()


A = Path("Annotations/480p/dog")
J = Path("JPEGImages/480p/dog")
BREAK = {
    "expected JPEGImages, Annotations, ImageSets; found Annotations, JPEGImages": lambda r: remove(r / "ImageSets"),
    "ImageSets: expected a folder 2017, 2016 or 480p": lambda r: (r / "ImageSets/2017").rename(r / "ImageSets/2018"),
    "unknown split .*'val'.*choose one of test, train": lambda r: [
        (r / "ImageSets/2017/val.txt").rename(r / "ImageSets/2017/train.txt"),
        (r / "ImageSets/2017/test.txt").write_text("dog\n"),
    ],
    "the list is empty": lambda r: (r / "ImageSets/2017/val.txt").write_text("\n"),
    "cat: no such folder": lambda r: (r / "ImageSets/2017/val.txt").write_text("dog\ncat\n"),
    "dog: holds no frame": lambda r: [remove(p) for p in (r / J).iterdir()],
    "00002.jpg: has no annotation \\(3 of 4 frames are annotated\\)": lambda r: remove(r / A / "00002.png"),
    "00003.png: 30x40 pixels, but its frame .* has 60x40": lambda r: write_png(r / A / "00003.png", np.zeros((40, 30))),
    "00000.png: 10x10 pixels, but its frame .*00000.jpg has 60x40": lambda r: [
        write_png(r / A / f"{t:05d}.png", np.zeros((10, 10))) for t in range(4)
    ],
    "00001.png: damaged image": lambda r: (r / A / "00001.png").write_bytes((r / A / "00001.png").read_bytes()[:-30]),
    "00001.png: not a readable image": lambda r: (r / A / "00001.png").write_bytes(b"not an image"),
    "00002.jpg: damaged image": lambda r: (r / J / "00002.jpg").write_bytes((r / J / "00002.jpg").read_bytes()[:-60]),
    "00000.png: a mask must be .* not mode RGB": lambda r: Image.new("RGB", (60, 40), (128, 0, 0)).save(
        r / A / "00000.png"
    ),
    "00000.png: ids in the first frame .* not \\[1, 3\\]": lambda r: write_png(
        r / A / "00000.png", np.where(moving_squares()[0] == 2, 3, moving_squares()[0])
    ),
    "00000.png: ids in the first frame .* not \\[\\]": lambda r: write_png(r / A / "00000.png", np.zeros((40, 60))),
}


@pytest.mark.parametrize("message", BREAK)
def test_every_fault_is_told_in_one_line(tmp_path, message):
    make_davis(tmp_path, {"dog": moving_squares(2, 4)})

    def read_all():
        for sequence in DavisDataset(tmp_path):
            assert sequence.masks().shape[:3] == sequence.frames().shape[:3] and sequence.num_objects == 2

    read_all()  # whole before it is broken
    BREAK[message](tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        read_all()
    assert "\n" not in str(caught.value)


def test_wrong_root_year_and_sequence_name(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        DavisDataset(tmp_path / "nowhere")
    make_davis(tmp_path, {"dog": moving_squares()})
    with pytest.raises(UserError, match="unknown year .* 2016.*2017"):
        DavisDataset(tmp_path, year=2016)
    with pytest.raises(UserError, match="did you mean 'dog'"):
        DavisDataset(tmp_path)["dgo"]
    with pytest.raises(UserError, match="no such image"):
        read_frame(tmp_path / "none.jpg")


def test_real_sequences(real_data):
    dataset = DavisDataset(real_data / "davis2016")
    assert dataset.year == 2016 and len(dataset) == 10
    swan = dataset["blackswan"]
    assert (len(swan), swan.num_objects) == (50, 1)
    assert swan.frames(3).shape == (3, 480, 854, 3) and set(np.unique(swan.masks(3))) == {0, 1}
