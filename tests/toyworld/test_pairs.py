"""The toy world's pairs and their truth: what the past hid, true motion for training pairs."""

import numpy as np
import pytest
import torch
from make_videos import write_numbered
from torch.utils.data import DataLoader

from lib.data.augmentation import Augmentation
from lib.data.clips import FramePairs, collate_pairs, crop_frames, draw_crop
from lib.data.kinetics import list_kinetics, scan_videos
from lib.errors import UserError
from lib.toyworld import ToyWorldOptions, ensure_toy_world
from lib.toyworld.actions import ACTIONS
from lib.toyworld.pairs import MovingPairs, patch_motion, read_options, stage_motion, toy_futures, unseen
from lib.toyworld.render import flow_truth, part_map, render_frame
from lib.toyworld.scene import build_scene

WORLD = ToyWorldOptions(
    datasets=("kinetics400",), kinetics_train=3, kinetics_val=1, kinetics_frames=60, height=96, width=128
)
SCALE = (0.1, 0.35)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return ensure_toy_world(tmp_path_factory.mktemp("toy") / "world", WORLD, workers=1)


@pytest.fixture(scope="module")
def scene():
    return build_scene(np.random.default_rng(3), WORLD, action=ACTIONS[0], seconds=np.arange(40) / 30)


def test_toy_futures_are_a_function_of_the_seed():
    first, again, other = (toy_futures(3, (4, 12), 32, 8, SCALE, seed) for seed in (0, 0, 1))
    assert first.future.shape == (3, 2, 3, 32, 32) and first.occluded.shape == first.outside.shape == (3, 2, 16)
    for one, two in zip(first, again, strict=True):
        assert torch.equal(one, two) if torch.is_tensor(one) else one == two
    assert not torch.equal(first.past, other.past)
    both = first.occluded + first.outside
    assert both.min() >= 0 and both.max() <= 1 + 1e-6


def test_more_gaps_leave_the_others_as_they_are():
    """The largest gap fixes how long clips are; between two sets with the same one, common gaps have common truth."""
    few, many = (toy_futures(2, gaps, 32, 8, SCALE) for gaps in ((4, 16), (4, 8, 16)))
    assert torch.equal(few.future, many.future[:, [0, 2]]) and torch.equal(few.occluded, many.occluded[:, [0, 2]])


@pytest.mark.parametrize("ages", [(), (3, 10)])
def test_frames_are_those_of_the_scene_and_without_ages_as_they_always_were(ages):
    found, lead = toy_futures(2, (4, 12), 32, 8, SCALE, seed=4, ages=ages), max(ages, default=0)
    assert found.earlier.shape == (2, len(ages), 3, 32, 32) and found.ages == ages
    for number in range(2):
        rng = np.random.default_rng([4, number])
        scene = build_scene(
            rng, ToyWorldOptions(), action=ACTIONS[number % len(ACTIONS)], seconds=np.arange(lead + 12 + 12) / 30
        )
        now = lead + int(rng.integers(12))
        box = draw_crop(scene.height, scene.width, rng, SCALE)
        times = [now, now + 4, now + 12, *(now - age for age in ages)]
        past, *others = crop_frames([render_frame(scene, time) for time in times], box, 32)
        assert torch.equal(found.past[number], past)
        assert all(map(torch.equal, [*found.future[number], *found.earlier[number]], others))


def test_ages_must_rise():
    with pytest.raises(UserError, match="must rise"):
        toy_futures(1, (4, 12), 32, 8, SCALE, ages=(0, 4))


def test_unseen_is_what_the_flow_says_pixel_by_pixel(scene):
    box, past, future = (10, 20, 40, 60), 5, 30
    flow, visible = flow_truth(scene, future, part_map(scene, future), past)
    hidden, absent = unseen(scene, past, future, box, 4)
    expected = np.zeros((2, 40, 60))
    for row in range(40):
        for column in range(60):
            y, x = row + 10 + flow[row + 10, column + 20, 1], column + 20 + flow[row + 10, column + 20, 0]
            inside = 9.5 < y < 49.5 and 19.5 < x < 79.5
            expected[:, row, column] = inside and not visible[row + 10, column + 20], not inside
    blocks = expected.reshape(2, 4, 10, 4, 15).mean(axis=(2, 4)).reshape(2, 16)
    np.testing.assert_allclose(torch.stack([hidden, absent]).numpy(), blocks, atol=1e-6)
    assert blocks[0].max() > 0.3, "a test in which nothing is hidden shows nothing"
    same, none = unseen(scene, future, future, box, 4)
    assert same.max() == 0 and none.max() == 0


