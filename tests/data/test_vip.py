"""VIP: every layout that is read, and every fault of its files."""

import shutil

import numpy as np
import pytest
from make_vip import SIZE, colours, make_vip, people, stems
from PIL import Image

from lib.data.vip import CLASSES, VipDataset, write_parts
from lib.errors import UserError


@pytest.mark.parametrize("annotations", ["Annotations/Category_ids", "Category_ids"])
@pytest.mark.parametrize("inner", ["VIP_Fine", ""])
def test_every_layout_gives_the_same_sequences(tmp_path, annotations, inner):
    videos = {"videos9": people(), "videos10": people(4, (16, 40))}
    make_vip(tmp_path / inner, videos, annotations)
    dataset = VipDataset(tmp_path)
    assert [sequence.name for sequence in dataset] == list(videos) and len(dataset) == 2  # the list's order
    for name, masks in videos.items():
        sequence = dataset[name]
        assert len(sequence) == len(masks) and list(sequence.stems) == stems(len(masks))
        np.testing.assert_array_equal(sequence.masks(), masks)  # as stored: void stays
        assert np.abs(sequence.frame(3).astype(int) - colours(masks[3]).astype(int)).mean() < 12  # JPEG
        first = sequence.first_mask()
        assert first.dtype == np.uint8 and sequence.mask(0)[0, 0] == 255 and first[0, 0] == 0
        np.testing.assert_array_equal(first, np.where(masks[0] == 255, 0, masks[0]))


def test_frames_without_annotation_are_no_part_of_a_sequence(tmp_path):
    make_vip(tmp_path, {"videos1": people()})
    between = tmp_path / "Images" / "videos1" / "000000000013.jpg"
    shutil.copy(between.with_name("000000000001.jpg"), between)
    assert list(VipDataset(tmp_path)["videos1"].stems) == stems(5)


def test_the_list_of_frames_may_be_missing_or_name_other_videos(tmp_path):
    make_vip(tmp_path, {"videos1": people()})
    listing = tmp_path / "lists" / "val_id.txt"
    listing.write_text(listing.read_text() + "videos7/000000000001\n")
    assert len(VipDataset(tmp_path)["videos1"]) == 5
    listing.unlink()
    assert len(VipDataset(tmp_path)["videos1"]) == 5


def test_classes_and_files_of_parts(tmp_path):
    assert len(CLASSES) == len(set(CLASSES)) == 20
    assert (CLASSES[0], CLASSES[1], CLASSES[13], CLASSES[19]) == ("background", "hat", "face", "right shoe")
    ids = np.arange(20, dtype=np.int64).reshape(4, 5)
    write_parts(tmp_path / "new" / "parts.png", ids)
    with Image.open(tmp_path / "new" / "parts.png") as image:
        assert image.mode == "L"  # a palette would be read as colours elsewhere
        np.testing.assert_array_equal(np.array(image), ids)
    for bad in (ids + 1, ids - 1, ids.astype(float), ids[0], np.zeros((0, 4), int)):
        with pytest.raises(UserError, match=r"parts\.png: a mask must be .* of ids 0\.\.19"):
            write_parts(tmp_path / "bad" / "parts.png", bad)
    assert not (tmp_path / "bad").exists()


FIRST = "videos9/000000000001"
DATA_FAULTS = {
    "vip: no such folder": lambda fine: shutil.rmtree(fine.parent),
    "VIP_Fine: not a VIP root: .* found Annotations, lists": lambda fine: shutil.rmtree(fine / "Images"),
    "VIP_Fine: not a VIP root": lambda fine: shutil.rmtree(fine / "Annotations"),
    "unknown split in .*lists 'val': choose one of train": lambda fine: (fine / "lists/val_videos.txt").rename(
        fine / "lists/train_videos.txt"
    ),
    "val_videos.txt: the list is empty": lambda fine: (fine / "lists/val_videos.txt").write_text("\n"),
    "videos10: no such folder": lambda fine: shutil.rmtree(fine / "Annotations/Category_ids/videos10"),
    "Images.videos10: no such folder": lambda fine: shutil.rmtree(fine / "Images/videos10"),
    r"Category_ids.videos9.000000000001.png: missing annotation of videos9": lambda fine: (
        fine / "Annotations/Category_ids" / f"{FIRST}.png"
    ).unlink(),
    r"Images.videos9.000000000001.jpg: missing frame of videos9": lambda fine: (fine / f"Images/{FIRST}.jpg").unlink(),
    "Category_ids.videos9: holds no annotation": lambda fine: (
        (fine / "lists/val_id.txt").unlink(),
        [path.unlink() for path in (fine / "Annotations/Category_ids/videos9").iterdir()],
    ),
    "000000000001.png: damaged image": lambda fine: (fine / f"Annotations/Category_ids/{FIRST}.png").write_bytes(
        (fine / f"Annotations/Category_ids/{FIRST}.png").read_bytes()[:-30]
    ),
    "000000000001.jpg: not a readable image": lambda fine: (fine / f"Images/{FIRST}.jpg").write_bytes(b"no image"),
    "000000000001.png: 32x24 pixels, but its frame .* has 10x10": lambda fine: Image.new("RGB", (10, 10)).save(
        fine / f"Images/{FIRST}.jpg"
    ),
    "a mask must be .* not mode RGB": lambda fine: Image.new("RGB", SIZE[::-1], (128, 0, 0)).save(
        fine / f"Annotations/Category_ids/{FIRST}.png"
    ),
}


@pytest.mark.parametrize("message", DATA_FAULTS)
def test_every_fault_is_told_in_one_line(tmp_path, message):
    fine = make_vip(tmp_path / "vip" / "VIP_Fine", {"videos9": people(), "videos10": people(4, (16, 40))})

    def read_all():
        for sequence in VipDataset(fine.parent):
            assert sequence.masks().shape == sequence.frames().shape[:3]

    read_all()  # whole before it is broken
    DATA_FAULTS[message](fine)
    with pytest.raises(UserError, match=message) as caught:
        read_all()
    assert "\n" not in str(caught.value)
