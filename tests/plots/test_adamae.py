"""Figures of the AdaMAE notebook: the drawn pixels are the maps, charts stand where the numbers say; paper numbers."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image, ImageSequence
from scipy import stats

from lib.errors import UserError
from lib.plots import adamae_charts as charts
from lib.plots import clips as drawn
from lib.plots import style as plots
from lib.runtime import REPO_ROOT
from lib.tokens.masking import frame_masking, tube_masking

S, GRID, T, P = 4, (4, 3, 5), 2, 4  # cubes of 2 x 4 x 4


@pytest.fixture(autouse=True)
def notebook_style():
    with plt.rc_context():
        plots.use_style()
        yield
    plt.close("all")


def make_sample(seed: int = 0, **changes) -> drawn.ClipSample:
    """A clip of noise, 8 frames of 12 x 20, with a map and a mask that differ at each time."""
    generator = torch.Generator().manual_seed(seed)
    video = torch.rand(3, 8, 12, 20, generator=generator)
    weights = torch.rand(GRID, generator=generator) + 0.01
    hidden = torch.rand(GRID, generator=generator) > 0.3
    objects = torch.zeros(8, 12, 20, dtype=torch.bool)
    for frame in range(8):  # one pixel to the right a frame
        objects[frame, 3:8, 6 + frame : 12 + frame] = True
    return drawn.ClipSample(video, weights / weights.sum(), hidden, objects=objects)._replace(**changes)


def pictures(figure: Figure) -> dict[str, list[np.ndarray]]:
    """Row label -> the pixels drawn in that row, for a figure of one block."""
    rows: dict[str, list[np.ndarray]] = {}
    label = ""
    for axis in figure.subfigs[0].axes:
        if axis.images:
            label = axis.get_ylabel() or label
            rows.setdefault(label.split("\n")[0], []).append(np.asarray(axis.images[0].get_array()))
    return rows


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts, titles and labels of a figure whose boxes meet."""
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    found = [text for text in figure.findobj(plt.Text) if text.get_visible() and text.get_text().strip()]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in found]
    return [
        (one, two)
        for index, (one, first) in enumerate(boxes)
        for two, second in boxes[:index]
        if min(first.x1, second.x1) - max(first.x0, second.x0) > 1
        and min(first.y1, second.y1) - max(first.y0, second.y0) > 1
    ]


# --- rows of pictures ---------------------------------------------------------------------------------------


def test_hidden_cubes_are_grey_and_seen_ones_are_the_video():
    sample = make_sample()
    tube = tube_masking(torch.zeros(1, 60, 1), GRID, 0.8).hidden.view(GRID)
    figure = drawn.mask_types_figure(sample.video, {"adaptive": sample.hidden, "tube": tube}, sample.objects, "found")
    rows = pictures(figure)
    assert list(rows) == ["original, movers", "adaptive", "tube"]
    for name, hidden in (("adaptive", sample.hidden), ("tube", tube)):
        for time in range(S):
            frame = sample.video[:, T * time].permute(1, 2, 0).numpy()
            for row, column in np.ndindex(GRID[1:]):
                place = np.s_[P * row : P * row + P, P * column : P * column + P]
                expected = np.full((P, P, 3), 0.5) if hidden[time, row, column] else frame[place]
                np.testing.assert_allclose(rows[name][time][place], expected, atol=1e-6)
    labels = [axis.get_ylabel() for axis in figure.subfigs[0].axes if axis.get_ylabel()]
    assert labels[2] == "tube\n20.0% seen"
    assert [axis.get_title() for axis in figure.subfigs[0].axes[:4]] == ["frame 0", "frame 2", "frame 4", "frame 6"]
    assert figure.get_suptitle() == "found" and overlaps(figure) == []


