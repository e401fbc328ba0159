"""Clips for recognition: which frames and which part of them, one crop for all, even views, short and broken videos."""

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from lib.data import action_clips
from lib.data.action_clips import ClipReader, TestingViews, TrainingClips, even_crops, evenly, multi_scale_crop
from lib.data.actions import ActionList, LabelledVideo
from lib.errors import UserError
from lib.training import StepBatches
from tests.make_videos import HEIGHT, WIDTH, read_number, write_frames, write_numbered

FRAMES = {"a": 61, "b": 90, "c": 20}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Numbered videos: a.mp4 just long enough for 16 frames at stride 4, b.mp4 longer, c.webm short; a broken one."""
    folder = tmp_path_factory.mktemp("clips")
    write_numbered(folder / "a.mp4", FRAMES["a"], preset="ultrafast")
    write_numbered(folder / "b.mp4", FRAMES["b"], 25, preset="ultrafast")
    write_numbered(folder / "c.webm", FRAMES["c"], 12, "libvpx-vp9", deadline="realtime")
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def listed(folder: Path, *names: str, mirrored: bool = False) -> ActionList:
    videos = tuple(LabelledVideo(folder / name, label) for label, name in enumerate(names))
    return ActionList(videos, tuple(names), mirrored)


def numbers(clip: np.ndarray | torch.Tensor) -> list[int]:
    """The numbers shown by (T, H, W, 3)."""
    return [read_number(np.asarray(frame)) for frame in clip]


def frames_of(sample: dict) -> np.ndarray:
    """(T, H, W, 3) of a dataset's (3, T, H, W)."""
    return sample["video"].permute(1, 2, 3, 0).numpy()


# --- reading ------------------------------------------------------------------------------------------------


def test_frames_are_a_stride_apart_in_the_files_own_frames(folder):
    reader = ClipReader(stride=4)
    assert reader.span == 61
    assert reader.starts(folder / "a.mp4") == 1 and reader.starts(folder / "b.mp4") == 30
    assert numbers(reader.read(folder / "b.mp4", 29)) == list(range(29, 90, 4))
    assert numbers(ClipReader(num_frames=4, stride=2).read(folder / "c.webm", 3)) == [3, 5, 7, 9]


def test_a_video_one_frame_too_short_is_named(folder, tmp_path):
    write_numbered(tmp_path / "short.mp4", 60, preset="ultrafast")
    actions = listed(tmp_path, "short.mp4")
    with pytest.raises(UserError, match=r"short.mp4: has 60 frames, a clip of 16 at stride 4 needs 61: leave it out"):
        TrainingClips(actions, ClipReader(), 32)[0]
    with pytest.raises(UserError, match="needs 61"):
        TestingViews(actions, ClipReader(), 32)[0]


def test_usable_keeps_labels_and_tells_why_others_are_skipped(folder):
    actions = listed(folder, "a.mp4", "c.webm", "b.mp4", "broken.mp4", "gone.mp4")
    usable, skipped = ClipReader().usable(actions, max_bad_fraction=0.6)
    assert [(video.path.name, video.label) for video in usable.videos] == [("a.mp4", 0), ("b.mp4", 2)]
    assert usable.classes == actions.classes and usable.mirrored == actions.mirrored
    reasons = {path.name: reason for path, reason in skipped.items()}
    assert "it has 20 frames, not 61" in reasons["c.webm"] and "cannot be decoded" in reasons["broken.mp4"]
    assert "no such file" in reasons["gone.mp4"] and all("\n" not in reason for reason in reasons.values())
    with pytest.raises(UserError, match="too few usable videos: 2 clips, 3 skipped"):
        ClipReader().usable(actions, max_bad_fraction=0.5)


def test_usable_opens_each_video_once(folder, monkeypatch):
    reader = ClipReader()
    usable, skipped = reader.usable(listed(folder, "a.mp4", "b.mp4", "c.webm"))
    monkeypatch.setattr(action_clips, "probe", lambda path: pytest.fail(f"{path} was opened"))
    assert len(usable.videos) == 2 and len(skipped) == 1 and reader.starts(folder / "b.mp4") == 30


def test_a_cached_video_is_decoded_once_and_gives_the_same_clips(folder, tmp_path, monkeypatch):
    actions = listed(folder, "a.mp4", "b.mp4", mirrored=True)
    plain = TrainingClips(actions, ClipReader(frame_size=32), 24)
    cached = TrainingClips(actions, ClipReader(frame_size=32, frame_cache=tmp_path), 24)
    first = [cached[i]["video"] for i in range(4)]
    assert all(torch.equal(clip, plain[i]["video"]) for i, clip in enumerate(first))
    assert len(list(tmp_path.glob("*.npy"))) == 2
    monkeypatch.setattr("lib.data.clips.read_frames", lambda *_: pytest.fail("decoded again"))
    assert all(torch.equal(clip, cached[i]["video"]) for i, clip in enumerate(first))


