"""VSPW, UVO and KITTI: run-length encodings, the toy copies, hand-made files, and what damage is told as."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from make_davis import grey_levels, moving_squares, write_png
from PIL import Image

from lib.data.kitti import SPLITS, KittiDataset
from lib.data.rle import decode_rle, encode_rle
from lib.data.sequences import MaskSequence
from lib.data.uvo import UvoDataset
from lib.data.vspw import VspwDataset
from lib.errors import UserError
from lib.evaluation import metrics
from lib.toyworld import ToyWorldOptions, ensure_toy_world

TINY = ToyWorldOptions(datasets=("vspw", "uvo", "kitti"), height=72, width=96, uvo_videos=9, uvo_frames=6)


# --- run-length encodings -----------------------------------------------------------------------------------


def slow_counts(text: str) -> list[int]:
    """The run lengths in a compressed string, by writing out the bits and reading two's complement."""
    groups, counts = [], []
    for character in text:
        code = format(ord(character) - 48, "06b")
        groups.insert(0, code[1:])
        if code[0] == "0":
            bits = "".join(groups)
            value = int(bits, 2) - (2 ** len(bits) if bits[0] == "1" else 0)
            counts.append(value + (counts[len(counts) - 2] if len(counts) >= 3 else 0))
            groups = []
    assert not groups
    return counts


def slow_mask(counts: list[int], height: int, width: int) -> np.ndarray:
    """Pixel by pixel, down each column in turn."""
    mask, at = np.zeros((height, width), bool), 0
    for index, count in enumerate(counts):
        for _ in range(count):
            mask[at % height, at // height] = index % 2 == 1
            at += 1
    assert at == height * width
    return mask


def slow_runs(mask: np.ndarray) -> list[int]:
    """Uncompressed run lengths of a mask, counted one pixel at a time."""
    counts, value = [0], False
    for pixel in (bool(mask[y, x]) for x in range(mask.shape[1]) for y in range(mask.shape[0])):
        if pixel != value:
            counts, value = [*counts, 0], pixel
        counts[-1] += 1
    return counts


MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40), elements=st.booleans())


@given(MASKS)
def test_encodings_agree_with_the_slow_ones(mask):
    rle = encode_rle(mask)
    assert json.loads(json.dumps(rle)) == rle and rle["size"] == list(mask.shape)
    assert slow_counts(rle["counts"]) == slow_runs(mask)
    np.testing.assert_array_equal(slow_mask(slow_counts(rle["counts"]), *mask.shape), mask)
    for counts in (rle["counts"], slow_runs(mask)):
        decoded = decode_rle({"size": rle["size"], "counts": counts})
        np.testing.assert_array_equal(decoded, mask)
        assert decoded.dtype == bool


def test_golden_encodings():
    """One of the COCO API, worked by hand; one that the description of the MOTS format prints, a car in frame 52."""
    counts = [6, 1, 40, 4, 5, 4, 5, 4, 21]
    assert slow_counts("61X13mN000`0") == counts
    mask = decode_rle({"size": [9, 10], "counts": "61X13mN000`0"})
    np.testing.assert_array_equal(mask, decode_rle({"size": [9, 10], "counts": counts}))
    assert np.argwhere(mask)[0].tolist() == [2, 5] and mask.sum() == 13 and mask[6, 0]
    text = "WSV:2d;1O10000O10000O1O100O100O1O100O1000000000000000O100O102N5K00O1O1N2O110OO2O001O1NTga3"
    car = decode_rle({"size": [375, 1242], "counts": text})
    np.testing.assert_array_equal(car, slow_mask(slow_counts(text), 375, 1242))
    rows, columns = np.nonzero(car)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (168, 178, 890, 930)
    assert encode_rle(car)["counts"] == text


