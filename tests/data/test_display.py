"""How players turn, stretch and choose pictures: tilts, pixels that are not square, covers, several streams."""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from lib.data.video import probe, read_frames
from lib.errors import UserError
from tests.make_videos import HEIGHT, WIDTH, numbered_frame, read_number, with_matrix, write_numbered


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return write_numbered(tmp_path_factory.mktemp("plain") / "plain.mp4", 12, preset="ultrafast")


@pytest.mark.parametrize("degrees", [0.5, -0.7, 90.6, 179.4])
def test_a_tilt_of_less_than_a_degree_is_none(plain, tmp_path, degrees):
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    path = with_matrix(plain, tmp_path / "a.mp4", cos, sin, -sin, cos)
    picture = np.rot90(read_frames(path, [5])[0], round(degrees / 90))
    assert read_number(picture) == 5 and picture.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("degrees", [2, -5, 45, 85, 95, 190])
def test_a_tilt_is_refused_not_rounded(plain, tmp_path, degrees):
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    path = with_matrix(plain, tmp_path / "a.mp4", cos, sin, -sin, cos)
    for read in (probe, lambda path: read_frames(path, [0])):
        with pytest.raises(UserError, match=r"a.mp4: is to be shown tilted by \d+ degrees; convert it"):
            read(path)


def test_a_matrix_of_zeros_tells_nothing(plain, tmp_path):
    assert read_number(read_frames(with_matrix(plain, tmp_path / "a.mp4", 0, 0, 0, 0), [7])[0]) == 7


@pytest.mark.parametrize("container", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize("aspect", [Fraction(4, 3), Fraction(1, 2), Fraction(1), Fraction(400, 401)])
def test_pixels_that_are_not_square_are_stretched_in_width(tmp_path, container, aspect):
    path = tmp_path / f"a.{container}"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4" if container == "avi" else "libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        for number in range(4):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")))
        out.mux(stream.encode())
    info, frames = probe(path), read_frames(path, [3, 1])
    wide = WIDTH if aspect == Fraction(400, 401) else round(WIDTH * aspect)  # so nearly square is square
    assert (info.height, info.width) == frames.shape[1:3] == (HEIGHT, wide)
    assert [read_number(frame) for frame in frames] == [3, 1]
    small = min(HEIGHT, wide) // 2
    expected = (small, round(wide / HEIGHT * small)) if wide >= HEIGHT else (round(HEIGHT / wide * small), small)
    assert read_frames(path, [2], small).shape[1:3] == expected


def write_streams(path: Path, *streams: tuple[int, Disposition, int]) -> Path:
    """Several pictures in one file: each (added to its numbers, disposition, size as a part of the full one)."""
    with av.open(str(path), "w") as out:
        made = []
        for more, disposition, part in streams:
            stream = out.add_stream("libx264", rate=30, options={"qp": "2" if more else "30"})
            stream.width, stream.height, stream.pix_fmt = WIDTH // part, HEIGHT // part, "yuv420p"
            stream.disposition = disposition.value
            made.append((stream, more, part))
        for number in range(20):
            for stream, more, part in made:
                picture = np.ascontiguousarray(numbered_frame(number + more)[::part, ::part])
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        for stream, _, _ in made:
            out.mux(stream.encode())
    return path


@pytest.mark.parametrize("container", ["mp4", "mkv"])
@pytest.mark.parametrize("main", [0, 1, 2])
def test_the_default_of_several_streams_is_read(tmp_path, container, main):
    kinds = [(100 * n, Disposition.default if n == main else Disposition(0), 2 if n == 1 else 1) for n in range(3)]
    path = write_streams(tmp_path / f"a.{container}", *kinds)
    info = probe(path)
    assert (info.num_frames, info.height) == (20, HEIGHT // kinds[main][2])
    assert [read_number(frame) for frame in read_frames(path, [13, 2])] == [13 + 100 * main, 2 + 100 * main]


@pytest.mark.parametrize("film", [True, False])
def test_a_cover_picture_is_no_video(tmp_path, film):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("mjpeg", rate=30), *([out.add_stream("libx264", rate=30)] if film else [])]
        for stream in streams:
            stream.width, stream.height = WIDTH, HEIGHT
            stream.pix_fmt = "yuvj420p" if stream is streams[0] else "yuv420p"
        streams[0].disposition = Disposition.attached_pic.value
        for stream, numbers in zip(streams, ([99], range(20)), strict=False):
            for number in numbers:
                out.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")))
            out.mux(stream.encode())
    if film:
        assert [read_number(frame) for frame in read_frames(path, [13, 2])] == [13, 2]
    else:
        with pytest.raises(UserError, match="a.mp4: holds no video"):
            probe(path)


def test_av1_is_read(tmp_path, capfd):
    path = write_numbered(tmp_path / "a.mp4", 40, codec="libsvtav1", preset="12", crf="30")
    assert probe(path).num_frames == 40
    assert [read_number(frame) for frame in read_frames(path, [39, 0, 20, 19])] == [39, 0, 20, 19]
    assert [read_number(frame) for frame in read_frames(path, [39, 0], 32)] == [39, 0]


NAMES = [
    b"caf\xe9.mp4",
    b"a:b.mp4",
    b"-dash.mp4",
    b"%03d.mp4",
    b"http:x.mp4",
    b"concat:a|b.mp4",
    b"new\nline.mp4",
    b" a.mp4",
]


@pytest.mark.parametrize("name", NAMES)
def test_any_file_name_is_read_also_from_its_own_folder(plain, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = Path(os.fsdecode(name))
    path.write_bytes(plain.read_bytes())
    for place in (path, tmp_path / path):
        assert probe(place).num_frames == 12 and read_number(read_frames(place, [7])[0]) == 7
    path.write_bytes(b"no video")
    with pytest.raises(UserError) as caught:
        probe(path)
    assert "\n" not in str(caught.value) and str(caught.value).encode()
