"""Frame reading: every picture carries its number, so a wrong frame cannot pass."""

import os
from pathlib import Path

import av
import numpy as np
import pytest

import make
from lib.data.jhmdb import read_outlines
from lib.data.video import VideoInfo, probe, read_frames
from lib.errors import UserError
from tests.make_videos import HEIGHT, WIDTH, read_number, write_frames, write_numbered

T = 90
REAL = Path(os.environ.get("SIAMMAE_REAL_DATA", make.ROOT.parent / "shared" / "data"))
try:
    import decord
except ImportError:  # no wheel for this machine
    decord = None
needs_decord = pytest.mark.skipif(decord is None, reason="decord is not installed")
KINDS = {
    "b_frames.mp4": {"bf": "3", "g": "24"},
    "long_group.mp4": {"bf": "3", "g": "600"},
    "open_group.mp4": {"x264-params": "open-gop=1:bframes=3:keyint=24:min-keyint=24"},
    "b_frames.avi": {"codec": "mpeg4", "bf": "2", "g": "12", "b": "2000k"},
    "vp9.webm": {"codec": "libvpx-vp9", "b": "1M", "g": "30", "deadline": "realtime", "cpu-used": "8"},
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """A folder with one numbered video of each kind, and one whose edit list hides its first 30 frames."""
    folder = tmp_path_factory.mktemp("videos")
    for name, options in KINDS.items():
        write_numbered(folder / name, T, **options)
    write_with_edit_list(folder / "long_group.mp4", folder / "edit_list.mp4", hidden=30)
    return folder


def write_with_edit_list(source: Path, target: Path, hidden: int) -> None:
    """Cut without encoding anew: frames before the cut stay in the file but are not shown."""
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(source)) as old, av.open(str(target), "w", options=options) as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        shift = round(hidden / (stream.average_rate * stream.time_base))
        for packet in old.demux(stream):
            if packet.dts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, copy
                new.mux(packet)