# --- training -----------------------------------------------------------------------------------------------


def test_a_sample_has_the_shape_label_and_stride_it_should(folder):
    clips = TrainingClips(listed(folder, "a.mp4", "b.mp4"), ClipReader(), 40)
    sample = clips[1]
    assert sample["video"].shape == (3, 16, 40, 40) and sample["video"].dtype == torch.uint8
    assert sample["video"].is_contiguous() and sample["label"].dtype == torch.int64 and sample["label"] == 1


def test_starts_are_drawn_from_every_place_where_the_clip_fits(folder, monkeypatch):
    seen = []
    monkeypatch.setattr(
        ClipReader, "read", lambda self, path, start: (seen.append(start), np.zeros((16, 8, 8, 3), "u1"))[1]
    )
    clips = TrainingClips(listed(folder, "b.mp4"), ClipReader(), 8)
    for i in range(600):
        clips[i]
    counts = Counter(seen)
    assert set(counts) == set(range(30)) and max(counts.values()) < 45  # 20 each on average


def test_a_sample_is_a_function_of_seed_and_index(folder):
    clips, again, other = (
        TrainingClips(listed(folder, "b.mp4"), ClipReader(), 32, (0.3, 1.0), seed=seed) for seed in (0, 0, 1)
    )
    samples = [clips[i]["video"] for i in range(6)]
    assert all(torch.equal(sample, again[i]["video"]) for i, sample in reversed(list(enumerate(samples))))
    assert len({sample.numpy().tobytes() for sample in samples}) == 6
    assert any(not torch.equal(sample, other[i]["video"]) for i, sample in enumerate(samples))


def stripes(path: Path) -> Path:
    """A still picture that differs in every place: x in red, y in green; blue marks the left half."""
    y, x = np.mgrid[:64, :96]
    picture = np.stack([x * 2, y * 3, (x < 48) * 255], axis=-1).astype(np.uint8)
    return write_frames(path, np.repeat(picture[None], 61, axis=0), 30, "libx264", crf="1", preset="ultrafast")


@pytest.mark.parametrize("crop_area", [None, (0.3, 1.0)])
def test_all_frames_of_a_clip_share_crop_and_flip(tmp_path, crop_area):
    stripes(tmp_path / "still.mp4")
    flips = []
    for mirrored in (True, False):
        clips = TrainingClips(listed(tmp_path, "still.mp4", mirrored=mirrored), ClipReader(), 32, crop_area)
        for i in range(12):
            video = clips[i]["video"].int()
            assert (video - video[:, :1]).abs().max() <= 6  # the coding of a still picture, no other crop
            flips.append((mirrored, bool(video[0, :, :, -1].sum() < video[0, :, :, 0].sum())))
    assert {flip for mirrored, flip in flips if mirrored} == {True, False}
    assert not any(flip for mirrored, flip in flips if not mirrored)


def test_augment_gets_whole_frames_before_the_crop(folder):
    seen = []

    def augment(frames, rng):
        seen.append((frames.shape, rng.random()))
        return np.full_like(frames, 7)

    clips = TrainingClips(listed(folder, "a.mp4"), ClipReader(), 32, augment=augment)
    assert (clips[0]["video"] == 7).all() and (clips[0]["video"] == 7).all()
    assert seen[0][0] == (16, HEIGHT, WIDTH, 3) and seen[0] == seen[1]


def test_a_loader_of_steps_gives_batches_that_models_take(folder):
    clips = TrainingClips(listed(folder, "a.mp4", "b.mp4"), ClipReader(num_frames=4), 16)
    batches = list(DataLoader(clips, batch_sampler=StepBatches(len(clips), 2, 3)))
    assert len(batches) == 3 and batches[0]["video"].shape == (2, 3, 4, 16, 16)
    assert all(sorted(batch["label"].tolist()) == [0, 1] for batch in batches)


def test_datasets_go_to_worker_processes(folder):
    clips = TrainingClips(listed(folder, "a.mp4"), ClipReader(num_frames=2), 16)
    assert torch.equal(pickle.loads(pickle.dumps(clips))[0]["video"], clips[0]["video"])


# --- crops --------------------------------------------------------------------------------------------------


def published_boxes(height: int, width: int, size: int) -> set[tuple]:
    """Every box of MultiScaleCrop, spelled out: four scales of the short side, at most one apart, in 13 places."""
    sides = []
    for scale in (1, 0.875, 0.75, 0.66):
        side = int(min(height, width) * scale)
        sides.append(size if size - 3 < side < size + 3 else side)
    boxes = set()
    for i in range(4):
        for j in range(4):
            if j in (i - 1, i, i + 1):
                h, w = sides[i], sides[j]
                down, right = (height - h) // 4, (width - w) // 4
                for y, x in [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2), (2, 0), (2, 4), (4, 2), (0, 2)]:
                    boxes.add((y * down, x * right, h, w))
                for y, x in [(1, 1), (1, 3), (3, 1), (3, 3)]:
                    boxes.add((y * down, x * right, h, w))
    return boxes


