"""What else is done to a pair's frames: without it they are as ever; turns, colours, a crop in the crop; settings."""

import itertools
import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from make_videos import write_numbered

from lib.data.augmentation import Augmentation, draw_inner, mirrored, turned_crop
from lib.data.clips import FramePairs, crop_frames, draw_crop, frames_of
from lib.data.kinetics import scan_videos
from lib.data.video import read_frames
from lib.errors import UserError
from lib.runtime import digest

BOX = (20, 30, 40, 52)
NOISE = np.random.default_rng(0).integers(256, size=(2, 100, 140, 3), dtype=np.uint8)
CHANGES = {"flip": False, "rotation": 20.0, "color_jitter": 0.4, "second_crop": (0.3, 1.0)}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return scan_videos([write_numbered(folder / f"{n}.mp4", 60, preset="ultrafast") for n in (0, 1)]).clips


def plane(height: int = 100, width: int = 140) -> np.ndarray:
    """Red grows by one a column, green by one a row."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x, y, np.full_like(x, 90)], axis=-1).astype(np.uint8)


def views(frames, seed: int = 0, box=BOX, side: int = 40, **settings) -> torch.Tensor:
    return Augmentation(**settings).views(frames, box, side, np.random.default_rng(seed))


def augmented(clips, **options) -> FramePairs:
    """Pairs with those of the options that are an Augmentation's as one."""
    names = {field.name for field in fields(Augmentation)} & set(options)
    given = {name: options.pop(name) for name in names}
    return FramePairs(clips, **options, augment=Augmentation(**given) if given else None)


# --- what it was and stays ----------------------------------------------------------------------------------


def test_without_settings_pairs_are_what_they_always_were(clips):
    dataset = FramePairs(clips, image_size=24, crop_scale=(0.2, 0.8), seed=3)
    for index in (0, 1, 6):
        clip, rng = clips[index % 2], np.random.default_rng([3, index])
        distances, pairs = [], []
        for _ in range(2):
            distances.append(int(rng.integers(4, 49)))
            first = int(rng.integers(60 - distances[-1]))
            pairs.append((first, first + distances[-1]))
        expected = []
        for pair in pairs:
            box = draw_crop(64, 160, rng, (0.2, 0.8))
            mirror = rng.random() < 0.5
            crops = crop_frames(read_frames(clip.path, pair), box, 24)
            expected.append(crops.flip(-1) if mirror else crops)
        past, future = torch.stack(expected).unbind(1)
        sample = dataset[index]
        assert torch.equal(sample["past"], past) and torch.equal(sample["future"], future)
        assert sample["gap"].tolist() == distances


def test_runs_that_began_before_there_were_settings_go_on(clips):
    names = [(clip.path.name, clip.info) for clip in clips]
    assert FramePairs(clips).identity == digest(names, 224, (4, 48), (0.5, 1.0), 2, None)
    assert FramePairs(clips, flip=True, augment=None).identity == FramePairs(clips).identity
    sample, doing_nothing = (augmented(clips, image_size=16, **kind)[1] for kind in ({}, {"rotation": 0.0}))
    assert all(torch.equal(sample[name], doing_nothing[name]) for name in sample)


def test_every_setting_makes_other_samples(clips):
    kinds = [{}, *({name: value} for name, value in CHANGES.items()), CHANGES]
    kinds += [{"rotation": 20.0, "future_alone": True}, {"color_jitter": 0.4, "future_alone": True}]
    found = [augmented(clips, image_size=16, **kind) for kind in kinds]
    assert len({dataset.identity for dataset in found}) == len(kinds)
    samples = [torch.cat([dataset[i][name] for i in range(4) for name in ("past", "future")]) for dataset in found]
    assert len({tuple(views.flatten().tolist()) for views in samples}) == len(kinds)


def test_without_the_flip_the_same_crops_are_never_mirrored(clips):
    mirroring, plain = (FramePairs(clips, image_size=24, flip=flip) for flip in (True, False))
    flips = 0
    for index in range(10):
        (ours, cuts), (theirs, mirrored_cuts) = plain.sample(index), mirroring.sample(index)
        flips += sum(cut.flip for cut in mirrored_cuts)
        assert cuts == [cut._replace(flip=False) for cut in mirrored_cuts], "the cuts tell what was done"
        for name in ("past", "future"):
            for mine, other, cut in zip(ours[name], theirs[name], mirrored_cuts, strict=True):
                assert torch.equal(mine, other.flip(-1) if cut.flip else other)
    assert 4 < flips < 16


