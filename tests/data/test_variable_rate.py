"""Videos whose frames come at unequal times: spans, gaps, ages and clips are by time, whatever the container."""

from fractions import Fraction

import av
import numpy as np
import pytest
from make_videos import HEIGHT, WIDTH, numbered_frame, read_number

from lib.data import futures
from lib.data.clips import FramePairs, frames_at
from lib.data.frame_clips import EvenWindows, FrameReader, LabelledClips
from lib.data.frame_groups import FrameGroups
from lib.data.kinetics import scan_videos
from lib.data.video import Clip, VideoInfo, probe
from lib.errors import UserError

RNG = np.random.default_rng(0)
TIMES = {  # milliseconds
    "half and half": [round(i * 1000 / 60) for i in range(150)] + [2500 + i * 100 for i in range(40)],
    "telephone": np.cumsum([0, *RNG.choice([33, 33, 34, 50, 67], 199)]).tolist(),
    "screen": np.cumsum([0, *RNG.choice([17, 17, 17, 500, 1200], 99)]).tolist(),
    "long first frame": [0] + [20_000 + round(i * 1000 / 30) for i in range(99)],
}
CONTAINERS = {"mp4": "libx264", "mkv": "libx264", "webm": "libvpx"}


@pytest.fixture(scope="module", params=[(name, suffix) for name in TIMES for suffix in CONTAINERS], ids="-".join)
def clip(request, tmp_path_factory) -> tuple[Clip, np.ndarray]:
    """A clip, and when its frames are shown in seconds."""
    name, suffix = request.param
    path, times = tmp_path_factory.mktemp("unsteady") / f"a.{suffix}", TIMES[name]
    options = {"bf": "2", "preset": "ultrafast"} if suffix != "webm" else {"deadline": "realtime", "cpu-used": "8"}
    with av.open(str(path), "w") as out:
        stream = out.add_stream(CONTAINERS[suffix], rate=30, options=options)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
            frame.pts, frame.time_base = int(time), Fraction(1, 1000)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return Clip(path, probe(path)), np.array(times) / 1000


def test_spans_and_times_are_those_of_the_file(clip):
    found, times = clip
    assert found.info.num_frames == len(times)
    assert found.info.span_seconds == pytest.approx(times[-1], abs=2e-3)
    np.testing.assert_allclose(found.info.times, times, atol=2e-3)
    assert found.info.fps == pytest.approx((len(times) - 1) / times[-1], rel=1e-2)


def nearest(times: np.ndarray, time: float) -> float:
    """How far off the nearest frame is."""
    return np.abs(times - time).min()


def test_pairs_are_as_far_apart_as_they_say_and_as_was_asked(clip):
    found, times = clip
    assert scan_videos([found.path]).clips == [found]
    pairs = FramePairs([found], image_size=32, repeated_sampling=8)
    gaps = []
    for index in range(10):
        sample, cuts = pairs.sample(index)
        for told, cut in zip(sample["gap"].tolist(), cuts, strict=True):
            gap = (times[cut.second] - times[cut.first]) * 30
            assert cut.first < cut.second and told == pytest.approx(gap, abs=0.1)
            gaps.append(gap)
            asked = [g for g in range(4, 49) if abs(gap - g) / 30 <= nearest(times, times[cut.first] + g / 30) + 2e-3]
            assert asked, "the frame is the nearest to some gap"
    assert max(gaps) - min(gaps) > 20


def test_groups_and_held_out_futures_are_by_time(clip, monkeypatch):
    found, times = clip
    groups = FrameGroups([found], pasts=2, futures=3, repeated_sampling=4, image_size=160, crop_scale=(1.0, 1.0))
    sample = groups[0]
    assert (sample["age"][:, 0] > 0).all() and (sample["gap"].diff(dim=1) >= 0).all()
    monkeypatch.setattr(futures, "draw_crop", lambda height, width, rng, scale: (0, 0, height, width))
    held = futures.futures_of_videos([found], (8, 40), 160, (1.0, 1.0), draws=4)
    for past, later in zip(held.past, held.future, strict=True):
        now, *others = (read_number(view.permute(1, 2, 0).numpy()) for view in (past, *later))
        for gap, other in zip((8, 40), others, strict=True):
            at = times[now] + gap / 30
            assert now < other and abs(times[other] - at) <= nearest(times, at) + 2e-3


def test_frames_at_a_rate_are_those_shown_then(clip):
    found, times = clip
    rate = min(10.0, found.info.fps)
    reader = FrameReader(6, (HEIGHT, WIDTH))
    windows = EvenWindows(LabelledClips([found], [0], ("any",)), reader, rate, windows=3)
    for index in range(3):
        _, start = windows.place(index)
        numbers = [read_number(f.permute(1, 2, 0).numpy()) for f in windows[index]["video"].transpose(0, 1)]
        for step, number in enumerate(numbers):
            at = times[start] + step / rate
            assert abs(times[number] - at) <= nearest(times, at) + 2e-3
    assert times[windows.place(2)[1]] + 5 / rate <= times[-1] + 2e-3


def test_a_video_none_of_whose_frames_are_near_the_gap_is_left_out(tmp_path):
    sparse = VideoInfo(3, 0.1, 64, 160, (0.0, 20.0, 20.5))
    assert not sparse.reaches(48 / 30) and sparse.reaches(0.5) and len(frames_at(sparse, [0, 48])) == 0
    with pytest.raises(UserError, match="spans less than the largest gap"):
        FramePairs([Clip(tmp_path / "a.mp4", sparse)])


def test_steady_times_are_kept_as_a_rate():
    steady, listed = VideoInfo(60, 30.0, 1, 1), VideoInfo(60, 30.0, 1, 1, tuple(i / 30 for i in range(60)))
    for gaps in ([0, 8], [-12, 0, 4, 40], [0, 0]):
        np.testing.assert_array_equal(frames_at(steady, gaps), frames_at(listed, gaps))
    np.testing.assert_array_equal(steady.nearest(np.array([0.1, 0.5])), listed.nearest(np.array([0.1, 0.5])))
