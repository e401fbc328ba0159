"""Pictures of clips: the drawn pixels are the maps and the masks."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image, ImageSequence

from lib.errors import UserError
from lib.plots import clips
from lib.tokens.maskings import get_masking

S, GRID, T, P = 4, (4, 3, 5), 2, 4  # cubes of 2 x 4 x 4


def make_sample(seed: int = 0, **changes) -> clips.ClipSample:
    """A clip of noise, 8 frames of 12 x 20, with a map and a mask that differ at each time."""
    generator = torch.Generator().manual_seed(seed)
    video = torch.rand(3, 8, 12, 20, generator=generator)
    weights = torch.rand(GRID, generator=generator) + 0.01
    hidden = torch.rand(GRID, generator=generator) > 0.3
    objects = torch.zeros(8, 12, 20, dtype=torch.bool)
    for frame in range(8):  # one pixel to the right a frame
        objects[frame, 3:8, 6 + frame : 12 + frame] = True
    return clips.ClipSample(video, weights / weights.sum(), hidden, objects=objects)._replace(**changes)


def pictures(figure: Figure) -> dict[str, list[np.ndarray]]:
    """Row label -> the pixels drawn in that row, for a figure of one block."""
    rows: dict[str, list[np.ndarray]] = {}
    label = ""
    for axis in figure.subfigs[0].axes:
        if axis.images:
            label = axis.get_ylabel() or label
            rows.setdefault(label.split("\n")[0], []).append(np.asarray(axis.images[0].get_array()))
    return rows


def test_hidden_cubes_are_grey_and_seen_ones_are_the_video():
    sample = make_sample()
    tube = get_masking("tube", 0.8)(torch.zeros(1, 60, 1), GRID).hidden.view(GRID)
    figure = clips.mask_types_figure(sample.video, {"adaptive": sample.hidden, "tube": tube}, sample.objects)
    rows = pictures(figure)
    assert list(rows) == ["original, movers", "adaptive", "tube"]
    for name, hidden in (("adaptive", sample.hidden), ("tube", tube)):
        for time in range(S):
            frame = sample.video[:, T * time].permute(1, 2, 0).numpy()
            for row, column in np.ndindex(GRID[1:]):
                place = np.s_[P * row : P * row + P, P * column : P * column + P]
                expected = np.full((P, P, 3), 0.5) if hidden[time, row, column] else frame[place]
                np.testing.assert_allclose(rows[name][time][place], expected, atol=1e-6)
    assert [axis.get_title() for axis in figure.subfigs[0].axes[:4]] == ["frame 0", "frame 2", "frame 4", "frame 6"]


def test_the_share_that_is_seen_is_the_mask_s_own():
    hidden = get_masking("frame", 0.6)(torch.zeros(1, 60, 1), GRID).hidden.view(GRID)  # int(4 * 0.4) = 1 time of 4
    figure = clips.mask_types_figure((255 * make_sample().video).byte(), {"frame": hidden})
    assert "frame\n25.0% seen" in [axis.get_ylabel() for axis in figure.subfigs[0].axes]


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_the_drawn_mask_is_the_mask(seed, columns):
    sample = make_sample(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clips, "COLUMNS", columns)
        rows = pictures(clips.reconstruction_figure({"clip": sample}))
    times = np.linspace(0, S - 1, min(columns, S)).round().astype(int)
    assert len(rows["mask"]) == len(times)
    for time, picture in zip(times, rows["mask"], strict=True):
        visible = picture.reshape(3, P, 5, P, 3)
        assert (visible == visible[:, :1, :, :1, :1]).all()  # whole cubes, no colour
        np.testing.assert_array_equal(visible[:, 0, :, 0, 0] == 1, ~sample.hidden[time].numpy())
    plt.close("all")


def test_colours_of_probability_tell_more_from_less_than_chance():
    ratio = torch.tensor([[[0.0, 1 / 4, 1.0, 4.0, 1 / 4]]]).expand(GRID).clone()
    ratio[..., 0] = 5 - ratio[..., 1:].sum(-1)  # a distribution: the mean is 1
    figure = clips.reconstruction_figure({"clip": make_sample(probabilities=ratio / 60)})
    for picture in pictures(figure)["probability"]:
        cubes = picture[P // 2, P // 2 :: P]
        assert cubes[1][2] > cubes[1][0] and cubes[3][0] > cubes[3][2]  # less is blue, more is red
        np.testing.assert_allclose(cubes[2], 0.967, atol=0.01)  # chance is white


@pytest.mark.parametrize("largest, factor", [(1.0, 2), (2.0, 2), (2.1, 4), (9.0, 16), (300.0, 16)])
def test_the_scale_of_chance_reaches_as_far_both_ways(largest, factor):
    scale = clips.chance_scale(torch.tensor([0.0, largest]), np.array([0.5]))
    assert (scale.norm.vmin, scale.norm.vmax) == (1 / factor, factor)
    assert scale.norm(1.0) == pytest.approx(0.5)


def test_figure_3_has_all_rows_and_greys_what_has_no_error():
    sample = make_sample()
    errors = torch.rand(GRID).masked_fill(~sample.hidden, float("nan"))
    full = sample._replace(prediction=1 - sample.video, errors=errors)
    figure = clips.reconstruction_figure({"first": full, "second": make_sample(1)})
    first, second = figure.subfigs
    assert (first.get_supylabel(), second.get_supylabel()) == ("first", "second")
    rows = pictures(figure)
    assert list(rows) == ["video, movers", "prediction", "error", "probability", "mask"]
    np.testing.assert_allclose(rows["prediction"][1], 1 - rows["video, movers"][1], atol=1e-6)
    for time, picture in enumerate(rows["error"]):
        grey = np.isclose(picture[::P, ::P], to_rgb("#d9d9d9"), atol=0.01).all(-1)
        np.testing.assert_array_equal(grey, ~sample.hidden[time].numpy())


def test_no_error_map_without_errors():
    assert "error" in pictures(clips.reconstruction_figure({"": make_sample(errors=torch.rand(GRID))}))
    assert "error" not in pictures(clips.reconstruction_figure({"": make_sample()}))


def test_outlines_lie_on_the_objects_of_their_frame():
    sample = make_sample()
    for figure in (
        clips.reconstruction_figure({"": sample}),
        clips.mask_types_figure(sample.video, {"adaptive": sample.hidden}, sample.objects),
    ):
        axes = [axis for axis in figure.subfigs[0].axes if axis.images]
        assert len(axes) in (2 * S, 3 * S)
        for place, axis in enumerate(axes):
            (contours,) = axis.collections
            corners = np.concatenate([path.vertices for path in contours.get_paths()])
            frame = T * (place % S)
            box = [5.5 + frame, 2.5, 11.5 + frame, 7.5]
            np.testing.assert_allclose([*corners.min(0), *corners.max(0)], box, atol=0.01)
    without = clips.reconstruction_figure({"": make_sample(objects=None)})
    assert not any(axis.collections for axis in without.subfigs[0].axes if axis.images)


def test_one_block_for_each_ratio():
    samples = {ratio: make_sample(int(100 * ratio), errors=torch.rand(GRID)) for ratio in (0.8, 0.85, 0.9, 0.95)}
    figure = clips.ratios_figure(samples)
    assert [part.get_supylabel() for part in figure.subfigs] == [f"{n}% hidden" for n in (80, 85, 90, 95)]
    assert list(pictures(figure)) == ["video, movers", "probability", "mask"]


def snapshots(count: int = 9) -> dict:
    """Distributions over 3 x 5 cubes that move to one cube."""
    maps = np.ones((count, 3, 5))
    maps[:, 1, 2] += np.arange(count)
    objects = np.zeros((12, 20), bool)
    objects[4:8, 8:12] = True
    frame = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    maps /= maps.mean(axis=(1, 2), keepdims=True)
    return {"frame": frame, "maps": maps, "steps": range(0, 50 * count, 50), "objects": objects}


def test_strip_shows_first_and_last_snapshot(monkeypatch):
    monkeypatch.setattr(clips, "SNAPSHOTS", 3)
    figure = clips.sampling_strip(**snapshots())
    axes = [axis for axis in figure.subfigs[0].axes if axis.images]
    assert [axis.get_title() for axis in axes] == ["frame", "step 0", "step 200", "step 400"]
    first, last = (np.asarray(axes[index].images[0].get_array()) for index in (1, 3))
    np.testing.assert_allclose(first, np.broadcast_to(first[0, 0], first.shape))  # uniform: one colour
    redness = last[..., 0] - last[..., 2]
    assert (redness[4:8, 8:12] > 0.3).all() and (np.delete(redness[5], np.s_[8:12]) < 0.1).all()


def test_animation_is_small_whole_and_changes_only_where_it_should(tmp_path):
    path = tmp_path / "figures" / "sampling.gif"
    clips.sampling_animation(path, **snapshots())
    assert path.stat().st_size < clips.GIF_BYTES and [file.name for file in path.parent.iterdir()] == [path.name]
    with Image.open(path) as image:
        assert image.info["loop"] == 0
        frames = [np.asarray(frame.convert("RGB"), int) for frame in ImageSequence.Iterator(image)]
        assert len(frames) == 9 and image.info["duration"] == 2000
    change = np.abs(frames[-1] - frames[0]).sum(axis=2) > 60
    assert change[:, 225:].any() and not change[:, :220].any()  # the video's frame stays, left of x = 220


def test_animation_that_would_be_too_large_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "GIF_BYTES", 1000)
    with pytest.raises(UserError, match="fewer than 9 snapshots"):
        clips.sampling_animation(tmp_path / "a.gif", **snapshots())
    assert list(tmp_path.iterdir()) == []