def test_the_share_that_is_seen_is_the_mask_s_own():
    hidden = frame_masking(torch.zeros(1, 60, 1), GRID, 0.6).hidden.view(GRID)  # int(4 * 0.4) = 1 time of 4
    figure = drawn.mask_types_figure((255 * make_sample().video).byte(), {"frame": hidden})
    assert "frame\n25.0% seen" in [axis.get_ylabel() for axis in figure.subfigs[0].axes]


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_the_drawn_mask_is_the_mask(seed, columns):
    sample = make_sample(seed)
    rows = pictures(drawn.reconstruction_figure({"clip": sample}, columns=columns))
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
    figure = drawn.reconstruction_figure({"clip": make_sample(probabilities=ratio / 60)})
    for picture in pictures(figure)["probability"]:
        cubes = picture[P // 2, P // 2 :: P]
        assert cubes[1][2] > cubes[1][0] and cubes[3][0] > cubes[3][2]  # less is blue, more is red
        np.testing.assert_allclose(cubes[2], 0.967, atol=0.01)  # chance is white
    assert overlaps(figure) == []


@pytest.mark.parametrize("largest, factor", [(1.0, 2), (2.0, 2), (2.1, 4), (9.0, 16), (300.0, 16)])
def test_the_scale_of_chance_reaches_as_far_both_ways(largest, factor):
    scale = drawn.chance_scale(torch.tensor([0.0, largest]), np.array([0.5]))
    assert (scale.norm.vmin, scale.norm.vmax) == (1 / factor, factor)
    assert scale.norm(1.0) == pytest.approx(0.5)


def test_figure_3_has_all_rows_and_greys_what_has_no_error():
    sample = make_sample()
    errors = torch.rand(GRID).masked_fill(~sample.hidden, float("nan"))
    full = sample._replace(prediction=1 - sample.video, errors=errors)
    figure = drawn.reconstruction_figure({"first": full, "second": make_sample(1)}, "found")
    first, second = figure.subfigs
    assert (first.get_supylabel(), second.get_supylabel()) == ("first", "second")
    rows = pictures(figure)
    assert list(rows) == ["video, movers", "prediction", "error", "probability", "mask"]
    np.testing.assert_allclose(rows["prediction"][1], 1 - rows["video, movers"][1], atol=1e-6)
    for time, picture in enumerate(rows["error"]):
        grey = np.isclose(picture[::P, ::P], to_rgb("#d9d9d9"), atol=0.01).all(-1)
        np.testing.assert_array_equal(grey, ~sample.hidden[time].numpy())
    bars = [bar.get_ylabel() for axis in first.axes for bar in axis.child_axes]
    assert bars == ["squared error", "times chance"]
    assert overlaps(figure) == []


def test_no_error_map_without_errors_and_no_words_of_seen_where_all_are_known():
    sample = make_sample(errors=torch.rand(GRID))
    labels = [axis.get_ylabel() for axis in drawn.reconstruction_figure({"": sample}).subfigs[0].axes]
    assert "error" in labels
    assert "error" not in pictures(drawn.reconstruction_figure({"": make_sample()}))


def test_outlines_lie_on_the_objects_of_their_frame():
    sample = make_sample()
    for figure in (
        drawn.reconstruction_figure({"": sample}),
        drawn.mask_types_figure(sample.video, {"adaptive": sample.hidden}, sample.objects),
    ):
        axes = [axis for axis in figure.subfigs[0].axes if axis.images]
        assert len(axes) in (2 * S, 3 * S)
        for place, axis in enumerate(axes):
            (contours,) = axis.collections
            corners = np.concatenate([path.vertices for path in contours.get_paths()])
            frame = T * (place % S)
            box = [5.5 + frame, 2.5, 11.5 + frame, 7.5]
            np.testing.assert_allclose([*corners.min(0), *corners.max(0)], box, atol=0.01)
    without = drawn.reconstruction_figure({"": make_sample(objects=None)})
    assert not any(axis.collections for axis in without.subfigs[0].axes if axis.images)


def test_one_block_for_each_ratio():
    samples = {ratio: make_sample(int(100 * ratio), errors=torch.rand(GRID)) for ratio in (0.8, 0.85, 0.9, 0.95)}
    figure = drawn.ratios_figure(samples)
    assert [part.get_supylabel() for part in figure.subfigs] == [f"{n}% hidden" for n in (80, 85, 90, 95)]
    assert list(pictures(figure)) == ["video, movers", "probability", "mask"]
    assert overlaps(figure) == []


def test_maps_of_another_grid_are_refused():
    with pytest.raises(UserError, match="4x3x5 cubes does not tile a video of 8x12x22"):
        drawn.reconstruction_figure({"": make_sample(video=torch.rand(3, 8, 12, 22))})
    with pytest.raises(UserError, match="own grid"):
        drawn.mask_types_figure(torch.rand(3, 8, 12, 20), {"tube": torch.ones(3, 3, 5, dtype=torch.bool)})
    with pytest.raises(UserError, match="own grid"):
        drawn.mask_types_figure(torch.rand(3, 8, 12, 20), {"tube": torch.ones(4, 30, 5, dtype=torch.bool)})


# --- what the sampler learns --------------------------------------------------------------------------------


def snapshots(count: int = 9) -> dict:
    """Distributions over 3 x 5 cubes that move to one cube."""
    maps = np.ones((count, 3, 5))
    maps[:, 1, 2] += np.arange(count)
    objects = np.zeros((12, 20), bool)
    objects[4:8, 8:12] = True
    frame = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    maps /= maps.mean(axis=(1, 2), keepdims=True)
    return {"frame": frame, "maps": maps, "steps": range(0, 50 * count, 50), "objects": objects}


def test_strip_shows_first_and_last_snapshot():
    figure = drawn.sampling_strip(**snapshots(), title="found", columns=3)
    axes = [axis for axis in figure.subfigs[0].axes if axis.images]
    assert [axis.get_title() for axis in axes] == ["frame", "step 0", "step 200", "step 400"]
    first, last = (np.asarray(axes[index].images[0].get_array()) for index in (1, 3))
    np.testing.assert_allclose(first, np.broadcast_to(first[0, 0], first.shape))  # uniform: one colour
    redness = last[..., 0] - last[..., 2]
    assert (redness[4:8, 8:12] > 0.3).all() and (np.delete(redness[5], np.s_[8:12]) < 0.1).all()
    assert overlaps(figure) == []


def test_animation_is_small_whole_and_changes_only_where_it_should(tmp_path):
    path = tmp_path / "figures" / "sampling.gif"
    drawn.sampling_animation(path, **snapshots())
    assert path.stat().st_size < drawn.GIF_BYTES and [file.name for file in path.parent.iterdir()] == [path.name]
    with Image.open(path) as image:
        assert image.info["loop"] == 0
        frames = [np.asarray(frame.convert("RGB"), int) for frame in ImageSequence.Iterator(image)]
        assert len(frames) == 9 and image.info["duration"] == 2000
    change = np.abs(frames[-1] - frames[0]).sum(axis=2) > 60
    assert change[:, 225:].any() and not change[:, :220].any()  # the video's frame stays, left of x = 220


def test_animation_that_would_be_too_large_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(drawn, "GIF_BYTES", 1000)
    with pytest.raises(UserError, match="fewer than 9 snapshots"):
        drawn.sampling_animation(tmp_path / "a.gif", **snapshots())
    assert list(tmp_path.iterdir()) == []


def test_curves_are_the_numbers_and_chance_is_a_line():
    entropy = pd.DataFrame({"step": range(5), "entropy_share": [1, 0.99, 0.97, 0.96, 0.95]})
    meetings = [
        {"step": step, "region": region, "times_chance": 1 + sign * step / 4}
        for step in (2, 0, 4)
        for region, sign in (("moving objects", 1), ("static distractors", -1))
    ]
    figure = charts.sampling_curves(entropy, meetings, "found")
    left, right = figure.axes
    np.testing.assert_array_equal(left.lines[0].get_ydata(), entropy["entropy_share"])
    assert list(right.lines[0].get_xdata()) == [0, 2, 4] and list(right.lines[0].get_ydata()) == [1, 1.5, 2]
    assert [line.get_color() for line in right.lines[:2]] == [plots.ORANGE, plots.BLUE]
    assert list(right.lines[-1].get_ydata()) == list(left.lines[-1].get_ydata()) == [1, 1]
    assert left.get_xlabel() == right.get_xlabel() == "optimizer step"
    assert "log N" in left.get_ylabel() and right.get_ylabel() == "times chance"
    assert overlaps(figure) == []
    with pytest.raises(UserError, match="did you mean 'moving objects'"):
        charts.sampling_curves(entropy, [{"step": 0, "region": "moving object", "times_chance": 1}])


# --- the diagram and the charts -----------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [(512, 25, 128, 64), (1568, 78, 768, 384)])
@pytest.mark.parametrize("with_sample", [False, True])
def test_diagram_states_shapes_and_who_learns_from_what(numbers, with_sample):
    sample = make_sample(prediction=make_sample(1).video)
    figure = charts.architecture_figure(*numbers, sample if with_sample else None)
    (axis,) = figure.axes
    words = " | ".join(text.get_text() for text in axis.texts)
    cubes, visible, width, decoder = numbers
    for said in (f"N x D = {cubes:,} x {width}", f"K x D = {visible:,} x {width}", f"{cubes:,} x {decoder}",
                 f"{1 - visible / cubes:.1%} hidden", "adaptive sampler", "trains the sampler only"):  # fmt: skip
        assert said in words
    assert words.count("stop-gradient") == 2
    dashed = [line for line in axis.lines if line.get_linestyle() == "--"]
    assert [line.get_color() for line in dashed] == [charts.PURPLE]  # the sampling loss alone
    assert dashed[0].get_xydata()[-1].tolist() == [31, 48]  # ends on the sampler's frame
    assert len(axis.images) == (4 if with_sample else 0)
    if with_sample:
        mask = np.asarray(axis.images[2].get_array())[::P, ::P, 0]
        np.testing.assert_array_equal(mask == 1, ~sample.hidden[S // 2].numpy())
    assert overlaps(figure) == []


def test_words_of_the_diagram_fit_their_boxes():
    figure = charts.architecture_figure(1568, 78, 768, 384)
    figure.draw_without_rendering()
    (axis,) = figure.axes
    boxes = [patch.get_window_extent() for patch in axis.patches if isinstance(patch, charts.FancyBboxPatch)]
    for text in (text for text in axis.texts if text.get_color() == "white" and text.get_text()):
        inside = text.get_window_extent()
        assert any(
            box.x0 < inside.x0 and inside.x1 < box.x1 and box.y0 < inside.y0 and inside.y1 < box.y1 for box in boxes
        ), text.get_text()


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=8))
def test_interval_is_student_s(values):
    mean, half = charts.mean_interval(values)
    error = np.std(values, ddof=1) / len(values) ** 0.5
    if error > 1e-9:
        assert (mean - half, mean + half) == pytest.approx(stats.t.interval(0.95, len(values) - 1, mean, error))


def test_interval_by_hand_and_of_one_seed():
    mean, half = charts.mean_interval([1, 2, 3])
    assert mean == 2 and half == pytest.approx(4.303 / 3**0.5, abs=1e-3)
    assert charts.mean_interval([5])[0] == 5 and np.isnan(charts.mean_interval([5])[1])


def test_seeds_figure_draws_each_seed_the_mean_and_chance():
    values = {"random": [40, 42, 44], "adaptive": [45, 47, 46], "frame": [30]}
    rows = [{"method": m, "seed": s, "value": v} for m, found in values.items() for s, v in enumerate(found)]
    figure, numbers = charts.seeds_figure(rows, chance=10, title="found")
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == list(values)
    assert list(numbers["mean"]) == [42, 46, 30] and list(numbers["seeds"]) == [3, 3, 1]
    chance, *rest = axis.lines
    assert list(chance.get_xdata()) == [10, 10]
    seeds = [line for line in rest if line.get_marker() == "o"]
    assert [sorted(line.get_xdata()) for line in seeds] == [sorted(found) for found in values.values()]
    assert [line.get_color() for line in seeds] == [plots.BLUE, plots.ORANGE, plots.BLUE]
    assert not axis.containers and "interval" not in numbers
    assert "42.0" in [text.get_text() for text in axis.texts]
    assert "accuracy (%)" in axis.get_xlabel() and axis.get_title() == "found"
    assert overlaps(figure) == []


def test_bars_of_regions_start_at_chance():
    rows = [
        {"sampler": sampler, "region": region, "times_chance": value + shift}
        for sampler, values in (("ours", (2.0, 1.25, 0.5)), ("random", (1.0, 1.0, 1.0)))
        for region, value in zip(charts.REGION_COLORS, values, strict=True)
        for shift in (-0.1, 0.1)
    ]
    figure, numbers = charts.regions_figure(rows, "found")
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == [
        "ours (n = 2)",
        "random (n = 2)",
    ] and axis.yaxis_inverted()
    bars = [container for container in axis.containers if hasattr(container, "patches")]
    for container, value in zip(bars, (2.0, 1.25, 0.5), strict=True):
        ours, random = container.patches
        assert sorted([ours.get_x(), ours.get_x() + ours.get_width()]) == pytest.approx(sorted([1, value]))
        assert random.get_width() == pytest.approx(0)
    assert len(numbers) == 6 and (numbers["seeds"] == 2).all() and (numbers["interval"] > 0).all()
    assert "times chance" in axis.get_xlabel() and overlaps(figure) == []
    with pytest.raises(UserError, match="unknown region 'sky'"):
        charts.regions_figure([{"sampler": "ours", "region": "sky", "times_chance": 1}])


def paper_numbers() -> pd.DataFrame:
    return pd.read_csv(REPO_ROOT / "figures" / "paper" / "adamae.csv")


def test_costs_are_ratios_to_the_default():
    paper = paper_numbers().query("table == '1b'")
    rows = pd.DataFrame({"factor": "masking ratio", "value": paper["ratio"], "amount": paper["memory_gb"]})
    rows = rows.assign(source="paper", measure="memory")
    ours = rows.assign(source="ours", amount=3 * rows["amount"])  # other units, same ratios
    blocks = [
        {"factor": "decoder blocks", "value": n, "amount": 4 + n, "source": "ours", "measure": "time"}
        for n in (4, 1, 8)
    ]
    defaults = {"masking ratio": 0.95, "decoder blocks": 4}
    figure, numbers = charts.cost_figure(pd.concat([rows, ours, pd.DataFrame(blocks)]), defaults, "found")
    left, right = figure.axes
    np.testing.assert_allclose(left.lines[0].get_ydata(), [16.9 / 14.4, 15.9 / 14.4, 15.1 / 14.4, 1, 14.1 / 14.4])
    np.testing.assert_allclose(left.lines[1].get_ydata(), left.lines[0].get_ydata())
    assert list(right.lines[0].get_xdata()) == [1, 4, 8] and list(right.lines[0].get_ydata()) == [5 / 8, 1, 12 / 8]
    assert [axis.get_xlabel() for axis in figure.axes] == list(defaults)
    assert left.get_ylabel() == "ratio to the default"
    assert [text.get_text() for text in left.get_legend().get_texts()] == ["memory, paper", "memory, ours"]
    assert len(numbers) == 13 and overlaps(figure) == []
    with pytest.raises(UserError, match="ours time has 0 rows at decoder blocks 2"):
        charts.cost_figure(blocks, {"decoder blocks": 2})


# --- the paper's numbers ------------------------------------------------------------------------------------


def test_table_1_is_whole_and_agrees_with_itself():
    table = paper_numbers()
    assert table["table"].value_counts().to_dict() == {"1a": 6, "1b": 5, "1c": 4, "1d": 4, "1e": 5, "1f": 4}
    assert table["source"].str.startswith("arXiv 2211.09120, ").all()
    assert table["ratio"].between(0, 1).all() and (table["top1"] < table["top5"].fillna(100)).all()
    assert not table.duplicated(["table", "case", "ratio"]).any()
    # each panel holds the default once: 70.04 and 92.70 at 95 %, 14.4 GB where memory is given
    default = table[table["top1"] == 70.04]
    assert sorted(default["table"]) == ["1a", "1b", "1c", "1d", "1e", "1f"]
    assert (default["top5"] == 92.70).all() and (default["ratio"] == 0.95).all()
    assert set(default["memory_gb"].dropna()) == {14.4}
    assert table.loc[table["table"].isin(["1d", "1e"]), "memory_gb"].isna().all()
    assert table.loc[~table["table"].isin(["1d", "1e"]), "memory_gb"].notna().all()


def test_settings_name_their_table():
    chosen = pd.read_csv(REPO_ROOT / "figures" / "paper" / "adamae_settings.csv", dtype=str)
    assert chosen["table"].value_counts().to_dict() == {"6": 13, "4": 8, "5": 8, "text": 3}
    numbered = chosen[chosen["table"] != "text"]
    assert all(f"Table {row.table}" in row.source for row in numbered.itertuples())
    assert not chosen.duplicated(["table", "item"]).any() and chosen[["ssv2", "k400"]].notna().all(axis=None)
    assert (chosen["output_shape"].notna() == (chosen["table"] == "4")).all()