@pytest.mark.parametrize("value", [False, True])
def test_a_plain_mask_is_one_run(value):
    mask = np.full((3, 4), value)
    assert slow_counts(encode_rle(mask)["counts"]) == ([0, 12] if value else [12])
    np.testing.assert_array_equal(decode_rle(encode_rle(mask)), mask)


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [3, 4], "counts": [5, 6]},
        {"size": [3, 4], "counts": [5, 8]},
        {"size": [3, 4], "counts": [14, -2]},
        {"size": [3, 4], "counts": []},
        {"size": [3, 4], "counts": [[12]]},
        {"size": [-3, -4], "counts": [12]},
        {"size": [12], "counts": [12]},
        {"size": [3, 4], "counts": ["many"]},
        {"size": [3, 4], "counts": None},
        {"size": [3, 4], "counts": encode_rle(np.eye(3, 4))["counts"][:-1]},
        {"size": [3, 4], "counts": "<" + 20 * "o" + "1"},
        {"size": [3, 4], "counts": "!"},
        {"size": [3, 4], "counts": "\u2603"},
        {"size": [3, 4], "counts": "o"},
        {"counts": "<"},
        {"size": [3, 4]},
        ["<"],
    ],
)
def test_damaged_encodings_are_told_in_one_line(rle):
    with pytest.raises(UserError, match="^frame 7: ") as caught:
        decode_rle(rle, "frame 7")
    assert "\n" not in str(caught.value)


# --- the toy copies -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return ensure_toy_world(tmp_path_factory.mktemp("complex") / "world", TINY, workers=2)


def check_usable(sequence: MaskSequence) -> None:
    """What propagation and scores need; truth scored against itself is perfect."""
    masks = sequence.masks()
    assert masks.dtype == np.uint8 and masks.shape == sequence.frames().shape[:3] and len(masks) == len(sequence)
    assert np.unique(masks[0][masks[0] > 0]).tolist() == list(range(1, sequence.num_objects + 1))
    assert masks.max() <= sequence.num_objects
    assert len(set(sequence.stems)) == len(sequence)
    truth = masks[metrics.SCORED]
    statistics = metrics.object_statistics(*metrics.score_sequence(truth, truth, sequence.num_objects))
    assert len(statistics) == sequence.num_objects
    assert all(found["J_mean"] == found["F_mean"] == 1 for found in statistics)


def test_toy_vspw(world):
    dataset = VspwDataset(world / "vspw")
    second = dataset.sequences[1]
    [empty] = [path for path in (world / "vspw").rglob("*.jpg") if path.stat().st_size == 0]
    assert empty.parent.parent.name == second.name and empty.stem not in second.stems
    assert [len(sequence) for sequence in dataset] == [12, 11]
    for sequence in dataset:
        check_usable(sequence)
        raw = [np.array(Image.open(path)) for path in sequence.sources]
        assert all((values[-1] == 255).all() for values in raw)  # void
        assert not sequence.masks()[:, -1].any()
        classes = sorted(set(np.unique(raw[0]).tolist()) - {0, 255})
        assert {1, 61} <= set(classes)
        for mask, values in zip(sequence.masks(), raw, strict=True):
            for index, value in enumerate(classes, start=1):
                np.testing.assert_array_equal(mask == index, values == value)


def test_toy_uvo_shows_1_to_8_puppets_by_turns(world):
    dataset = UvoDataset(world / "uvo")
    assert [sequence.num_objects for sequence in dataset] == [1, 2, 3, 4, 5, 6, 7, 8, 1]
    absent = []
    for sequence in dataset:
        check_usable(sequence)
        assert (
            sequence.stems == tuple(str(t) for t in range(6)) and sequence.frame_paths[0].parent.name == sequence.name
        )
        sizes = np.stack([np.bincount(m.ravel(), minlength=sequence.num_objects + 1)[1:] for m in sequence.masks()])
        assert sizes[0].min() >= 50  # of 6912 pixels
        absent += [(sequence.num_objects, int(k) + 1, int(t)) for t, k in np.argwhere(sizes == 0)]
        nulls = [(t, k) for t, s in enumerate(sequence.sources) for k, rle in enumerate(s.rles) if rle is None]
        assert nulls == [(int(t), int(k)) for t, k in np.argwhere(sizes == 0)]
    assert (2, 2, 3) in absent  # the second puppet of video 1 is away in frame 3 alone