def test_stage_motion_is_the_flow_less_the_camera_s(scene):
    rows, columns = np.mgrid[0:96:7, 0:128:5]
    parts = part_map(scene, 30)
    flow = flow_truth(scene, 30, parts, 10)[0] - flow_truth(scene, 30, np.full_like(parts, -1), 10)[0]
    found = stage_motion(scene, 10, 30, rows, columns)
    np.testing.assert_allclose(found, np.hypot(flow[..., 0], flow[..., 1])[rows, columns], atol=1e-3)
    assert (found[parts[rows, columns] == -1] == 0).all() and found.max() > 1


def test_moving_pairs_are_the_same_pairs_with_a_score(world):
    clips = scan_videos(list_kinetics(world / "kinetics400", "train")).clips
    pairs = FramePairs(clips, 32, (4, 24), SCALE, repeated_sampling=3, seed=5)
    moving = MovingPairs(pairs, world, 8)
    flips = 0
    for index in range(2 * len(pairs)):
        sample, (plain, cuts) = moving[index], pairs.sample(index)
        assert torch.equal(sample["past"], plain["past"]) and torch.equal(sample["future"], plain["future"])
        assert sample["score"].shape == (3, 16) and sample["score"].min() >= 0
        flips += sum(cut.flip for cut in cuts)
        for score, cut in zip(sample["score"], cuts, strict=True):
            mirrored = patch_motion(moving.scenes[index % len(pairs)], cut._replace(flip=not cut.flip), 4)
            assert torch.equal(mirrored.view(4, 4).flip(1), score.view(4, 4))
    assert 0 < flips < 6 * len(pairs)
    batch = next(iter(DataLoader(moving, batch_size=2, collate_fn=collate_pairs)))
    assert {name: len(part) for name, part in batch.items()} == {"past": 6, "future": 6, "gap": 6, "score": 6}


def test_motion_of_pairs_that_are_never_mirrored_is_not_either(world):
    clips = scan_videos(list_kinetics(world / "kinetics400", "train")).clips
    options = {"image_size": 32, "gap": (4, 24), "crop_scale": SCALE, "seed": 5}
    mirroring, plain = (MovingPairs(FramePairs(clips, **options, flip=flip), world, 8) for flip in (True, False))
    flips = 0
    for index in range(6):
        cuts = mirroring.pairs.sample(index)[1]
        for mine, theirs, cut in zip(plain[index]["score"], mirroring[index]["score"], cuts, strict=True):
            assert torch.equal(mine.view(4, 4), theirs.view(4, 4).flip(1) if cut.flip else theirs.view(4, 4))
            flips += cut.flip
    assert 0 < flips < 12


def test_motion_is_that_of_the_clip_on_disk(world):
    """Where a pair's pixels change most, its score is high: scene, frames and crop belong together."""
    clips = scan_videos(list_kinetics(world / "kinetics400", "train")).clips
    moving = MovingPairs(FramePairs(clips, 64, (4, 8), (0.3, 0.5), repeated_sampling=4), world, 8)
    agreement = []
    for index in range(4 * len(moving)):
        sample = moving[index]
        change = (sample["past"].float() - sample["future"].float()).abs().mean(1).unfold(1, 8, 8).unfold(2, 8, 8)
        for difference, score in zip(change.mean((3, 4)).flatten(1), sample["score"], strict=True):
            if 0 < (score > 0).sum() < 64:
                agreement.append(float(difference[score > 0].mean() > difference[score == 0].mean()))
    assert len(agreement) > 10 and np.mean(agreement) > 0.8


def test_strangers_and_other_sizes_are_refused(world, tmp_path):
    path = tmp_path / "stranger.mp4"
    write_numbered(path, 60, 30, preset="ultrafast")
    with pytest.raises(UserError, match="stranger.mp4"):
        MovingPairs(FramePairs(scan_videos([path]).clips, 32), world, 8)
    clips = scan_videos(list_kinetics(world / "kinetics400", "train")).clips
    with pytest.raises(UserError, match="frame_size 48"):
        MovingPairs(FramePairs(clips, 32, frame_size=48), world, 8)
    with pytest.raises(UserError, match="leave rotation and the like off"):
        MovingPairs(FramePairs(clips, 32, augment=Augmentation(rotation=5.0)), world, 8)
    assert read_options(world) == WORLD
    for content in (None, "{}", "[]", '{"options": {"datasets": ["cats"]}}'):
        if content is not None:
            (tmp_path / "manifest.json").write_text(content)
        with pytest.raises(UserError):
            read_options(tmp_path)
