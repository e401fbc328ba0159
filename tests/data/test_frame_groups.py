"""Groups of frames: which frames, at which times, under which crop; their law; what is refused."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from make_videos import numbered_frame, read_number, write_frames, write_numbered

from lib.data import frame_groups
from lib.data.augmentation import Augmentation
from lib.data.clips import collate_pairs
from lib.data.frame_groups import FrameGroups
from lib.data.kinetics import scan_videos
from lib.data.video import Clip, VideoInfo
from lib.errors import UserError

RATES = (30, 25, 15)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory) -> list[Clip]:
    """Frame i carries 4 * i + 1: the lowest bit is set and the highest is not, which tells mirrored pictures."""
    folder = tmp_path_factory.mktemp("numbered")
    frames = np.stack([numbered_frame(4 * number + 1) for number in range(90)])
    paths = [write_frames(folder / f"{fps}.mp4", frames, fps, "libx264", preset="ultrafast") for fps in RATES]
    return scan_videos(paths).clips


@pytest.fixture
def whole(monkeypatch):
    """Crops are the whole frames."""
    monkeypatch.setattr(frame_groups, "draw_crop", lambda height, width, *_: (0, 0, height, width))


def frame_number(view: torch.Tensor) -> tuple[int, bool]:
    """Which frame it is, and whether it is mirrored."""
    number = read_number(view.permute(1, 2, 0).numpy())
    mirrored = number % 2 == 0
    number = read_number(view.flip(-1).permute(1, 2, 0).numpy()) if mirrored else number
    assert number % 4 == 1
    return number // 4, mirrored


@pytest.mark.parametrize(("pasts", "futures"), [(1, 1), (1, 4), (3, 1), (4, 8)])
def test_frames_are_those_at_the_times_that_are_told(numbered, whole, pasts, futures):
    options = {"gap": (4, 30), "age_range": (3, 20), "image_size": 160, "repeated_sampling": 3}
    groups = FrameGroups(numbered, pasts=pasts, futures=futures, **options)
    flips = []
    for index in range(9):
        sample, fps = groups[index], numbered[index % 3].info.fps
        assert sample["pasts"].shape == (3, pasts, 3, 160, 160) and sample["pasts"].dtype == torch.uint8
        assert sample["futures"].shape == (3, futures, 3, 160, 160)
        for before, age, after, gap in zip(*(sample[name] for name in ("pasts", "age", "futures", "gap")), strict=True):
            numbers, mirrored = zip(*map(frame_number, [*before, *after]), strict=True)
            assert len(set(mirrored)) == 1 and list(numbers) == sorted(numbers)
            flips.append(mirrored[0])
            times = [(number - numbers[pasts - 1]) * 30 / fps for number in numbers]
            assert [-time for time in times[:pasts]] == pytest.approx(age.tolist(), rel=1e-6) and age[-1] == 0
            assert times[pasts:] == pytest.approx(gap.tolist(), rel=1e-6)
            assert ((age[:-1] >= 2.5) & (age[:-1] <= 20.5)).all() and ((gap >= 3.5) & (gap <= 30.5)).all()
            if fps == 30:
                assert len(set(numbers)) == pasts + futures, "at the paper's rate no frame is there twice"
    assert 3 < sum(flips) < 24


def test_all_frames_of_a_group_share_a_crop_and_a_flip(tmp_path):
    still = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8).repeat(80, axis=0)
    path = write_frames(tmp_path / "still.mp4", still, 30, "libx264", preset="ultrafast", crf="1")
    groups = FrameGroups(scan_videos([path]).clips, pasts=2, futures=3, image_size=32, crop_scale=(0.1, 0.35))
    found = [groups[index] for index in range(4)]
    views = torch.cat([torch.cat([sample["pasts"], sample["futures"]], dim=1) for sample in found]).float()
    assert views.shape == (8, 5, 3, 32, 32) and (views - views[:, :1]).abs().mean() < 3
    for group in range(1, 8):
        assert (views[group] - views[0]).abs().mean() > 10
        assert (views[group] - views[0].flip(-1)).abs().mean() > 10


def test_without_the_flip_nothing_is_mirrored(numbered, whole):
    options = {"pasts": 2, "futures": 2, "image_size": 160}
    mirroring, plain = (FrameGroups(numbered[:1], flip=flip, **options) for flip in (True, False))
    for index in range(6):
        ours, theirs = (map(frame_number, groups[index]["futures"].flatten(0, 1)) for groups in (plain, mirroring))
        assert list(ours) == [(number, False) for number, _ in theirs]


def test_seed_and_index_alone_decide(numbered):
    options = {"pasts": 2, "futures": 3, "image_size": 16}
    first, again = (FrameGroups(numbered, seed=5, **options) for _ in range(2))
    samples = {index: first[index] for index in (4, 1, 10**6)}
    for index in (10**6, 1, 4):
        assert all(torch.equal(again[index][name], value) for name, value in samples[index].items())
    assert not torch.equal(first[1]["gap"], first[4]["gap"]), "the same clip, an epoch later"
    assert not torch.equal(first[1]["futures"], FrameGroups(numbered, seed=6, **options)[1]["futures"])
    batch = collate_pairs([first[0], first[1]])
    assert batch["pasts"].shape == (4, 2, 3, 16, 16) and batch["gap"].shape == (4, 3)


def test_identities_tell_numbers_and_ranges_apart(numbered):
    kinds = [{}, {"pasts": 2}, {"futures": 2}, {"age_range": (4, 20)}, {"gap": (4, 40)}, {"crop_scale": (0.2, 1.0)}]
    assert len({FrameGroups(numbered, **kind).identity for kind in kinds}) == len(kinds)
    assert FrameGroups(numbered).identity == FrameGroups(numbered, pasts=1).identity


@pytest.fixture
def blank(monkeypatch) -> list[Clip]:
    """A long clip that nobody reads."""
    monkeypatch.setattr(frame_groups, "read_clip", lambda clip, times, *_: np.zeros((len(times), 4, 4, 3), np.uint8))
    return [Clip("blank.mp4", VideoInfo(300, 30.0, 4, 4))]


def counted(groups: FrameGroups, name: str, samples: int) -> Counter:
    return Counter(value for index in range(samples) for value in groups[index][name].flatten().tolist())


def test_a_single_gap_is_uniform_with_both_bounds(blank):
    groups = FrameGroups(blank, image_size=4, repeated_sampling=50)
    gaps = counted(groups, "gap", 180)
    assert set(gaps) == set(range(4, 49))
    assert max(abs(number - 200) for number in gaps.values()) < 4.5 * np.sqrt(200)
    assert set(counted(groups, "age", 2)) == {0}


def test_several_gaps_and_ages_are_different_and_each_as_likely(blank):
    groups = FrameGroups(blank, pasts=3, futures=4, gap=(2, 9), age_range=(5, 9), image_size=4, repeated_sampling=50)
    sample = groups[0]
    assert (sample["gap"].diff(dim=1) > 0).all() and (sample["age"].diff(dim=1) < 0).all()
    gaps, ages = counted(groups, "gap", 40), counted(groups, "age", 40)
    assert set(gaps) == set(range(2, 10)) and ages.pop(0) == 2000 and set(ages) == set(range(5, 10))
    assert max(abs(number - 1000) for number in gaps.values()) < 120
    assert max(abs(number - 800) for number in ages.values()) < 120
    everything = FrameGroups(blank, futures=5, gap=(4, 8), image_size=4)[3]["gap"]
    assert everything.tolist() == [[4, 5, 6, 7, 8]] * 2


@pytest.mark.parametrize("fps", [30.0, 29.97, 25.0, 15.0, 12.0])
@pytest.mark.parametrize(("gap", "oldest"), [((4, 48), 24), ((4, 47), 23), ((1, 1), 1)])
def test_the_shortest_clip_that_is_taken_holds_its_groups(blank, fps, gap, oldest):
    """Gap and age are rounded apart: together they may need a frame more than their sum does."""

    def groups(num_frames: int) -> FrameGroups:
        clip = Clip("short.mp4", VideoInfo(num_frames, fps, 4, 4))
        options = {"gap": gap, "age_range": (oldest, oldest), "image_size": 4, "repeated_sampling": 50}
        return FrameGroups([clip], pasts=2, **options)

    needed = sum(max(1, math.floor(time * fps / 30 + 0.5)) for time in (gap[1], oldest))
    with pytest.raises(UserError, match="^short.mp4: spans less than .* scan with min_seconds=[^\n]+$"):
        groups(needed)
    assert [groups(needed + 1)[index]["gap"].shape for index in range(5)] == [(50, 1)] * 5


def test_what_cannot_be_drawn_is_refused(numbered, tmp_path):
    short = scan_videos([write_numbered(tmp_path / "short.mp4", 60, preset="ultrafast")]).clips
    assert FrameGroups(short, futures=8)[0]["gap"].shape == (2, 8), "a single past needs no time before"
    with pytest.raises(UserError, match=r"short.mp4: spans less than largest gap and age; scan with min_seconds=2.433"):
        FrameGroups(short, pasts=2)
    with pytest.raises(UserError, match="6 different gaps do not lie in 4..8"):
        FrameGroups(numbered, futures=6, gap=(4, 8))
    with pytest.raises(UserError, match="3 different ages do not lie in 5..6"):
        FrameGroups(numbered, pasts=4, age_range=(5, 6))
    with pytest.raises(UserError, match="leave rotation and the like off"):
        FrameGroups(numbered, augment=Augmentation(rotation=5.0))