@pytest.mark.parametrize(("height", "width", "size"), [(320, 426, 224), (256, 340, 224), (320, 320, 224), (48, 64, 32)])
def test_multi_scale_crop_draws_the_published_boxes_and_no_other(height, width, size):
    rng = np.random.default_rng(0)
    drawn = {multi_scale_crop(height, width, size, rng) for _ in range(8000)}
    assert drawn == published_boxes(height, width, size)
    if height == 256:  # 256 * 0.875 is 224 already; no side is left within 2 pixels of it but not equal
        assert {h for _, _, h, _ in drawn} == {256, 224, 192, 168}


def test_a_side_within_two_pixels_becomes_the_size_if_the_picture_has_it():
    rng = np.random.default_rng(0)
    sides = lambda height: {multi_scale_crop(height, 400, 224, rng)[2] for _ in range(200)}  # noqa: E731
    assert sides(226) == {224, 197, 169, 149}
    assert sides(223) == {223, 195, 167, 147}  # 224 would reach beyond the picture


@given(st.integers(8, 400), st.integers(8, 400), st.integers(8, 300), st.integers(0, 2**32))
def test_multi_scale_crops_lie_within_the_picture(height, width, size, seed):
    top, left, h, w = multi_scale_crop(height, width, size, np.random.default_rng(seed))
    assert 0 <= top <= top + h <= height and 0 <= left <= left + w <= width and min(h, w) > 0


def test_even_places_by_hand():
    assert evenly(10, 1) == [5] and evenly(10, 2) == [0, 10] and evenly(9, 3) == [0, 5, 9]
    assert evenly(0, 3) == [0, 0, 0] and evenly(29, 5) == [0, 7, 15, 22, 29]
    assert even_crops(48, 64, 3) == [(0, 0, 48, 48), (0, 8, 48, 48), (0, 16, 48, 48)]
    assert even_crops(64, 48, 2) == [(0, 0, 48, 48), (16, 0, 48, 48)]
    assert even_crops(48, 64, 1) == [(0, 8, 48, 48)]


@given(st.integers(0, 10**6), st.integers(2, 12))
def test_even_places_reach_both_ends_with_equal_steps(room, count):
    places = evenly(room, count)
    steps = np.diff(places)
    assert places[0] == 0 and places[-1] == room and steps.max() - steps.min() <= 1


# --- testing ------------------------------------------------------------------------------------------------


def test_views_of_a_video_are_neighbours_and_cover_its_length(folder, monkeypatch):
    views = TestingViews(listed(folder, "a.mp4", "b.mp4"), ClipReader(), HEIGHT, clips=2, crops=3)
    assert len(views) == 12 and views.views == 6
    assert [int(views[i]["label"]) for i in range(12)] == [0] * 6 + [1] * 6
    starts, frames = [], ClipReader().read(folder / "b.mp4", 29)
    read = ClipReader.read
    monkeypatch.setattr(ClipReader, "read", lambda self, path, at: starts.append(at) or read(self, path, at))
    crops = [frames_of(views[i]) for i in range(6, 12)]
    assert starts == [0, 0, 0, 29, 29, 29]
    for crop, left in zip(crops[3:], (0, (WIDTH - HEIGHT) // 2, WIDTH - HEIGHT), strict=True):
        np.testing.assert_array_equal(crop, frames[:, :, left : left + HEIGHT])


def test_crops_show_the_two_ends_of_the_long_side(tmp_path):
    stripes(tmp_path / "still.mp4")
    views = TestingViews(listed(tmp_path, "still.mp4"), ClipReader(), 64, clips=1, crops=3)
    red = [views[i]["video"][0].float().mean(dim=(0, 1)) for i in range(3)]
    expected = torch.arange(96) * 2.0
    for crop, start in zip(red, (0, 16, 32), strict=True):
        torch.testing.assert_close(crop, expected[start : start + 64], rtol=0, atol=6)


def test_views_are_the_same_each_time_and_end(folder):
    views = TestingViews(listed(folder, "a.mp4"), ClipReader(num_frames=2), 16, clips=2, crops=1)
    assert torch.equal(views[1]["video"], views[1]["video"])
    assert len(list(views)) == 2
    with pytest.raises(IndexError, match="view 2 of 2"):
        views[2]


def test_real_videos_give_clips(real_data):
    paths = sorted((real_data / "kinetics400" / "videos").glob("*.mp4"))[:2]
    actions = ActionList(tuple(LabelledVideo(path, i) for i, path in enumerate(paths)), ("x", "y"), True)
    reader = ClipReader(frame_size=64)
    usable, _ = reader.usable(actions)
    sample = TrainingClips(usable, reader, 56)[0]
    assert sample["video"].shape == (3, 16, 56, 56) and sample["video"].float().std() > 5
