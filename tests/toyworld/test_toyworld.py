"""The toy world: the same seed gives the same world, layouts are the real ones, and the truth is true."""

import contextlib
import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import loadmat
from scipy.ndimage import map_coordinates, maximum_filter, minimum_filter
from scipy.spatial import cKDTree

import make
from lib.data.images import davis_palette
from lib.data.kinetics import MANIFEST, class_folder
from lib.errors import UserError
from lib.toyworld import DATASETS, ToyWorldOptions, ensure_toy_world, render_clip
from lib.toyworld import generate as generate_module
from lib.toyworld.actions import ACTIONS, JOINTS, affine, apply, compose
from lib.toyworld.cast import Part
from lib.toyworld.layouts import plan
from lib.toyworld.render import flow_truth, inverse, part_map, render_frame, signed_distance
from lib.toyworld.scene import Scene, build_scene, steady_light
from lib.toyworld.staging import shown_pixels, take_away
from lib.toyworld.studio import POSTER, PUPPET, WALL
from lib.toyworld.writers import push_out

SCRIPT = make.ROOT / "data_scripts" / "make_toy_world.py"
TINY = ToyWorldOptions(
    height=72, width=96, kinetics_train=1, kinetics_val=1, kinetics_frames=60, davis_train=1, davis_val=3,
    davis_frames=30, small_clips=2, small_frames=25, uvo_videos=2, uvo_frames=6, studio_train=2, studio_val=2,
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return ensure_toy_world(tmp_path_factory.mktemp("toy") / "world", TINY, workers=2)


@pytest.fixture(scope="module")
def clips():
    """Clips with puppets and props, one an action, at the default size and difficulty."""
    return [render_clip(10 + i, action=name, frames=16, objects=3) for i, name in enumerate(ACTIONS)]


def digests(root: Path) -> dict[str, str]:
    """A digest of every file; a MATLAB file's first 128 bytes tell the time of writing and do not count."""
    content = {p: p.read_bytes()[128 * (p.suffix == ".mat") :] for p in sorted(root.rglob("*")) if p.is_file()}
    return {str(p.relative_to(root)): hashlib.md5(data).hexdigest() for p, data in content.items()}


def lines(path: Path) -> list[str]:
    text = path.read_text()
    assert text.endswith("\n")
    return text.splitlines()


# --- determinism --------------------------------------------------------------------------------------------


def test_same_seed_same_clip_other_seed_other_clip():
    one, two, other = (render_clip(seed, TINY, frames=4) for seed in (3, 3, 4))
    for name in ("frames", "objects", "parts", "flow", "visible", "joints"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert (one.frames != other.frames).mean() > 0.5


def test_the_number_of_processes_and_of_data_sets_changes_nothing(world, tmp_path):
    alone = ensure_toy_world(tmp_path / "alone", replace(TINY, datasets=("kinetics400", "jhmdb")), workers=1)
    for name in ("kinetics400", "jhmdb"):
        assert digests(alone / name) == digests(world / name)


def test_data_sets_are_numbered_for_good():
    """A clip's content follows from its data set's place in the list: a change would change worlds that exist."""
    assert DATASETS[:6] == ("kinetics400", "davis2017", "jhmdb", "vip", "ucf101", "ssv2")
    assert DATASETS[6:10] == ("vspw", "uvo", "kitti", "studio")


def test_a_seed_changes_every_clip_and_its_name():
    names = [{c.name for c in plan(replace(TINY, seed=s)) if c.dataset == "kinetics400"} for s in (0, 1)]
    assert len(names[0]) == 5 and not names[0] & names[1]


# --- layouts ------------------------------------------------------------------------------------------------


def test_kinetics_layout_and_its_three_deliberate_faults(world):
    base = world / "kinetics400"
    found = {"good": 0, "broken": 0, "short": 0, "25 fps": 0}
    for split, count in (("train", 4), ("val", 1)):
        with open(base / "annotations" / f"{split}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == count and list(rows[0]) == ["label", "youtube_id", "time_start", "time_end"]
        expected = {
            f"{class_folder(r['label'])}/{r['youtube_id']}_{int(r['time_start']):06d}_{int(r['time_end']):06d}.mp4"
            for r in rows
        }
        assert expected == {p.relative_to(base / split).as_posix() for p in (base / split).rglob("*.mp4")}
        for name in expected:
            try:
                with av.open(str(base / split / name)) as video:
                    stream = video.streams.video[0]
                    assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
                    rate, frames = stream.average_rate, sum(1 for _ in video.decode(stream))
            except av.error.InvalidDataError:
                found["broken"] += 1
                assert split == "train" and b"moov" not in (base / split / name).read_bytes()
                continue
            kind = {(30, 60): "good", (30, 30): "short", (25, 50): "25 fps"}[(rate, frames)]
            found[kind] += 1
            assert kind == "good" or split == "train"
    assert found == {"good": 2, "broken": 1, "short": 1, "25 fps": 1}


def test_davis_masks_are_palette_images_with_contiguous_ids_all_in_frame_0(world):
    base, widths = world / "davis2017", set()
    names = {split: lines(base / "ImageSets" / "2017" / f"{split}.txt") for split in ("train", "val")}
    assert (len(names["train"]), len(names["val"])) == (1, 3)
    counts, left, smallest = set(), [], []
    for name in names["train"] + names["val"]:
        masks = [Image.open(p) for p in sorted((base / "Annotations" / "480p" / name).glob("*.png"))]
        frames = sorted((base / "JPEGImages" / "480p" / name).glob("*.jpg"))
        assert [p.name for p in frames] == [f"{t:05d}.jpg" for t in range(30)] and len(masks) == 30
        assert {m.mode for m in masks} == {"P"} and masks[0].getpalette() == list(davis_palette())
        assert {m.size for m in masks} == {Image.open(p).size for p in frames} and len({m.size for m in masks}) == 1
        widths.add(masks[0].width)
        ids = [np.asarray(m) for m in masks]
        assert list(np.unique(ids[0])) == list(range(ids[0].max() + 1))
        assert max(i.max() for i in ids) == ids[0].max()
        counts.add(int(ids[0].max()))
        left += [k for k in range(1, ids[0].max() + 1) if not (ids[-1] == k).any()]
        areas = [np.argwhere(ids[0] == k) for k in range(1, ids[0].max() + 1)]
        smallest.append(min(np.ptp(a, axis=0).max() + 1 for a in areas))
    assert len(widths) > 1 and len(counts) > 1 and min(counts) == 1
    assert left, "no object left the frame"
    assert min(smallest) < 16, "no object is smaller than a patch"


def test_davis_flow_files_hold_the_truth_of_the_same_scene(world):
    for name in lines(world / "davis2017" / "ImageSets" / "2017" / "val.txt"):
        files = sorted((world / "davis2017" / "Flow" / "480p" / name).glob("*.npz"))
        assert len(files) == 29
        masks = sorted((world / "davis2017" / "Annotations" / "480p" / name).glob("*.png"))
        now, after = (np.asarray(Image.open(p)) for p in masks[:2])
        truth = np.load(files[0])
        assert truth["flow"].shape == (*now.shape, 2) and truth["flow"].dtype == np.float16
        assert truth["visible"].shape == now.shape and truth["visible"].dtype == bool
        y, x = np.mgrid[0 : now.shape[0], 0 : now.shape[1]]
        target = np.rint(np.stack([x, y], -1) + truth["flow"].astype(float)).astype(int)[truth["visible"]]
        assert (after[target[:, 1], target[:, 0]] == now[truth["visible"]]).mean() > 0.97


def test_jhmdb_joints_files(world):
    base, outside = world / "jhmdb", 0
    assert len(JOINTS) == 15
    for folder in (base / "joint_positions").glob("*/*"):
        frames = sorted((base / "Rename_Images" / folder.parent.name / folder.name).glob("*.png"))
        assert [p.name for p in frames] == [f"{t:05d}.png" for t in range(1, 26)]
        image = Image.open(frames[0])
        joints = loadmat(folder / "joint_positions.mat")
        pos, world_pos = joints["pos_img"], joints["pos_world"]
        assert pos.shape == world_pos.shape == (2, 15, 25) and pos.dtype == world_pos.dtype == np.float64
        np.testing.assert_allclose(world_pos, (pos - np.array(image.size).reshape(2, 1, 1) / 2) / 108)
        inside = ((pos[:, :, 0] >= 1) & (pos[:, :, 0] <= np.array(image.size)[:, None])).all(0)
        outside += not inside.all()
        for k in (1, 2, 3):
            split = dict(
                line.split() for line in lines(base / "sub_splits" / f"{folder.parent.name}_test_split{k}.txt")
            )
            assert f"{folder.name}.avi" in split and set(split.values()) == {"1", "2"}
    assert outside == 1


def test_vip_layout(world):
    base = world / "vip" / "VIP_Fine"
    videos, stems = lines(base / "lists" / "val_videos.txt"), lines(base / "lists" / "val_id.txt")
    assert videos == ["videos1", "videos2"] and len(stems) == 50 and stems[1] == "videos1/000000000026"
    void, late = 0, False
    for video in videos:
        kinds = {}
        for kind in ("Category_ids", "Human_ids", "Instance_ids"):
            paths = sorted((base / "Annotations" / kind / video).glob("*.png"))
            assert [f"{video}/{p.stem}" for p in paths] == [s for s in stems if s.startswith(f"{video}/")]
            kinds[kind] = np.stack([np.asarray(Image.open(p)) for p in paths])
        assert sorted(p.stem for p in (base / "Images" / video).glob("*.jpg")) == [p.stem for p in paths]
        category = kinds["Category_ids"]
        void += int((category == 255).sum())
        known = set(np.unique(category)) - {255}
        assert max(known) < 20 and known != set(range(len(known))) and 0 in known
        person = (category > 0) & (category < 255)
        assert ((kinds["Human_ids"] > 0) == person)[category < 255].all()
        assert ((kinds["Instance_ids"] > 0) == person)[category < 255].all()
        late |= bool(known - set(np.unique(category[0])))
    assert void == 1 and late


def test_ucf101_videos_have_b_frames_and_groups_do_not_mix(world):
    base = world / "ucf101"
    classes = dict(reversed(line.split()) for line in lines(base / "ucfTrainTestlist" / "classInd.txt"))
    assert len(classes) == 2
    for k in (1, 2, 3):
        train, test = (lines(base / "ucfTrainTestlist" / f"{name}list0{k}.txt") for name in ("train", "test"))
        assert all(classes[line.split("/")[0]] == line.split()[1] for line in train)
        group = {name: {line.split("_")[2] for line in part} for name, part in (("train", train), ("test", test))}
        assert group["train"] and group["test"] and not group["train"] & group["test"]
        assert {line.split()[0] for line in train + test} == {
            p.relative_to(base / "UCF-101").as_posix() for p in (base / "UCF-101").rglob("*.avi")
        }
    with av.open(str(base / "UCF-101" / test[0])) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, stream.average_rate) == ("mpeg4", 25)
        assert PictureType.B in {frame.pict_type for frame in video.decode(stream)}


def test_ssv2_json_files_and_videos(world):
    base = world / "ssv2"
    content = {
        name: json.loads((base / f"something-something-v2-{name}.json").read_text())
        for name in ("labels", "train", "validation", "test")
    }
    assert sorted(content["labels"].values()) == ["0", "1"]
    for item in content["train"] + content["validation"]:
        assert "[" in item["template"] and "[" not in item["label"]
        assert item["template"].replace("[", "").replace("]", "") in content["labels"]
    assert [list(item) for item in content["test"]] == [["id"]]
    ids = [item["id"] for name in ("train", "validation", "test") for item in content[name]]
    assert sorted(ids) == sorted(p.stem for p in (base / "videos").glob("*.webm"))
    with av.open(str(base / "videos" / f"{ids[0]}.webm")) as video:
        assert video.streams.video[0].codec_context.name == "vp9" and len(list(video.decode(video=0))) == 25


def test_vspw_layout_and_its_empty_picture(world):
    base = world / "vspw"
    names = lines(base / "val.txt")
    assert len(names) == 2 and (base / "train.txt").read_text() == (base / "test.txt").read_text() == ""
    classes = json.loads((base / "label_num_dic_final.json").read_text())
    empty = 0
    for name in names:
        frames, masks = (sorted((base / "data" / name / kind).iterdir()) for kind in ("origin", "mask"))
        assert [p.name for p in frames] == [f"{t:08d}.jpg" for t in range(1, 13)]
        assert [p.stem for p in masks] == [p.stem for p in frames]
        empty += sum(p.stat().st_size == 0 for p in frames)
        assert all({*map(str, np.unique(Image.open(p)))} <= {*classes.values(), "255"} for p in masks)
    assert empty == 1 and classes["others"] == "0" and classes["person"] == "61"


def test_uvo_layout_and_its_null_mask(world):
    base = world / "uvo"
    content = json.loads((base / "VideoDenseSet" / "UVO_video_val_dense.json").read_text())
    assert sorted(content) == ["annotations", "categories", "videos"] and len(content["videos"]) == 2
    for video in content["videos"]:
        assert video["file_names"] == [f"{video['ytid']}/{t}.png" for t in range(6)]
        sizes = {Image.open(base / "uvo_videos_dense_frames" / name).size for name in video["file_names"]}
        assert sizes == {(video["width"], video["height"])}
    assert [found["video_id"] for found in content["annotations"]] == [1, 2, 2]
    nulls = [[rle is None for rle in found["segmentations"]] for found in content["annotations"]]
    assert nulls[2] == [t == 3 for t in range(6)] and not any(found[0] for found in nulls)


def test_a_hidden_puppet_is_away_in_one_frame_and_back_in_the_next():
    scene = build_scene(
        np.random.default_rng(1), TINY, action="bowing", seconds=np.arange(3) / 15, objects=3, puppets=3, crowd=True
    )
    before = [shown_pixels(scene, t) for t in range(3)]
    assert min(shown.min() for shown in before) > 0
    take_away(scene, lambda part: part.object_id == 2, 1)
    assert shown_pixels(scene, 1)[1] == 0 and joints_outside_their_limbs(scene) != []
    np.testing.assert_array_equal([shown_pixels(scene, t) for t in (0, 2)], [before[0], before[2]])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_a_crowd_fills_the_picture_and_every_puppet_stands_apart(count):
    rng = np.random.default_rng(count)
    scene = build_scene(
        rng, ToyWorldOptions(), action="bowing", seconds=np.zeros(1), objects=count, puppets=count, crowd=True
    )
    assert scene.puppets == list(range(1, count + 1)) == sorted({part.object_id for part in scene.parts})
    bellies = np.stack([joints[0, JOINTS.index("belly")] for joints in scene.joints])
    gaps = np.hypot(*(bellies[:, None] - bellies[None]).transpose(2, 0, 1)) + 1000 * np.eye(count)
    assert gaps.min() > 20
    rows = {round(float(y) / 20) for y in bellies[:, 1]}
    assert (np.ptp(bellies[:, 1]) > 40) == (count > 3) and len(rows) <= 4


def test_kitti_layout_and_its_region_to_ignore(world):
    base = world / "kitti"
    folders = [base / "training" / "image_02", base / "instances", base / "panoptic_maps" / "val"]
    frames, mots, step = ([Image.open(p) for p in sorted((folder / "0002").iterdir())] for folder in folders)
    assert [Path(image.filename).name for image in mots] == [f"{t:06d}.png" for t in range(25)]
    assert len(frames) == len(step) == 25
    assert {image.size for image in frames + mots + step} == {(159, 48)}
    ids = np.stack([np.asarray(image) for image in mots])
    assert ids.dtype == np.uint16 and set(np.unique(ids // 1000)) == {0, 1, 2, 10} and set(ids[ids >= 3000]) == {10000}
    panoptic = np.stack([np.asarray(image) for image in step])
    np.testing.assert_array_equal(panoptic[..., 0] == 255, ids == 10000)
    np.testing.assert_array_equal(panoptic[..., 2], np.where(ids == 10000, 0, ids % 1000))
    np.testing.assert_array_equal(panoptic[..., 0] == 11, ids // 1000 == 2)


def test_studio_layout_and_what_stands_still(world):
    base = world / "studio"
    assert lines(base / "classes.txt") == list(ACTIONS)
    assert lines(base / "train.txt") == ["videos/train_0002.mp4 2", "videos/train_0003.mp4 3"]
    assert lines(base / "val.txt") == ["videos/val_0000.mp4 0", "videos/val_0001.mp4 1"]
    assert [path.name for path in sorted((base / "layers").iterdir())] == ["val_0000", "val_0001"]
    with av.open(str(base / "videos" / "val_0001.mp4")) as video:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]).astype(int)
    layers = np.stack([np.asarray(Image.open(path)) for path in sorted((base / "layers" / "val_0001").iterdir())])
    assert frames.shape == (40, 96, 128, 3) and layers.shape == (40, 96, 128)
    assert set(np.unique(layers)) == {WALL, PUPPET, POSTER}
    changed = np.abs(frames - frames[:1]).max(-1) > 40  # beyond what the codec changes
    free = ~maximum_filter((layers == PUPPET).any(0), 7)  # where the puppet never comes near
    assert not changed[:, free].any()
    assert changed[(layers == PUPPET) & (layers[:1] != PUPPET)].mean() > 0.5
    np.testing.assert_array_equal((layers == POSTER)[:, free].all(0), (layers == POSTER)[:, free].any(0))


# --- truth --------------------------------------------------------------------------------------------------


@given(st.floats(-50, 50), st.floats(-50, 50), st.floats(-3, 3), st.floats(0.3, 3))
def test_inverse_undoes_an_affine_map(x, y, angle, scale):
    maps = affine(np.array([x]), np.array([y]), np.array([angle]), np.array([scale]))
    points = np.array([[3.0, -7.0]])
    np.testing.assert_allclose(apply(inverse(maps), apply(maps, points)), points, atol=1e-6)
    identity = np.array([[[1.0, 0, 0], [0, 1, 0]]])
    np.testing.assert_allclose(compose(inverse(maps), maps), identity, atol=1e-6)


@settings(max_examples=30)
@given(st.sampled_from(["ball", "capsule", "box", "torso", "cone", "kite", "star", "flower"]), st.floats(5, 20))
def test_shapes_lie_within_their_half_extents(shape, radius):
    y, x = np.mgrid[-40:41, -40:41] / 1.0
    size = (radius, radius * 1.5) if shape in ("capsule", "torso") else (radius, radius)
    inside = signed_distance(shape, x, y, size) < 0
    assert inside.any() and not inside[(np.abs(x) > size[0]) | (np.abs(y) > size[1])].any()


def test_a_ball_covers_its_disc():
    y, x = np.mgrid[-20:21, -20:21] / 1.0
    alpha = np.clip(0.5 - signed_distance("ball", x + 0.3, y - 0.2, (12.0, 12.0)), 0, 1)
    assert alpha.sum() == pytest.approx(np.pi * 12**2, rel=0.005)


def test_painted_colours_follow_the_flow():
    """Without light, a surface point keeps its colour along the flow; where it stood, another colour is found."""
    clip = render_clip(21, action="cartwheeling", frames=6, objects=3, puppets=2)
    scene, t = replace(clip.scene, light=steady_light(6)), 2
    flow, visible = flow_truth(scene, t, clip.parts[t], later=5)
    y, x = np.mgrid[0 : scene.height, 0 : scene.width]
    # well inside a part, where no antialiased edge mixes colours
    core = minimum_filter(clip.parts[t], 5) == -minimum_filter(-clip.parts[t], 5)
    use = visible & core & (clip.objects[t] > 0) & (np.hypot(*np.moveaxis(flow, -1, 0)) > 3)
    assert use.sum() > 300
    now, after = (render_frame(scene, i).astype(float) for i in (t, 5))
    place = [y + flow[..., 1], x + flow[..., 0]]
    moved = np.stack([map_coordinates(after[..., c], place, order=1, mode="nearest") for c in range(3)], -1)
    along, across = np.abs(moved - now)[use].mean(), np.abs(after - now)[use].mean()
    assert along < 8 and along < 0.25 * across


def own_coordinates(scene: Scene, t: int, parts: np.ndarray) -> np.ndarray:
    """(H,W,2): each pixel's place in the own coordinates (pixels at zoom 1) of its part or the stage."""
    back = inverse(np.stack([part.maps[t] for part in scene.parts] + [scene.camera[t]]))[parts]
    y, x = np.mgrid[0 : scene.height, 0 : scene.width]
    return apply(back, np.stack([x, y], -1))


def test_visible_points_are_found_again_by_part_and_place(clips):
    certain = 0
    for clip in clips:
        scene = clip.scene
        for t in (0, 8):
            flow, visible, before, after = clip.flow[t], clip.visible[t], clip.parts[t], clip.parts[t + 1]
            y, x = np.mgrid[0 : scene.height, 0 : scene.width]
            target = np.rint(np.stack([x, y], -1) + flow).astype(int)
            inside = ((target >= 0) & (target < (scene.width, scene.height))).all(-1)
            tx, ty = np.clip(target, 0, (scene.width - 1, scene.height - 1)).transpose(2, 0, 1)
            assert not visible[~inside].any()
            same = after[ty, tx] == before
            assert same[visible].mean() > 0.985  # rounding to pixels errs at edges
            here, there = own_coordinates(scene, t, before), own_coordinates(scene, t + 1, after)[ty, tx]
            assert np.abs(here - there)[visible & same].max() < 1.0  # half a pixel of rounding, at a zoom near 1
            # away from edges both answers are certain: all about the place is the part itself, or none of it is
            low, high = minimum_filter(after, 3)[ty, tx], maximum_filter(after, 3)[ty, tx]
            assert visible[inside & (low == before) & (high == before)].mean() > 0.999
            covered = inside & ((low > before) | (high < before))
            assert not visible[covered].any()
            certain += covered.sum()
    assert certain > 500


def test_objects_are_contiguous_and_parts_belong_to_them(clips):
    for clip in clips:
        assert clip.scene.object_count == 3
        ids = np.array([part.object_id for part in clip.scene.parts] + [0])
        np.testing.assert_array_equal(ids[clip.parts], clip.objects)
        assert {"torso", "head", "R forearm", "L shin"} <= {part.name for part in clip.scene.parts}


def joints_outside_their_limbs(scene: Scene) -> list[str]:
    homes = {"face": "head", "belly": "torso", "neck": "torso"}
    limbs = {"shoulder": "upper arm", "elbow": "forearm", "wrist": "forearm",
             "hip": "thigh", "knee": "shin", "ankle": "shin"}  # fmt: skip
    homes |= {f"{side} {joint}": f"{side} {limb}" for side in "RL" for joint, limb in limbs.items()}
    lost = []
    for joints, number in zip(scene.joints, scene.puppets, strict=True):
        parts: dict[str, Part] = {p.name: p for p in scene.parts if p.object_id == number}
        for name, home in homes.items():
            part = parts[home]
            u, v = (apply(inverse(part.maps), joints[:, JOINTS.index(name)]) - part.centre).T
            if signed_distance(part.shape, u, v, part.size).max() >= 0:
                lost.append(f"{name} of {number}")
    return lost


def test_joints_lie_in_their_limbs(clips):
    for clip in clips:
        assert len(clip.scene.puppets) == len(clip.joints) >= 1
        assert joints_outside_their_limbs(clip.scene) == []


def test_moving_a_puppet_or_its_hat_takes_nothing_else_along():
    for seed in range(6):
        rng = np.random.default_rng(seed)
        scene = build_scene(rng, TINY, action="bowing", seconds=np.arange(9) / 30, puppets=1)
        gaps = [apply(p.maps, np.array(p.centre)) for p in scene.parts if p.object_id == scene.puppets[0]]
        push_out(scene)
        moved = [apply(p.maps, np.array(p.centre)) for p in scene.parts if p.object_id == scene.puppets[0]]
        shifts = np.stack(moved) - np.stack(gaps)
        np.testing.assert_allclose(shifts, np.broadcast_to(shifts[0, 0], shifts.shape), atol=1e-9)
        first = scene.joints[0][0, :, 0]
        assert (first < 0).any() or (first > scene.width - 1).any()
        take_away(scene, lambda part: part.name == "hat", slice(3))
        assert joints_outside_their_limbs(scene) == []


# --- difficulty ---------------------------------------------------------------------------------------------


def jaccard(guess: np.ndarray, truth: np.ndarray, ids: list[int]) -> float:
    return float(np.mean([((guess == k) & (truth == k)).sum() / ((guess == k) | (truth == k)).sum() for k in ids]))


def test_colour_alone_does_not_track(clips):
    colour, true = [], []
    for clip in clips:
        ids = [k for k in (1, 2, 3) if min((clip.objects[t] == k).sum() for t in (0, 15)) >= 60]
        tree = cKDTree(clip.frames[0].reshape(-1, 3).astype(float))
        nearest = tree.query(clip.frames[15].reshape(-1, 3).astype(float))[1]
        colour.append(jaccard(clip.objects[0].ravel()[nearest].reshape(clip.objects[0].shape), clip.objects[15], ids))
        flow, visible = flow_truth(clip.scene, 15, clip.parts[15], later=0)
        y, x = np.mgrid[0 : clip.scene.height, 0 : clip.scene.width]
        target = np.rint(np.stack([x, y], -1) + flow).astype(int)
        target = np.clip(target, 0, (clip.scene.width - 1, clip.scene.height - 1))
        guess = np.where(visible, clip.objects[0][target[..., 1], target[..., 0]], 0)
        true.append(jaccard(guess, clip.objects[15], ids))
    assert np.mean(true) > 0.8
    assert np.mean(colour) < np.mean(true) - 0.35


def test_no_affine_camera_explains_the_flow(clips):
    shares = []
    for clip in clips:
        for t in (2, 7, 12):
            y, x = np.mgrid[0 : clip.scene.height, 0 : clip.scene.width]
            design = np.stack([x.ravel(), y.ravel(), np.ones(x.size)], -1)
            flow = clip.flow[t].reshape(-1, 2).astype(float)
            rest = flow - design @ np.linalg.lstsq(design, flow, rcond=None)[0]
            on = clip.objects[t].ravel() > 0
            shares.append((rest[on] ** 2).sum() / (flow[on] ** 2).sum())
    assert np.mean(shares) > 0.4


def test_difficulty_moves_light_and_camera():
    seconds, corners = np.arange(60) / 30, np.array([(0.0, 0.0), (95, 0), (0, 71), (95, 71)])

    def change(difficulty: float) -> tuple[float, float]:
        rngs = [np.random.default_rng(seed) for seed in range(6)]
        options = replace(TINY, difficulty=difficulty)
        scenes = [build_scene(rng, options, action="bowing", seconds=seconds, objects=1) for rng in rngs]
        light = np.mean([np.abs(np.diff(scene.light.gain, axis=0)).mean() for scene in scenes])
        shown = [apply(scene.camera[:, None], corners) for scene in scenes]
        return light, np.mean([np.abs(np.diff(points, axis=0)).mean() for points in shown])

    (dim, slow), (bright, fast) = change(0.0), change(1.0)
    assert bright > 2 * dim and fast > 2 * slow


# --- faults -------------------------------------------------------------------------------------------------


def test_a_finished_world_is_taken_as_it_is(world):
    before = (world / "manifest.json").stat().st_mtime_ns
    assert ensure_toy_world(world, TINY) == world
    assert ensure_toy_world(world, replace(TINY, datasets=("jhmdb",))) == world
    (world / "kinetics400" / MANIFEST).touch()  # as data_scripts/prepare_kinetics.py leaves it
    assert ensure_toy_world(world, TINY) == world
    (world / "kinetics400" / MANIFEST).unlink()
    assert (world / "manifest.json").stat().st_mtime_ns == before


def test_another_world_or_something_else_is_refused_in_one_line(world, tmp_path):
    with pytest.raises(UserError, match=r"seed is 0, wanted 7.*delete") as error:
        ensure_toy_world(world, replace(TINY, seed=7))
    assert "\n" not in str(error.value)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_text("keep me")
    (tmp_path / "file").write_text("keep me")
    for name in ("photos", "file"):
        with pytest.raises(UserError, match=f"{name} is no finished toy world"):
            ensure_toy_world(tmp_path / name, TINY)
    assert (tmp_path / "photos" / "mine.jpg").read_text() == (tmp_path / "file").read_text() == "keep me"


def test_a_world_gets_the_data_sets_it_lacks(world, tmp_path):
    """As one made before they existed: its manifest knows neither them nor their options."""
    root = ensure_toy_world(tmp_path / "old", replace(TINY, datasets=("jhmdb", "vip")), workers=1)
    manifest = json.loads((root / "manifest.json").read_text())
    for name in ("uvo_videos", "uvo_frames"):
        del manifest["options"][name]
    (root / "manifest.json").write_text(json.dumps(manifest))
    times = {path: path.stat().st_mtime_ns for name in ("jhmdb", "vip") for path in (root / name).rglob("*")}
    ensure_toy_world(root, replace(TINY, datasets=("jhmdb", "kitti", "uvo")), workers=2)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    for name in ("jhmdb", "vip", "kitti", "uvo"):
        assert digests(root / name) == digests(world / name)
    manifest = json.loads((root / "manifest.json").read_text())
    assert manifest["options"]["datasets"] == ["jhmdb", "vip", "kitti", "uvo"] == list(manifest["files"])
    assert manifest["options"]["uvo_frames"] == 6
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    with pytest.raises(UserError, match="uvo_frames is 6, wanted 7"):
        ensure_toy_world(root, replace(TINY, uvo_frames=7))


def test_adding_fails_without_a_trace_and_overwrites_nothing(tmp_path, monkeypatch):
    small, larger = (replace(TINY, datasets=names) for names in (("jhmdb",), ("jhmdb", "vspw")))
    root = ensure_toy_world(tmp_path / "world", small, workers=1)
    before = digests(root)
    with pytest.raises(UserError, match="seed is 0, wanted 3"):
        ensure_toy_world(root, replace(larger, seed=3), workers=1)
    with monkeypatch.context() as patch:
        patch.setattr(generate_module, "write_lists", lambda *_: (_ for _ in ()).throw(OSError("no space left")))
        with pytest.raises(OSError, match="no space"):
            ensure_toy_world(root, larger, workers=1)
    assert digests(root) == before and [path.name for path in tmp_path.iterdir()] == ["world"]
    (root / "vspw").mkdir()
    (root / "vspw" / "mine.jpg").write_text("keep me")
    with pytest.raises(UserError, match="vspw is there, but not in the manifest") as error:
        ensure_toy_world(root, larger, workers=1)
    assert "\n" not in str(error.value) and (root / "vspw" / "mine.jpg").read_text() == "keep me"
    (root / "vspw" / "mine.jpg").unlink()
    (root / "vspw").rmdir()
    ensure_toy_world(root, larger, workers=1)
    assert len(lines(root / "vspw" / "val.txt")) == 2


def test_a_world_that_lost_files_is_refused(tmp_path):
    options = replace(TINY, datasets=("jhmdb",))
    root = ensure_toy_world(tmp_path / "world", options, workers=1)
    next(root.rglob("joint_positions.mat")).unlink()
    with pytest.raises(UserError, match="jhmdb holds .* files, its manifest says"):
        ensure_toy_world(root, options)


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError("no space left on device")

    monkeypatch.setattr(generate_module, "write_clip", full)
    with pytest.raises(OSError, match="no space"):
        ensure_toy_world(tmp_path / "world", TINY, workers=1)
    assert not list(tmp_path.iterdir())


def test_a_killed_generation_does_not_pass_for_complete(tmp_path):
    command = [sys.executable, str(SCRIPT), "--root", str(tmp_path / "world"), "--datasets", "kinetics400"]
    process = subprocess.Popen([*command, "--workers", "2"], stdout=subprocess.PIPE, start_new_session=True)
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.rglob("*.mp4")):
            assert process.poll() is None and time.monotonic() < deadline, "nothing was written"
            time.sleep(0.05)
        process.kill()
        process.communicate(timeout=60)  # ends when its helpers have ended, too: they hold the same pipe
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert not (tmp_path / "world").exists()
    [left] = tmp_path.iterdir()
    with pytest.raises(UserError, match="no finished toy world"):
        ensure_toy_world(left, TINY)
    options = replace(TINY, datasets=("jhmdb",))
    assert (ensure_toy_world(tmp_path / "world", options, workers=1) / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--root", "w", "--datasets", "davis2016"], "unknown data set 'davis2016': did you mean 'davis2017'"),
        (["--root", "w", "--width", "97"], "width 97"),
        (["--root", "w", "--difficulty", "2"], "difficulty 2.0"),
        (["--root", "w", "--uvo_videos", "0"], "uvo_videos 0 is too small: use 1 or more"),
        (["--root", "w", "--uvo_frames", "5"], "uvo_frames 5 is too small: use 6 or more"),
        ([], "nothing to do"),
        (["--figure", "f.jpg"], "f.jpg"),
    ],
)
def test_the_command_line_says_what_is_wrong(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import make_toy_world

    assert make_toy_world.main(arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and message in printed and printed.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_part_map_names_the_topmost_part():
    clip = render_clip(5, TINY, frames=2, objects=2)
    for index, part in enumerate(clip.scene.parts):
        centre = np.rint(apply(part.maps[0], np.array(part.centre))).astype(int)
        if (centre >= 0).all() and (centre < (clip.scene.width, clip.scene.height)).all():
            assert part_map(clip.scene, 0)[centre[1], centre[0]] >= index