def test_seed_and_index_alone_decide(clips):
    options = {"image_size": 16, **CHANGES, "flip": True, "seed": 5}
    first, again = augmented(clips, **options), augmented(clips, **options)
    samples = {index: first[index] for index in (3, 0, 10**6)}
    for index in (10**6, 3, 0):
        assert all(torch.equal(again[index][name], value) for name, value in samples[index].items())
    assert not torch.equal(augmented(clips, **options | {"seed": 6})[3]["past"], samples[3]["past"])


def test_a_gap_of_none_is_the_same_frame_twice(clips):
    sample = FramePairs(clips, image_size=24, gap=(0, 0))[1]
    assert torch.equal(sample["past"], sample["future"]) and sample["gap"].tolist() == [0, 0]
    inner = augmented(clips, image_size=24, gap=(0, 0), second_crop=(0.3, 0.5))[1]
    assert not torch.equal(inner["past"], inner["future"])
    gaps = torch.cat([FramePairs(clips, image_size=8, gap=(0, 2), repeated_sampling=9)[i]["gap"] for i in range(9)])
    assert set(gaps.tolist()) == {0, 1, 2}
    with pytest.raises(UserError, match=r"gap \(-1, 4\)"):
        FramePairs(clips, gap=(-1, 4))


@given(gap=st.integers(0, 60), fps=st.floats(5, 60))
def test_only_a_gap_of_none_is_no_frame(gap, fps):
    assert (frames_of(gap, fps) == 0) == (gap == 0)
    assert abs(frames_of(gap, fps) - gap * fps / 30) <= max(0.5 + 1e-9, 1 - gap * fps / 30)


# --- turns --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quarters", [1, 2, 3, -1])
@pytest.mark.parametrize("corner", [(0, 0), (25, 33), (60, 100)])
def test_quarter_turns_of_a_square_are_numpys(quarters, corner):
    expected = np.rot90(NOISE[0][corner[0] :, corner[1] :][:40, :40], quarters)
    turned = turned_crop(NOISE[0], (*corner, 40, 40), 90.0 * quarters, 40)
    assert turned.shape == (1, 3, 40, 40) and turned.dtype == torch.uint8
    assert (turned[0].permute(1, 2, 0).int() - torch.from_numpy(expected.copy()).int()).abs().max() <= 1


@pytest.mark.parametrize("angle", [-135.0, -30.0, 3.0, 50.0, 180.0])
def test_a_turn_is_about_the_middle_of_the_crop_against_the_clock(angle):
    """A plane's colours tell where each pixel came from."""
    top, left, height, width = 30, 45, 41, 41
    turned = turned_crop(plane(), (top, left, height, width), angle, 41)[0].double()
    turn, radius = math.radians(angle), 20
    for row, column in itertools.product(range(0, 41, 5), range(0, 41, 5)):
        down, right = row - radius, column - radius
        came_from_x = left + radius + math.cos(turn) * right - math.sin(turn) * down
        came_from_y = top + radius + math.sin(turn) * right + math.cos(turn) * down
        assert turned[0, row, column] == pytest.approx(came_from_x, abs=1.01)
        assert turned[1, row, column] == pytest.approx(came_from_y, abs=1.01)


@given(data=st.data(), angle=st.floats(-180, 180))
def test_a_turn_brings_no_black_corners(data, angle):
    height, width = data.draw(st.integers(8, 40)), data.draw(st.integers(8, 40))
    h, w = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
    box = data.draw(st.integers(0, height - h)), data.draw(st.integers(0, width - w)), h, w
    turned = turned_crop(np.full((height, width, 3), 200, np.uint8), box, angle, 12)
    assert turned.min() >= 199 and turned.max() <= 201


@given(size=st.integers(1, 9), reach=st.integers(0, 30))
def test_edges_are_continued_as_numpy_does(size, reach):
    places = np.arange(-reach, size + reach)
    np.testing.assert_array_equal(mirrored(places, size), np.pad(np.arange(size), reach, mode="symmetric"))


def angle_of(view: torch.Tensor) -> float:
    """By how much a view of a plane was turned: where its red grows."""
    red = view[0].double()
    down, right = red.diff(dim=0).mean(), red.diff(dim=1).mean()
    return math.degrees(math.atan2(-down, right))


def test_angles_are_uniform_to_both_sides_and_both_frames_are_turned_alike():
    frames, box = [plane()] * 2, (32, 50, 36, 36)  # the mirror image beyond the edge stays out of it
    found = [views(frames, seed, box=box, rotation=20.0) for seed in range(80)]
    assert all(torch.equal(past, future) for past, future in found)
    angles = np.array([angle_of(past) for past, _ in found])
    assert -20.5 < angles.min() < -17 and 17 < angles.max() < 20.5 and abs(angles.mean()) < 5
    assert 9 < angles.std() < 14  # 11.5 is that of uniform ones


