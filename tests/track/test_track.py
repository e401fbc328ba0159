"""A mask and points of one's own, carried through any video."""

import csv
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from make_jhmdb import refused
from make_videos import write_frames
from PIL import Image

import make
from lib.data.images import davis_palette, read_mask, write_mask
from lib.data.video import read_frames
from lib.evaluation.features import FRAMES_AT_ONCE
from lib.evaluation.keypoints import propagate_joints
from lib.evaluation.masks import propagate_masks
from lib.models.pretrained import load_encoder
from lib.models.vit import ViTEncoder
from lib.track.__main__ import main, track_video
from lib.track.given import read_first_mask, read_points
from lib.track.painting import THUMBNAILS, Sheet
from lib.track.propagating import protocol_for, track
from lib.track.source import open_source

SIZE = (64, 96)


def frame(t: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Noise, the same in all frames, and a red square that moves by two pixels a frame."""
    picture = np.random.default_rng(0).integers(90, 150, (*size, 3)).astype(np.uint8)
    picture[16:40, 8 + 2 * t : 32 + 2 * t] = (220, 30, 30)
    return picture


def square(t: int = 0, size: tuple[int, int] = SIZE, value: int = 1) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    mask[16:40, 8 + 2 * t : 32 + 2 * t] = value
    return mask


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    encoder = ViTEncoder(32, 8, 16, 2, 2)
    path = tmp_path_factory.mktemp("weights") / "small.pt"
    stated = {"architecture": {"num_heads": 2, "image_size": 32}}
    torch.save({"model": {f"encoder.{name}": value for name, value in encoder.state_dict().items()}, **stated}, path)
    return path


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> Path:
    """A folder with a video, a mask and points."""
    folder = tmp_path_factory.mktemp("given")
    write_frames(folder / "video.mp4", [frame(t) for t in range(9)], 15, "libx264", crf="5")
    write_mask(folder / "mask.png", square())
    (folder / "points.csv").write_text("x,y,name\n20,28,middle\n80,50,still\n")
    return folder


def rows_of(path: Path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# --- What is written ---


def test_masks_points_and_pictures_of_a_video(given, weights, tmp_path):
    out = tmp_path / "out"
    done = track_video(given / "video.mp4", given / "mask.png", out, given / "points.csv", weights, short_side=64)
    assert done.frames == 9 and done.note == "" and done.seconds > 0
    assert sorted(path.name for path in out.iterdir()) == ["masks", "overlay.mp4", "points.csv", "sheet.png"]
    masks = sorted((out / "masks").iterdir())
    assert [path.name for path in masks] == [f"{t:05d}.png" for t in range(9)]
    assert Image.open(masks[0]).mode == "P" and Image.open(masks[0]).getpalette()[:6] == davis_palette()[:6]
    np.testing.assert_array_equal(read_mask(masks[0]), square())
    overlap = [
        (read_mask(path) & square(t)).sum() / (read_mask(path) | square(t)).sum() for t, path in enumerate(masks)
    ]
    assert min(overlap) > 0.6
    rows = rows_of(out / "points.csv")
    assert [(row["frame"], row["name"]) for row in rows[:3]] == [
        ("00000", "middle"),
        ("00000", "still"),
        ("00001", "middle"),
    ]
    assert len(rows) == 18 and (float(rows[0]["x"]), float(rows[0]["y"])) == (20, 28)
    assert [float(row["seconds"]) for row in rows[::2]] == pytest.approx([t / 15 for t in range(9)], abs=1e-3)


def test_the_overlay_plays_in_a_browser_at_the_source_s_times(given, weights, tmp_path):
    track_video(given / "video.mp4", given / "mask.png", tmp_path / "out", None, weights, short_side=64)
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        times = [float(picture.time) for picture in container.decode(stream)]
    assert np.diff(times) == pytest.approx([1 / 15] * 8, abs=1e-3)
    start = (tmp_path / "out" / "overlay.mp4").read_bytes()
    assert start.index(b"moov") < start.index(b"mdat")  # it plays before it is all there
    shown = read_frames(tmp_path / "out" / "overlay.mp4", [0])[0].astype(int)
    plain = read_frames(given / "video.mp4", [0])[0].astype(int)
    painted = np.abs(shown - plain).mean(axis=2)
    assert painted[square() > 0].mean() > 20 > painted[square() == 0].mean()


def test_the_network_s_part_is_the_evaluation_s(given, weights, tmp_path):
    """At the size that the network sees, masks and points are those of lib.evaluation, to the last pixel."""
    track_video(given / "video.mp4", given / "mask.png", tmp_path / "o", given / "points.csv", weights, short_side=64)
    encoder, frames = load_encoder(weights), list(read_frames(given / "video.mp4", range(9)))
    protocol = protocol_for(SIZE, 64, 8)
    assert protocol.input_size == SIZE
    same = {"feature_fn": partial(encoder.features, block=-1), "patch_size": 8, "protocol": protocol}
    masks = [read_mask(path) for path in sorted((tmp_path / "o" / "masks").iterdir())]
    np.testing.assert_array_equal(masks, list(propagate_masks(frames, square(), **same)))
    places = [(float(row["x"]), float(row["y"])) for row in rows_of(tmp_path / "o" / "points.csv")]
    points = np.array([[20.0, 28], [80, 50]])  # whose cells' middles are followed, 4 pixels from their corners
    found = np.stack(list(propagate_joints(frames, points - 4, **same)))
    expected = np.clip(found + points - found[0], 0, [95, 63])
    np.testing.assert_allclose(np.reshape(places, (9, 2, 2))[1:], expected[1:], atol=0.006)


def test_what_stands_still_stays(weights, tmp_path):
    write_frames(tmp_path / "v.mp4", [frame(0)] * 5, 15, "libx264", crf="1")
    points = [(x, y) for x in (0, 11, 47, 95) for y in (0, 20, 63)]
    (tmp_path / "p.csv").write_text("x,y\n" + "".join(f"{x},{y}\n" for x, y in points))
    track_video(tmp_path / "v.mp4", None, tmp_path / "o", tmp_path / "p.csv", weights, short_side=64)
    places = np.reshape(
        [(float(row["x"]), float(row["y"])) for row in rows_of(tmp_path / "o" / "points.csv")], (5, -1, 2)
    )
    assert np.abs(places - points).max() < 2


def test_points_alone_and_a_folder_with_a_gap(weights, tmp_path, given, capsys):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in (8, 9, 10, 14):
        Image.fromarray(frame(number - 8)).save(folder / f"img2_{number}.png")
    main([str(folder), "--points", str(given / "points.csv"), "--out", str(tmp_path / "o"), "--weights", str(weights),
          "--size", "64"])  # fmt: skip
    printed = capsys.readouterr().out
    assert "3 frames lack (between 10 and 14)" in printed and "4 frames" in printed
    assert not (tmp_path / "o" / "masks").exists()
    assert [row["frame"] for row in rows_of(tmp_path / "o" / "points.csv")[::2]] == [
        "img2_8",
        "img2_9",
        "img2_10",
        "img2_14",
    ]


def test_a_tall_video_is_seen_upright_and_small(weights, tmp_path):
    """The network sees its short side with 64 pixels, the overlay has even sides."""
    tall = (150, 90)
    write_frames(tmp_path / "v.mp4", [frame(t, tall) for t in range(3)], 10, "libx264", crf="5")
    write_mask(tmp_path / "m.png", square(0, tall))
    track_video(tmp_path / "v.mp4", tmp_path / "m.png", tmp_path / "o", None, weights, short_side=64)
    assert protocol_for(tall, 64, 8).input_size == (104, 64)
    assert read_mask(tmp_path / "o" / "masks" / "00002.png").shape == tall
    assert protocol_for((1080, 1920), 240, 8).input_size == (240, 424)


# --- What is given ---


def save(path: Path, array: np.ndarray, mode: str) -> Path:
    Image.fromarray(array).convert(mode).save(path)
    return path


def test_a_mask_may_be_ids_or_colours(tmp_path):
    ids = square() + 2 * np.roll(square(), 30, axis=1)
    palette = np.reshape(davis_palette(), (-1, 3)).astype(np.uint8)
    write_mask(tmp_path / "palette.png", ids)
    save(tmp_path / "grey.png", ids, "L")
    save(tmp_path / "grey_as_rgb.png", ids, "RGB")
    save(tmp_path / "davis_colours.png", palette[ids], "RGB")
    Image.fromarray(np.dstack([palette[ids], 255 * (ids > 0).astype(np.uint8)])).save(tmp_path / "transparent.png")
    for path in tmp_path.glob("*.png"):
        np.testing.assert_array_equal(read_first_mask(path, SIZE), ids, err_msg=path.name)
    own = np.array([(0, 0, 0), (10, 200, 10), (250, 10, 10)], np.uint8)
    np.testing.assert_array_equal(read_first_mask(save(tmp_path / "own.png", own[ids], "RGB"), SIZE), ids)
    void = np.where(np.arange(SIZE[1]) < 4, np.uint8(255), ids)
    np.testing.assert_array_equal(
        read_first_mask(save(tmp_path / "void.png", void, "L"), SIZE), np.where(void == 255, 0, ids)
    )
    np.testing.assert_array_equal(read_first_mask(save(tmp_path / "255.png", square(value=255), "L"), SIZE), square())


def test_soft_edges_belong_to_what_they_surround(tmp_path):
    large = np.zeros((640, 960), np.uint8)
    large[100:400, 200:500] = 255
    soft = Image.fromarray(large).resize(SIZE[::-1], Image.Resampling.BICUBIC)
    half = (np.array(soft) > 127).astype(np.uint8)
    assert len(np.unique(soft)) > 4
    soft.save(tmp_path / "grey.png")
    soft.convert("RGB").save(tmp_path / "white.png")
    Image.merge("LA", [Image.new("L", soft.size, 200), soft]).save(tmp_path / "transparent.png")
    red = Image.composite(Image.new("RGB", soft.size, (250, 20, 30)), Image.new("RGB", soft.size), soft)
    red.save(tmp_path / "red.png")
    for name in ("grey", "white", "transparent", "red"):
        ids = read_first_mask(tmp_path / f"{name}.png", SIZE)
        assert np.unique(ids != 0).size == 2 and ((ids > 0) != half).sum() <= 4, name
    soft.save(tmp_path / "mask.jpg")
    refused(lambda: read_first_mask(tmp_path / "mask.jpg", SIZE), "save it as PNG")
    ramp = np.tile(np.arange(96, dtype=np.uint8), (64, 1))
    refused(lambda: read_first_mask(save(tmp_path / "ramp.png", ramp, "L"), SIZE), "96 grey values are no objects")


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_what_is_thin_or_small_stays_what_it_is(tmp_path, mode):
    ids = square()
    ids[2:4, 4:90] = 3  # a line, two pixels wide
    ids[60:62, 80:82] = 2
    colours = np.array([[0, 0, 0], [200, 30, 40], [10, 220, 60], [30, 40, 250]], np.uint8)
    found = read_first_mask(save(tmp_path / "mask.png", ids if mode == "L" else colours[ids], mode), SIZE)
    assert [len(set(found[ids == value])) for value in range(4)] == [1] * 4
    assert np.unique(found).tolist() == [0, 1, 2, 3] and (mode == "RGB" or (found == ids).all())


def test_davis_colours_have_their_ids_all_of_them(tmp_path):
    ids = np.arange(1, 21, dtype=np.uint8).repeat(4)[None].repeat(64, axis=0)
    ids = np.pad(ids, ((0, 0), (0, 16)))
    palette = np.reshape(davis_palette(), (-1, 3)).astype(np.uint8)
    np.testing.assert_array_equal(read_first_mask(save(tmp_path / "c.png", palette[ids], "RGB"), SIZE), ids)


def test_a_mask_of_half_the_frame_s_size_is_scaled(tmp_path):
    path = save(tmp_path / "half.png", square()[::2, ::2], "L")
    np.testing.assert_array_equal(read_first_mask(path, SIZE), square())


def test_what_cannot_be_followed_is_told(given, weights, tmp_path):
    out = tmp_path / "out"
    go = partial(track_video, given / "video.mp4", out=out, weights=weights, short_side=64)
    refused(lambda: go(None), "nothing to follow")
    refused(lambda: go(save(tmp_path / "empty.png", square(value=0), "L")), "shows no object")
    refused(lambda: go(save(tmp_path / "wide.png", np.ones((64, 64), np.uint8), "L")), "64x64 pixels", "96x64")
    photo = np.random.default_rng(0).integers(0, 255, (*SIZE, 3)).astype(np.uint8)
    refused(lambda: go(save(tmp_path / "photo.png", photo, "RGB")), "colours are no objects")
    refused(lambda: go(tmp_path / "none.png"), "none.png: no such file")
    unread = partial(track_video, out=out, weights="hf://no/such/weights.pt")  # these are not asked for
    refused(lambda: unread(tmp_path / "no.mp4", given / "mask.png"), "no.mp4: no such file")
    refused(lambda: track_video(tmp_path / "no.mp4", given / "mask.png", out, None, weights), "no such file")
    refused(lambda: go(given / "mask.png", short_side=4), "size 4 is less than a patch")
    refused(lambda: go(given / "mask.png", device="no-such"), "device no-such: ")
    dot = square()
    dot[50:53, 70:73] = 2
    refused(lambda: go(save(tmp_path / "dot.png", dot, "L")), "object 2, 3x3 pixels", "cells of 8x8", "try --size 256")
    cut = save(tmp_path / "cut.png", np.dstack([square(value=200)] * 4), "RGBA")
    cut.write_bytes(cut.read_bytes()[:-60])
    refused(lambda: go(cut), "cut.png: damaged image")
    for text, word in {
        "x,y\n": "names no point", "x,y\n1,two\n": "'two'", "x,y\n96,3\n": "x must be a number from 0 to 95",
        "a,b\n1,2\n": "must name the columns x,y", "x,y,name\n1,2,a\n3,4,a\n": "two points are called 'a'",
        "x,y\nnan,2\n": "'nan'", "x,y,name\n1,2,caf\xe9\n": "names must be UTF-8",
    }.items():  # fmt: skip
        (tmp_path / "p.csv").write_bytes(text.encode("latin-1"))
        refused(lambda: go(None, points=tmp_path / "p.csv"), word)
    assert not out.exists() and not list(tmp_path.glob(".*"))
    out.mkdir()
    (out / "mine.txt").touch()
    refused(lambda: go(given / "mask.png"), "is there already")
    assert [path.name for path in out.iterdir()] == ["mine.txt"]


def test_points_have_names_or_numbers(tmp_path):
    (tmp_path / "p.csv").write_text("x,y\n1,2\n3.5,4\n")
    points = read_points(tmp_path / "p.csv", SIZE)
    assert points.names == ("1", "2") and points.places.tolist() == [[1, 2], [3.5, 4]]


def test_a_frame_of_another_size_is_refused(tmp_path, given, weights):
    for number in range(2):
        Image.fromarray(frame(0)[: 64 - number]).save(tmp_path / f"{number}.png")
    go = partial(track_video, tmp_path, given / "mask.png", tmp_path / "o", None, weights, short_side=64)
    refused(go, "1.png", "96x63", "96x64")
    assert not (tmp_path / "o").exists() and not list(tmp_path.glob(".*"))


# --- However long ---


def test_the_sheet_of_a_long_video_is_even_and_small():
    sheet = Sheet()
    for number in range(1000):
        sheet.add(number / 25, np.zeros((10, 20, 3), np.uint8))
        assert len(sheet.kept) < 2 * THUMBNAILS
    times = [seconds for seconds, _ in sheet.kept]
    assert times[0] == 0 and np.ptp(np.diff(times)) < 1e-6 and times[-1] > 35
    assert sheet.image().size == (4 * 324, 2 * 180)  # 16 are kept, so every second


def test_frames_are_read_one_by_one(given, weights):
    """However long a video is, no more frames are in memory than the network gets at once."""
    assert open_source(given / "video.mp4").expected == 9
    encoder, read = load_encoder(weights), 0

    def counted():
        nonlocal read
        for shot in open_source(given / "video.mp4").frames():
            read += 1
            yield shot.picture

    tracked = track(counted(), SIZE, square(), None, encoder.features, 8, protocol_for(SIZE, 64, 8))
    for done, _ in enumerate(tracked, start=1):
        assert read <= done + FRAMES_AT_ONCE
    assert done == read == 9


def test_a_killed_run_leaves_nothing_that_looks_done(given, weights, tmp_path):
    write_frames(tmp_path / "long.mp4", [frame(t % 20) for t in range(400)], 15, "libx264", crf="20")
    words = [sys.executable, "-m", "lib.track", tmp_path / "long.mp4", given / "mask.png", "--out", tmp_path / "o"]
    process = subprocess.Popen([*map(str, words), "--weights", str(weights), "--size", "64"], cwd=make.ROOT)
    until = time.monotonic() + 120
    while not list(tmp_path.glob(".o.*/masks/*.png")) and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert list(tmp_path.glob(".o.*/masks/*.png")) and not (tmp_path / "o").exists()
    assert (
        track_video(tmp_path / "long.mp4", given / "mask.png", tmp_path / "o", None, weights, short_side=64).frames
        == 400
    )
    assert not list(tmp_path.glob(".o.*"))