@pytest.mark.parametrize("short_side", [None, HEIGHT // 2])
@pytest.mark.parametrize("name", KINDS)
def test_any_order_and_duplicates_give_the_asked_frames(videos, name, short_side):
    shuffled = np.random.default_rng(0).permutation(T).tolist()
    for indices in (shuffled, [T - 1, 0, 0, T - 1], [47]):
        frames = read_frames(videos / name, indices, short_side)
        assert [read_number(frame) for frame in frames] == indices
        scale = 1 if short_side is None else 0.5
        assert frames.shape == (len(indices), HEIGHT * scale, WIDTH * scale, 3) and frames.dtype == np.uint8


@pytest.mark.parametrize("name", KINDS)
def test_probe_counts_what_decodes(videos, name):
    assert probe(videos / name) == VideoInfo(T, 30.0, HEIGHT, WIDTH)
    assert probe(videos / name).span_seconds == (T - 1) / 30


@needs_decord
@pytest.mark.parametrize("name", ["open_group.mp4", "b_frames.avi", "edit_list.mp4"])
def test_decord_alone_would_show_wrong_frames(videos, name):
    """The reason to do without it. When decord is cured, this fails."""
    reader = decord.VideoReader(str(videos / name), num_threads=1)
    order = np.random.default_rng(0).permutation(T)
    numbers = [read_number(frame) for frame in reader.get_batch(order).asnumpy()]
    assert numbers != order.tolist() or len(reader) != probe(videos / name).num_frames


def test_hidden_frames_of_an_edit_list_do_not_count(videos):
    path = videos / "edit_list.mp4"
    assert probe(path).num_frames == T - 30
    assert [read_number(frame) for frame in read_frames(path, [5, 0, T - 31])] == [35, 30, T - 1]


@needs_decord
@pytest.mark.parametrize(("short_side", "off"), [(None, 0), (24, 0.5)])
@pytest.mark.parametrize("name", ["b_frames.mp4", "long_group.mp4"])
def test_another_decoder_shows_the_same(videos, name, short_side, off):
    """decord jumps by its own code; it scales by other code, too."""
    indices, size = [80, 3, 41, 42], {} if short_side is None else {"height": 24, "width": 60}
    theirs = decord.VideoReader(str(videos / name), num_threads=1, **size).get_batch(indices).asnumpy()
    ours = read_frames(videos / name, indices, short_side)
    assert ours.shape == theirs.shape and np.abs(ours.astype(int) - theirs).mean() <= off


def test_short_side_keeps_the_ratio_and_never_enlarges(videos):
    path = videos / "b_frames.mp4"
    assert read_frames(path, [0], 25).shape == (1, 25, round(WIDTH * 25 / HEIGHT), 3)
    assert read_frames(path, [0], 1000).shape == (1, HEIGHT, WIDTH, 3)


def test_scaling_does_not_alias(tmp_path):
    """Stripes one pixel wide become grey, as an area average makes them; picking pixels would keep them."""
    stripes = np.tile(np.array([0, 255], np.uint8)[None, None, :, None], (10, 64, 64, 3))
    path = write_frames(tmp_path / "stripes.mp4", stripes, 30, "libx264", crf="1")
    inner = read_frames(path, [0], 16)[0][2:-2, 2:-2].astype(int)
    assert np.abs(inner - 127).max() < 25


def test_a_turned_picture_is_read_upright(videos, tmp_path):
    """A telephone's MP4: the turn stands in the track header's matrix."""
    content = bytearray((videos / "b_frames.mp4").read_bytes())
    matrix = content.find(b"tkhd") + 4 + 40  # after version, times, id, duration, layer and volume
    quarter_turn = np.array([0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30], dtype=">i4").tobytes()
    content[matrix : matrix + 36] = quarter_turn
    path = tmp_path / "turned.mp4"
    path.write_bytes(content)
    assert probe(path) == VideoInfo(T, 30.0, WIDTH, HEIGHT)
    frame = read_frames(path, [9])[0]
    assert frame.shape == (WIDTH, HEIGHT, 3)
    # Quarter turn clockwise: the picture's left edge is now the top edge.
    assert read_number(np.rot90(frame, 1)) == 9


def break_file(kind: str, videos: Path, folder: Path) -> Path:
    source = {"cut avi": "b_frames.avi"}.get(kind, "b_frames.mp4")
    path = folder / source
    content = (videos / source).read_bytes()
    if kind == "cut mp4 with its header first":
        write_numbered(path, T, faststart="1", bf="3")
        content = path.read_bytes()
    content = {
        "empty": b"",
        "text": b"this is no video\n" * 50,
        "no frame": (videos / "b_frames.mp4").read_bytes().replace(b"vide", b"soun"),
    }.get(kind, content[: len(content) // 2])
    if kind != "missing":
        path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "kind", ["missing", "empty", "text", "no frame", "cut mp4", "cut mp4 with its header first", "cut avi"]
)
def test_bad_files_are_told_in_one_line_and_nothing_else(kind, videos, tmp_path, capfd):
    path = break_file(kind, videos, tmp_path)
    for attempt in (probe, lambda path: read_frames(path, [0])):
        with pytest.raises(UserError, match="b_frames") as caught:
            attempt(path)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_damage_within_a_file_is_an_error_and_not_a_wrong_picture(videos, tmp_path, capfd):
    content = bytearray((videos / "long_group.mp4").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = np.random.default_rng(0).bytes(2000)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged.mp4: cannot be decoded"):
        read_frames(path, [T - 1])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["b_frames.mp4", "b_frames.avi"])
@pytest.mark.parametrize("indices", [[T], [0, T + 5], [-1], []])
def test_an_index_out_of_range_is_told(videos, name, indices):
    with pytest.raises(UserError, match=name):
        read_frames(videos / name, indices)


def test_an_avi_whose_header_promises_too_many_frames_is_whole(videos, tmp_path):
    """JHMDB's own files: more frames in both headers than in the file."""
    content = bytearray((videos / "b_frames.avi").read_bytes())
    for place in (content.index(b"avih") + 8 + 16, content.index(b"strh") + 8 + 32):
        assert int.from_bytes(content[place : place + 4], "little") == T
        content[place : place + 4] = (T * 6 // 5).to_bytes(4, "little")
    path = tmp_path / "promising.avi"
    path.write_bytes(content)
    assert probe(path).num_frames == T
    assert [read_number(frame) for frame in read_frames(path, [T - 1, 0, 40])] == [T - 1, 0, 40]


def riff(*chunks: tuple[bytes, int | None], content: bytes) -> bytes:
    """The content with its first RIFF size, and what follows, replaced: (bytes, size said; None: as it is) each."""
    (first, said), *others = chunks
    whole = first or content
    said = len(whole) - 8 if said is None else said
    parts = [b"RIFF" + said.to_bytes(4, "little") + whole[8:]]
    parts += [b"RIFF" + (len(part) if size is None else size).to_bytes(4, "little") + part for part, size in others]
    return b"".join(parts)


@pytest.mark.parametrize("said", [0, 0xFFFFFFFF])
def test_an_avi_that_does_not_tell_its_size_is_read(videos, tmp_path, said):
    path = tmp_path / "streamed.avi"
    path.write_bytes(riff((b"", said), content=(videos / "b_frames.avi").read_bytes()))
    assert probe(path).num_frames == T


def test_a_large_avi_is_cut_off_where_its_second_part_is(videos, tmp_path):
    content = (videos / "b_frames.avi").read_bytes()
    second = b"AVIX" + bytes(len(content))
    for name, said, whole in (("whole.avi", None, True), ("cut.avi", 4 * len(content), False)):
        path = tmp_path / name
        path.write_bytes(riff((b"", None), (second, said), content=content))
        if whole:
            assert probe(path).num_frames == T
        else:
            with pytest.raises(UserError, match="cut.avi: cut off, .* bytes are there"):
                probe(path)


def test_a_file_cut_where_its_header_promises_nothing_shows_what_is_there(videos, tmp_path):
    content = (videos / "vp9.webm").read_bytes()
    path = tmp_path / "cut.webm"
    path.write_bytes(content[: len(content) * 2 // 3])
    count = probe(path).num_frames
    assert 0 < count < T
    assert read_number(read_frames(path, [count - 1])[0]) == count - 1
    with pytest.raises(UserError, match=f"cut.webm: has no frame {count}: it holds {count} frames"):
        read_frames(path, [count])


JHMDB = sorted((REAL / "jhmdb_actions" / "ReCompress_Videos").glob("*/*.avi"))


@pytest.mark.skipif(not JHMDB, reason="no real videos: set SIAMMAE_REAL_DATA")
def test_every_clip_of_jhmdb_has_as_many_frames_as_masks():
    counts = {}
    for path in JHMDB:
        masks = REAL / "jhmdb_actions" / "puppet_mask" / path.parent.name / path.stem / "puppet_mask.mat"
        counts[path] = probe(path).num_frames, len(read_outlines(masks))
    assert {path.name: pair for path, pair in counts.items() if pair[0] != pair[1]} == {}


def real_clips() -> list[Path]:
    small = sorted((REAL / "kinetics400" / "videos").glob("*.mp4"), key=lambda path: path.stat().st_size)[:2]
    jhmdb = sorted((REAL / "jhmdb_actions" / "ReCompress_Videos").glob("*/*.avi"))[::30]
    return small + sorted((REAL / "ucf101").rglob("*.avi")) + jhmdb


@pytest.mark.skipif(not real_clips(), reason="no real videos: set SIAMMAE_REAL_DATA")
@pytest.mark.parametrize("path", real_clips(), ids=lambda path: path.name)
def test_real_clips_give_the_frames_of_a_decoding_in_order(path):
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert probe(path).num_frames == len(frames)
    indices = np.random.default_rng(0).permutation(len(frames))[:6]
    np.testing.assert_array_equal(read_frames(path, indices), np.stack([frames[i] for i in indices]))
