"""Clips of whole frames: every picture carries its number, so a wrong frame cannot pass."""

from pathlib import Path

import numpy as np
import pytest
import torch

from lib.data.actions import ActionList, LabelledVideo, list_ucf101
from lib.data.frame_clips import EvenWindows, FrameClips, FrameReader
from lib.errors import UserError
from lib.toyworld import ToyWorldOptions, ensure_toy_world
from tests.make_videos import read_number, write_numbered

SIZE = (32, 96)


@pytest.fixture(scope="module")
def actions(tmp_path_factory) -> ActionList:
    """AVI with B-frames, as UCF101's are, an MP4 of another rate, and one that is too short."""
    folder = tmp_path_factory.mktemp("clips")
    avi = write_numbered(folder / "a.avi", 60, 25, "mpeg4", bf="2", g="12", b="2000k")
    mp4 = write_numbered(folder / "b.mp4", 40, 30, bf="3")
    short = write_numbered(folder / "c.mp4", 9, 30)
    return ActionList(
        tuple(LabelledVideo(path, label) for label, path in enumerate((avi, mp4, short))), ("x", "y", "z")
    )


def numbers(video: torch.Tensor) -> list[int]:
    return [read_number(frame.permute(1, 2, 0).numpy()) for frame in video.transpose(0, 1)]


def upright(video: torch.Tensor) -> list[int]:
    """The numbers, mirrored or not: seen in a mirror they do not rise by a few."""
    found = numbers(video)
    return found if (np.diff(found) > 0).all() and (np.diff(found) < 10).all() else numbers(video.flip(-1))


def usable(actions: ActionList, frames: int = 6, fps: float = 10, **more):
    return FrameReader(frames, SIZE, **more), FrameReader(frames, SIZE, **more).usable(actions, fps)


def test_frames_are_the_nearest_in_time(actions):
    reader, videos = usable(actions)
    avi, mp4 = videos.clips
    assert numbers(reader.read(avi, 7, 25)) == [7, 8, 9, 10, 11, 12]
    assert numbers(reader.read(avi, 7, 10)) == [7, 10, 12, 15, 17, 20]  # 2.5 frames apart, halves up
    assert numbers(reader.read(mp4, 3, 10)) == [3, 6, 9, 12, 15, 18]
    assert reader.read(mp4, 0, 10).shape == (3, 6, *SIZE)


def test_the_rate_falls_with_the_epochs(actions):
    reader, videos = usable(actions)
    clips = FrameClips(videos, reader, fps=(25, 15, 10), fps_epochs=2)
    for epoch, steps in enumerate([5, 5, 8, 8, 12, 12, 12]):
        frames = upright(clips[2 * epoch]["video"])
        assert frames[-1] - frames[0] in (steps, steps + 1)  # of the AVI's 25 a second


def test_samples_are_a_function_of_seed_and_index_and_every_place_is_drawn(actions):
    reader, videos = usable(actions)
    clips, others = (FrameClips(videos, reader, (10,), seed=seed) for seed in (0, 1))
    assert torch.equal(clips[5]["video"], clips[5]["video"])
    assert not torch.equal(clips[5]["video"], others[5]["video"])
    starts, mirrored = set(), 0
    for index in range(1, 240, 2):
        video = clips[index]["video"]
        mirrored += upright(video) != numbers(video)
        starts.add(upright(video)[0])
    assert starts == set(range(40 - 15)) and 30 < mirrored < 90


def test_even_windows_reach_from_end_to_end(actions):
    reader, videos = usable(actions)
    windows = EvenWindows(videos, reader, 10, windows=3)
    assert [windows.place(number) for number in range(6)] == [(0, 0), (0, 23), (0, 46), (1, 0), (1, 12), (1, 24)]
    assert [numbers(windows[number]["video"])[0] for number in range(6)] == [0, 23, 46, 0, 12, 24]
    few = EvenWindows(videos, reader, 10, windows=3, only=2)
    assert [few.place(number) for number in range(3)] == [(0, 0), (1, 24), (0, 0)]  # and on, for training
    assert len({part.identity for part in (windows, few)}) == 2


def test_short_videos_are_skipped_with_a_reason(actions):
    _, videos = usable(actions)
    assert [clip.path.name for clip in videos.clips] == ["a.avi", "b.mp4"] and videos.labels == [0, 1]
    (reason,) = videos.skipped.values()
    assert "too short" in reason


def test_the_cache_gives_the_same_frames(actions, tmp_path):
    reader, videos = usable(actions)
    cached = FrameReader(6, SIZE, tmp_path / "frames")
    for _ in range(2):
        assert torch.equal(cached.read(videos.clips[0], 3, 15), reader.read(videos.clips[0], 3, 15))
    assert len(list((tmp_path / "frames").glob("*.npy"))) == 1


def test_what_cannot_be_read_is_told_before_any_work(actions):
    reader, videos = usable(actions)
    with pytest.raises(UserError, match=r"a.avi: has 25 frames a second, not 30: lower the fps"):
        EvenWindows(videos, reader, 30)[0]
    with pytest.raises(UserError, match=r"b.mp4: spans 1.30 s, a clip of 6 at 3 fps needs 1.67 s"):
        FrameClips(videos, reader, (3,))
    with pytest.raises(UserError, match=r"9 of 6 clips"):
        EvenWindows(videos, reader, 10, windows=3, only=9)


def test_toy_ucf101(tmp_path_factory):
    world = ensure_toy_world(
        tmp_path_factory.mktemp("toy") / "world", ToyWorldOptions(datasets=("ucf101",), height=48, width=64), workers=1
    )
    actions = list_ucf101(world / "ucf101")
    reader = FrameReader(6, (32, 32))
    sample = EvenWindows(reader.usable(actions, 10), reader, 10)[1]
    assert sample["video"].shape == (3, 6, 32, 32) and sample["label"].item() == actions.videos[1].label
    frames = sample["video"].float()
    assert (frames[:, 1:] - frames[:, :-1]).abs().mean() > 0.1  # it moves


def test_real_clips_of_both_sets(real_data):
    from lib.studies.ladder_data import list_videos

    for name, folder in (("jhmdb_actions", "ReCompress_Videos"), ("ucf101", "UCF-101")):
        paths = sorted(Path(real_data / name / folder).glob("*/*.avi"))[::20]
        if not paths:
            pytest.skip(f"no {name} in the real data")
        actions = ActionList(tuple(LabelledVideo(path, 0) for path in paths), ("any",))
        reader = FrameReader(6, (64, 64))
        videos = reader.usable(actions, 10, max_bad_fraction=0)
        for number, clip in enumerate(videos.clips):
            last = EvenWindows(videos, reader, 10, windows=2)[2 * number + 1]["video"]
            assert last.shape == (3, 6, 64, 64) and last.float().std() > 1, clip.path
    train, test, outlines = list_videos(real_data / "jhmdb_actions")
    clip = reader.usable(ActionList(test.videos[:1], test.classes), 10).clips[0]
    shown = outlines(clip.path)
    assert shown.shape == (clip.info.num_frames, clip.info.height, clip.info.width)
    assert 0.01 < np.mean(shown) < 0.6 and train.classes == test.classes
