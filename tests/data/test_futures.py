"""Held-out clips: gaps and ages by time, one crop for all frames of a past, what is refused."""

import itertools

import numpy as np
import pytest
import torch
from make_videos import read_number, write_frames, write_numbered

from lib.data import futures
from lib.data.clips import crop_frames, draw_crop
from lib.data.kinetics import scan_videos
from lib.data.video import read_frames
from lib.errors import UserError

SCALE = (0.1, 0.35)


@pytest.mark.parametrize("fps", [30, 15])
def test_futures_lie_at_their_gaps_by_time(tmp_path, fps, monkeypatch):
    path = write_numbered(tmp_path / "numbered.mp4", 2 * fps, fps, preset="ultrafast")
    clips = scan_videos([path]).clips
    monkeypatch.setattr(futures, "draw_crop", lambda height, width, rng, scale: (0, 0, height, width))
    found = futures.futures_of_videos(clips, (2, 8, 20), 160, SCALE, draws=4)
    assert found.past.shape == (4, 3, 160, 160) and found.future.shape == (4, 3, 3, 160, 160) and found.clips == 1
    assert found.occluded is None and found.gaps == (2, 8, 20)
    starts = set()
    for past, later in zip(found.past, found.future, strict=True):
        first, *others = (read_number(view.permute(1, 2, 0).numpy()) for view in (past, *later))
        assert [other - first for other in others] == [gap * fps // 30 for gap in (2, 8, 20)]
        starts.add(first)
    assert len(starts) > 1
    again = futures.futures_of_videos(clips, (2, 8, 20), 160, SCALE, draws=4)
    assert torch.equal(found.past, again.past) and torch.equal(found.future, again.future)


@pytest.mark.parametrize("fps", [30, 15])
def test_earlier_frames_lie_at_their_ages_by_time(tmp_path, fps, monkeypatch):
    path = write_numbered(tmp_path / "numbered.mp4", 2 * fps, fps, preset="ultrafast")
    monkeypatch.setattr(futures, "draw_crop", lambda height, width, rng, scale: (0, 0, height, width))
    clips, ages = scan_videos([path]).clips, (4, 8, 18)
    found = futures.futures_of_videos(clips, (2, 20), 160, SCALE, draws=6, ages=ages)
    assert found.earlier.shape == (6, 3, 3, 160, 160) and found.ages == ages and found.gaps == (2, 20)
    starts = set()
    for past, later, before in zip(found.past, found.future, found.earlier, strict=True):
        now, *others = (read_number(view.permute(1, 2, 0).numpy()) for view in (past, *later, *before))
        assert [(other - now) * 30 // fps for other in others] == [2, 20, -4, -8, -18]
        starts.add(now)
    assert len(starts) > 2
    with pytest.raises(UserError, match="spans less than 68 frames"):
        futures.futures_of_videos(clips, (2, 20), 160, SCALE, ages=(4, 48))
    with pytest.raises(UserError, match="must rise"):
        futures.futures_of_videos(clips, (2, 20), 160, SCALE, ages=(8, 4))


def test_without_ages_everything_is_drawn_as_it_always_was(tmp_path):
    path = write_numbered(tmp_path / "numbered.mp4", 60, preset="ultrafast")
    found = futures.futures_of_videos(scan_videos([path] * 2).clips, (4, 8), 32, SCALE, draws=2, seed=5)
    assert found.earlier.shape == (4, 0, 3, 32, 32) and found.ages == ()
    for place, (number, draw) in enumerate(itertools.product(range(2), range(2))):
        rng = np.random.default_rng([5, number, draw])
        first = int(rng.integers(60 - 8))
        box = draw_crop(64, 160, rng, SCALE)
        past, *later = crop_frames(read_frames(path, [first, first + 4, first + 8]), box, 32)
        assert torch.equal(found.past[place], past) and torch.equal(found.future[place], torch.stack(later))


def test_all_frames_of_a_past_share_a_crop(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8).repeat(60, axis=0)
    path = write_frames(tmp_path / "still.mp4", noise, 30, "libx264", preset="ultrafast", crf="1")
    found = futures.futures_of_videos(scan_videos([path]).clips, (4, 8), 32, SCALE, draws=3, ages=(4,))
    assert (found.earlier.float() - found.past[:, None].float()).abs().mean() < 3
    assert (found.future.float() - found.past[:, None].float()).abs().mean() < 3
    assert (found.past[0].float() - found.past[1].float()).abs().mean() > 10


@pytest.mark.parametrize("gaps", [(), (0, 4), (4, 4), (8, 4)])
def test_gaps_must_rise(gaps):
    with pytest.raises(UserError, match="must rise"):
        futures.checked_gaps(gaps)


def test_a_clip_that_is_too_short_is_named(tmp_path):
    path = tmp_path / "short.mp4"
    write_numbered(path, 20, 30, preset="ultrafast")
    with pytest.raises(UserError, match="short.mp4.*48"):
        futures.futures_of_videos(scan_videos([path], min_seconds=0.5).clips, (4, 48), 32, SCALE)