def test_toy_uvo_areas_and_boxes_are_those_of_the_masks(world):
    content = json.loads((world / "uvo" / "VideoDenseSet" / "UVO_video_val_dense.json").read_text())
    assert [video["id"] for video in content["videos"]] == list(range(1, 10))
    assert len({found["id"] for found in content["annotations"]}) == len(content["annotations"]) == 37
    for found in content["annotations"]:
        for rle, area, box in zip(found["segmentations"], found["areas"], found["bboxes"], strict=True):
            assert (rle is None) == (area is None) == (box is None)
            if rle:
                y, x = np.nonzero(slow_mask(slow_counts(rle["counts"]), *rle["size"]))
                assert area == len(y)
                assert box == [x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min()]
    left = [path.name for path in (world / "uvo").iterdir()]
    assert sorted(left) == ["VideoDenseSet", "uvo_videos_dense_frames"]


def test_toy_kitti(world):
    sequence = KittiDataset(world / "kitti")["0002"]
    check_usable(sequence)
    assert len(sequence) == 25 and sequence.num_objects == 5
    height, width = sequence.mask(0).shape
    assert width / height == pytest.approx(1242 / 375, rel=0.01)
    raw = np.array(Image.open(sequence.sources[0]))
    assert raw.dtype == np.uint16 and (raw == 10000).sum() > 50 and not sequence.mask(0)[raw == 10000].any()


# --- hand-made files ----------------------------------------------------------------------------------------


def late_squares() -> np.ndarray:
    """(5, 40, 60): nothing in frame 0, objects 1 and 2 from frame 1, object 3 from frame 3."""
    masks = moving_squares(3, 5)
    masks[0] = 0
    masks[:3][masks[:3] == 3] = 0
    return masks


