"""Keyframes as runs, and frames that are read by jumping to one."""

import ctypes
import gc

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_videos import read_number, write_numbered

from lib.data import video
from lib.data.decoding import iter_frames
from lib.data.jumps import Run, from_text, keyframe_before, runs_of, to_text
from lib.data.video import probe, read_frames


def test_even_keyframes_are_one_run():
    assert runs_of([(0, -2), (4, 6), (8, 14), (12, 22)]) == (Run(0, -2, 4, 8, 4),)
    assert runs_of([(0, 0), (5, 5), (10, 11)]) == (Run(0, 0, 5, 5, 2), Run(10, 11))
    assert runs_of([]) == () and runs_of([(0, 7)]) == (Run(0, 7),)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), max_size=30), st.integers(-9, 9))
def test_runs_tell_each_keyframe_and_the_one_before_each_frame(steps, start):
    numbers, stamps = (np.cumsum([first, *(step[k] for step in steps)]).tolist() for k, first in enumerate((0, start)))
    keyframes = list(zip(numbers, stamps, strict=True))
    runs = runs_of(keyframes)
    assert from_text(to_text(runs)) == runs and len(runs) <= len(keyframes)
    for number in range(numbers[-1] + 5):
        assert keyframe_before(runs, number) == max(key for key in keyframes if key[0] <= number)


@pytest.mark.parametrize("text", ["1", "1:2", "0:0:0:0:1", "a:0:1:1:1", "0:0:1:1:1:1"])
def test_text_that_tells_no_runs_is_refused(text):
    with pytest.raises(ValueError, match="."):
        from_text(text)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("usual", "libx264", {"preset": "medium"}),
        ("pyramid of B-frames", "libx264", {"g": "40", "bf": "5", "b-pyramid": "normal"}),
        ("groups of three", "libx264", {"g": "3", "keyint_min": "3", "preset": "veryfast"}),
        ("keyframes alone", "libx264", {"g": "1", "tune": "fastdecode"}),
        ("hevc", "libx265", {"x265-params": "log-level=none:keyint=20:open-gop=0"}),
    ],
)
def test_frames_after_a_jump_are_those_of_decoding_from_the_start(tmp_path, monkeypatch, name, codec, options):
    path = write_numbered(tmp_path / "a.mp4", 90, codec=codec, **options)
    info, whole = probe(path), np.stack(list(iter_frames(path, range(90))))
    assert info.jumps
    monkeypatch.setattr(video, "iter_frames", lambda *_: pytest.fail("decoded from the start"))
    rng = np.random.default_rng(0)
    for wanted in ([0], [89], [88, 3, 3, 41], *(rng.integers(0, 90, 4).tolist() for _ in range(20))):
        assert np.array_equal(read_frames(path, wanted, info=info), whole[wanted]), wanted


def test_a_file_that_the_manifest_knows_is_opened_once(tmp_path, monkeypatch):
    path, opened = write_numbered(tmp_path / "a.mp4", 60), []
    info = probe(path)

    def counted(name):
        opened.append(name)
        return real(name)

    real = video.opened
    monkeypatch.setattr(video, "opened", counted)
    monkeypatch.setattr(video, "iter_frames", lambda *_: pytest.fail("decoded from the start"))
    read_frames(path, [50, 7], info=info)
    assert opened == [path]


def test_a_codec_whose_keyframes_containers_get_wrong_is_read_from_the_start(tmp_path):
    path = write_numbered(tmp_path / "a.mp4", 40, codec="mpeg4", g="12")
    assert probe(path).jumps == () and read_number(read_frames(path, [33], info=probe(path))[0]) == 33


def test_points_of_recovery_are_no_keyframes(tmp_path):
    """Intra refresh: the container calls pictures keyframes that only in time become whole."""
    path = write_numbered(tmp_path / "a.mp4", 90, **{"x264-params": "intra-refresh=1:keyint=20:bframes=0"})
    info, whole = probe(path), np.stack(list(iter_frames(path, range(90))))
    for number in range(90):
        assert np.array_equal(read_frames(path, [number], info=info)[0], whole[number]), number


def test_jumps_that_lead_nowhere_do_no_harm(tmp_path):
    """The frame is found from the start."""
    path = write_numbered(tmp_path / "a.mp4", 60)
    other = write_numbered(tmp_path / "b.mp4", 60, 25, g="7", keyint_min="7")
    assert np.array_equal(read_frames(path, [33], info=probe(other)), read_frames(path, [33]))


def test_pictures_that_were_read_do_not_pile_up(tmp_path):
    """Whoever reads on holds one frame at a time, whether or not Python looks for cycles."""
    path = write_numbered(tmp_path / "a.mp4", 60, preset="ultrafast")
    info, alive = probe(path), []
    gc.collect()
    gc.disable()
    try:
        before = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
        read_frames(path, [50], info=info)
        for _ in iter_frames(path, range(60)):
            pass
        alive = [thing for thing in gc.get_objects() if type(thing) is av.VideoFrame]
    finally:
        gc.enable()
    assert len(alive) <= before + 1


def in_use() -> int:
    """Bytes that the C library has given out; skips the test where it cannot say."""

    class Info(ctypes.Structure):
        _fields_ = [(f"field{number}", ctypes.c_size_t) for number in range(10)]  # of glibc's mallinfo2

    ask = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if ask is None:
        pytest.skip("the C library is not glibc of 2.33 or newer")
    ask.restype = Info
    gc.collect()
    return ask().field7


def test_reading_leaves_nothing_behind(tmp_path):
    """Of a demuxer that nobody closes PyAV leaks what holds it: 0.3 KB a jump, and a training jumps for each sample."""
    path = write_numbered(tmp_path / "a.mp4", 60, g="4", preset="ultrafast")
    info, before = probe(path), 0
    for rounds in (50, 400):
        before = in_use()
        for _ in range(rounds):
            read_frames(path, [3, 20, 40, 50], info=info)
            next(iter_frames(path, [1]))
    assert (in_use() - before) / 400 < 300, "bytes a read"