def test_a_turn_of_the_future_alone_leaves_the_past_as_it_is(clips):
    for seed in range(4):
        plain, turned, both = (
            views(NOISE, seed, **kind) for kind in ({}, {"rotation": 45.0, "future_alone": True}, {"rotation": 45.0})
        )
        assert torch.equal(turned[0], plain[0]) and torch.equal(turned[1], both[1])
        assert not torch.equal(turned[1], plain[1]) and not torch.equal(both[0], plain[0])
    plain = FramePairs(clips, image_size=16, repeated_sampling=1)
    turned = augmented(clips, image_size=16, repeated_sampling=1, rotation=45.0, future_alone=True)
    assert all(torch.equal(plain[index]["past"], turned[index]["past"]) for index in range(4))


# --- a crop in the crop -------------------------------------------------------------------------------------


@given(data=st.data(), seed=st.integers(0, 10**6), low=st.floats(0.05, 1), high=st.floats(0.05, 1))
def test_the_second_crop_lies_in_the_first(data, seed, low, high):
    box = tuple(data.draw(st.integers(*range_)) for range_ in ((0, 50), (0, 50), (4, 90), (4, 90)))
    top, left, height, width = draw_inner(box, np.random.default_rng(seed), (min(low, high), max(low, high)))
    assert box[0] <= top and top + height <= box[0] + box[2] and min(height, width) > 0
    assert box[1] <= left and left + width <= box[1] + box[3]


def test_the_future_shows_a_part_of_what_the_past_shows():
    frames, areas = [plane()] * 2, []
    for seed in range(60):
        past, future = views(frames, seed, second_crop=(0.3, 0.6)).double()
        assert torch.equal(past.byte(), crop_frames(frames, BOX, 40)[0])
        for channel in (0, 1):
            assert past[channel].min() - 1 <= future[channel].min() <= future[channel].max() <= past[channel].max() + 1
        spans = [float((view[0].max() - view[0].min()) * (view[1].max() - view[1].min())) for view in (past, future)]
        areas.append(spans[1] / spans[0])
    assert 0.25 < min(areas) < 0.35 and 0.55 < max(areas) < 0.65


# --- colours ------------------------------------------------------------------------------------------------


def test_colours_change_alike_in_both_frames_or_in_the_future_alone():
    frames = NOISE[:1].repeat(2, axis=0)
    for seed in range(4):
        plain, both = views(frames, seed), views(frames, seed, color_jitter=0.4)
        alone = views(frames, seed, color_jitter=0.4, future_alone=True)
        assert torch.equal(both[0], both[1]) and not torch.equal(both, plain)
        assert torch.equal(alone[0], plain[0]) and torch.equal(alone[1], both[1])
        assert torch.equal(views(frames, seed, color_jitter=0.0), plain)


def test_grey_stays_grey_and_one_colour_knows_brightness_alone():
    frames = np.full((2, 100, 140, 3), 100, np.uint8)
    greys = []
    for seed in range(80):
        found = views(frames, seed, color_jitter=0.4).int()
        assert found.max() - found.min() <= 1
        greys.append(found.float().mean().item())
    assert 59 <= min(greys) < 70 and 130 < max(greys) <= 141 and abs(np.mean(greys) - 100) < 8


def test_hues_turn_by_up_to_a_quarter_of_the_strength():
    """Of red: by 36 degrees either way at 0.4; saturation and brightness leave the hue."""
    red = np.zeros((2, 100, 140, 3), np.uint8)
    red[..., 0] = 200
    hues = []
    for seed in range(80):
        r, g, b = (views(red, seed, color_jitter=0.4)[0, :, 5, 5].double() / 255).tolist()
        hues.append(math.degrees(math.atan2(math.sqrt(3) * (g - b), 2 * r - g - b)))
    assert -38 < min(hues) < -25 and 25 < max(hues) < 38


# --- settings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [("rotation", -1.0), ("rotation", 181.0), ("color_jitter", -0.1), ("color_jitter", 1.5)]
    + [("second_crop", scale) for scale in ((0.0, 1.0), (0.5, 0.2), (0.2, 1.5))],
)
def test_impossible_settings_are_refused_in_one_line(field, value):
    with pytest.raises(UserError, match=rf"^{field} [^\n]+$"):
        Augmentation(**{field: value})