def write_frames(folder: Path, masks: np.ndarray, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in zip(names, grey_levels(masks), strict=True):
        Image.fromarray(frame).save(folder / name)


def make_vspw(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Returns, as all of these do, what the frames from the first object on show, and the ids to be read there."""
    masks = late_squares()
    classes = np.array([0, 124, 5, 61], np.uint8)[masks]
    classes[:, :2] = 255
    for video in ("9_b", "10_a"):
        write_frames(root / "data" / video / "origin", masks, [f"{t:08d}.jpg" for t in range(1, 6)])
        for t, values in enumerate(classes, start=1):
            write_png(root / "data" / video / "mask" / f"{t:08d}.png", values, palette=video == "9_b")
    (root / "val.txt").write_text("9_b\n10_a\n")
    (root / "test.txt").write_text("")
    return masks[1:], np.array([0, 2, 1, 0])[masks[1:]]  # class 5 is object 1, class 124 object 2, 61 comes late


def make_uvo(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Two videos of 11 frames, so that the alphabet's order is wrong, with counts as lists and a bare third."""
    masks = np.concatenate([late_squares(), moving_squares(3, 8)[2:]])
    videos, annotations = [], []
    for number, ytid in enumerate(("zz-1", "aa_2", "bare"), start=3):
        names = [f"{ytid}/{t}.png" for t in range(11)]
        write_frames(root / "uvo_videos_dense_frames" / ytid, masks, [f"{t}.png" for t in range(11)])
        videos.append({"id": number, "ytid": ytid, "height": 40, "width": 60, "file_names": names})
        for k in (3, 1, 2) if ytid != "bare" else ():
            found = [{"size": [40, 60], "counts": slow_runs(m == k)} if (m == k).any() else None for m in masks]
            annotations.append({"id": 10 * number + k, "video_id": number, "segmentations": found})
    write_uvo(root, {"videos": videos, "annotations": annotations})
    return masks[1:], np.array([0, 1, 2, 0])[masks[1:]]


def write_uvo(root: Path, content: dict) -> None:
    path = root / "VideoDenseSet" / "UVO_video_val_dense.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def make_mots(root: Path) -> tuple[np.ndarray, np.ndarray]:
    masks = late_squares()
    ids = np.array([0, 2001, 1042, 1001], np.uint16)[masks]
    ids[:, :2] = 10000
    for name in ("0006", "0013", "0001"):
        write_frames(root / "training" / "image_02" / name, masks, [f"{t:06d}.png" for t in range(5)])
        for t, values in enumerate(ids if name != "0013" else 0 * ids):
            path = root / "instances" / name / f"{t:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
    return masks[1:], np.array([0, 2, 1, 0])[masks[1:]]


LOADERS = {
    "vspw": (make_vspw, VspwDataset, ["9_b", "10_a"]),
    "uvo": (make_uvo, UvoDataset, ["zz-1", "aa_2"]),  # "bare" shows nothing
    "mots": (make_mots, KittiDataset, ["0006"]),  # 0013 shows nothing
}


@pytest.mark.parametrize("kind", LOADERS)
def test_hand_made_files(tmp_path, kind):
    make, load, names = LOADERS[kind]
    shown, expected = make(tmp_path)
    dataset = load(tmp_path)
    assert [sequence.name for sequence in dataset] == names
    for sequence in dataset:
        np.testing.assert_array_equal(sequence.masks(), expected)  # frame 0, which shows nothing, is gone
        check_usable(sequence)
        # frames belong to their masks; JPEG blurs edges
        assert (np.abs(sequence.frames().astype(int) - grey_levels(shown)) > 15).mean() < 0.02


def test_uvo_frames_keep_the_order_of_the_list(tmp_path):
    make_uvo(tmp_path)
    sequence = UvoDataset(tmp_path)["zz-1"]
    assert sequence.stems == tuple(str(t) for t in range(1, 11))


def test_a_later_uvo_mask_covers_an_earlier_one(tmp_path):
    make_uvo(tmp_path)
    path = tmp_path / "VideoDenseSet" / "UVO_video_val_dense.json"
    content = json.loads(path.read_text())
    content["annotations"] = content["annotations"][:2]
    whole, part = np.ones((40, 60), bool), np.zeros((40, 60), bool)
    part[10:20, 10:20] = True
    for found, mask in zip(content["annotations"], (whole, part), strict=True):
        found["segmentations"] = [encode_rle(mask)] * 11
    write_uvo(tmp_path, content)
    dataset = UvoDataset(tmp_path)
    np.testing.assert_array_equal(dataset["zz-1"].mask(0), 1 + part)
    path.rename(path.with_name("UVO_video_val_dense_with_label.json"))
    np.testing.assert_array_equal(UvoDataset(tmp_path)["zz-1"].mask(0), 1 + part)


def test_kitti_splits_are_the_published_ones(tmp_path):
    assert (len(SPLITS["val"]), len(SPLITS["train"])) == (9, 12) and not set(SPLITS["val"]) & set(SPLITS["train"])
    make_mots(tmp_path)
    assert [sequence.name for sequence in KittiDataset(tmp_path, split="train")] == ["0001"]


def edit_uvo(change, root: Path) -> None:
    content = json.loads((root / "VideoDenseSet" / "UVO_video_val_dense.json").read_text())
    change(content)
    write_uvo(root, content)


def rename_split(root: Path) -> None:
    path = root / "VideoDenseSet" / "UVO_video_val_dense.json"
    path.rename(path.with_name("UVO_video_vol_dense.json"))


def cut_off(root: Path) -> None:
    path = root / "VideoDenseSet" / "UVO_video_val_dense.json"
    path.write_text(path.read_text()[:-20])


def edit_rle(key: str, value, root: Path) -> None:
    edit_uvo(lambda content: content["annotations"][1]["segmentations"][2].update({key: value}), root)


V, U, M = Path("data/9_b"), Path("uvo_videos_dense_frames/zz-1"), Path("instances/0006")
F = Path("training/image_02/0006")
WIDE = np.zeros((40, 60), np.uint16)
FAULTS = [
    ("vspw", "not a VSPW root", lambda r: (r / "data").rename(r / "videos")),
    ("vspw", "unknown split .*'val'.*did you mean 'vol'", lambda r: (r / "val.txt").rename(r / "vol.txt")),
    ("vspw", "val.txt: the list is empty", lambda r: (r / "val.txt").write_text("")),
    ("vspw", "11_c.origin: no such folder", lambda r: (r / "val.txt").write_text("11_c\n")),
    ("vspw", "00000004.jpg: has no annotation", lambda r: (r / V / "mask/00000004.png").unlink()),
    ("vspw", "origin: all its frames are of zero bytes", lambda r: [p.write_bytes(b"") for p in (r / V).glob("o*/*")]),
    ("vspw", "00000003.png: not a readable image", lambda r: (r / V / "mask/00000003.png").write_bytes(b"")),
    ("vspw", "00000003.jpg: not a readable image", lambda r: (r / V / "origin/00000003.jpg").write_bytes(b"x")),
    ("vspw", "00000003.png: value 125", lambda r: write_png(r / V / "mask/00000003.png", np.full((40, 60), 125))),
    ("vspw", "00000003.png: 30x40 .* frame .*3.jpg", lambda r: write_png(r / V / "mask/00000003.png", WIDE[:, :30])),
    ("uvo", "not a UVO root", lambda r: (r / "VideoDenseSet").rename(r / "Dense")),
    ("uvo", "unknown split .*'val'.*choose one of vol", rename_split),
    ("uvo", "val_dense.json: not an annotation .*JSONDecodeError", cut_off),
    ("uvo", "not an annotation .*'annotations'", partial(edit_uvo, lambda c: c.pop("annotations"))),
    ("uvo", "not an annotation .*99", partial(edit_uvo, lambda c: c["annotations"][0].update(video_id=99))),
    ("uvo", "names a video twice", partial(edit_uvo, lambda c: c["videos"][1].update(ytid="zz-1"))),
    ("uvo", "names a video twice", partial(edit_uvo, lambda c: c["videos"].append(c["videos"][0]))),
    ("uvo", "zz-1: an object has not one", partial(edit_uvo, lambda c: c["annotations"][0]["segmentations"].pop())),
    ("uvo", "holds no sequence that shows an object", partial(edit_uvo, lambda c: c["annotations"].clear())),
    ("uvo", "7.png: missing frame, but .*json names it", lambda r: (r / U / "7.png").unlink()),
    ("uvo", "7.png: not a readable image", lambda r: (r / U / "7.png").write_bytes(b"")),
    ("uvo", "dense.json: video zz-1, zz-1/2.png, object 2: runs of 2401", partial(edit_rle, "counts", [2401])),
    ("uvo", "zz-1/2.png, object 2: not a run-length", partial(edit_rle, "counts", "o")),
    ("uvo", "zz-1/2.png, object 2: 40x60 pixels, but the video has 60x40", partial(edit_rle, "size", [60, 40])),
    ("uvo", "zz-1/0.png: 61x40 pixels, but its frame .*zz-1.0.png has 60x40", partial(edit_uvo, lambda c: [
        c["videos"][0].update(width=61),
        *(f.update(segmentations=[encode_rle(np.eye(40, 61))] * 11) for f in c["annotations"][:3]),
    ])),
    ("mots", "not a KITTI root: expected training.image_02", lambda r: (r / "training").rename(r / "testing")),
    ("mots", "not a KITTI root: expected .*instances", lambda r: (r / "instances").rename(r / "masks")),
    ("mots", "holds no sequence", lambda r: [(r / M).rename(r / "6"), (r / M.parent / "0013").rename(r / "7")]),
    ("mots", "0006: holds no frame", lambda r: [p.unlink() for p in (r / F).iterdir()]),
    ("mots", "000002.png: has no annotation", lambda r: (r / M / "000002.png").unlink()),
    ("mots", "000002.png: a mask must be a 16-bit .* not mode P", lambda r: write_png(r / M / "000002.png", WIDE)),
    ("mots", "000002.png: id 3001", lambda r: Image.fromarray(WIDE + 3001).save(r / M / "000002.png")),
    ("mots", "000002.png: id 7", lambda r: Image.fromarray(WIDE + 7).save(r / M / "000002.png")),
    ("mots", "000002.png: 30x40 .* frame", lambda r: Image.fromarray(WIDE[:, :30]).save(r / M / "000002.png")),
    ("mots", "000002.png: not a readable image", lambda r: (r / F / "000002.png").write_bytes(b"")),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "message", "damage"), FAULTS, ids=[f"{kind} {text}" for kind, text, _ in FAULTS])
def test_every_fault_is_told_in_one_line(tmp_path, kind, message, damage):
    make, load, _ = LOADERS[kind]
    make(tmp_path)

    def read_all():
        for sequence in load(tmp_path):
            assert sequence.masks().shape == sequence.frames().shape[:3]

    read_all()  # whole before it is damaged
    damage(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        read_all()
    assert "\n" not in str(caught.value)


def test_an_unknown_kitti_split(tmp_path):
    make_mots(tmp_path)
    with pytest.raises(UserError, match="unknown KITTI split 'test'"):
        KittiDataset(tmp_path, split="test")
