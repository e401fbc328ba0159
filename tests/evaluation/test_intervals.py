"""Bootstrap over images, paired differences and trends: exact references, and how often they are right."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lib.errors import UserError
from lib.evaluation.intervals import bootstrap, crossed_bootstrap, crossed_interval, paired_difference, trend


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- bootstrap ----------------------------------------------------------------------------------------------


def test_the_bootstrap_of_a_mean_is_near_the_normal_interval():
    values = 3 + 2 * normal(0, 200)
    found = bootstrap(lambda chosen: values[chosen].mean(), 200, resamples=4000)
    reach = 1.96 * values.std().item() / math.sqrt(200)
    assert isinstance(found.value, float) and found.value == pytest.approx(values.mean().item())
    assert found.low == pytest.approx(found.value - reach, abs=0.03)
    assert found.high == pytest.approx(found.value + reach, abs=0.03)


def test_whole_images_are_drawn_as_many_as_there_are():
    drawn = []
    bootstrap(lambda chosen: drawn.append(chosen) or 0.0, 5, resamples=300)
    assert len(drawn) == 301 and all(len(chosen) == 5 for chosen in drawn)
    counts = torch.bincount(torch.cat(drawn[:-1]), minlength=5)
    assert len(counts) == 5 and counts.min() > 220 and counts.max() < 380
    assert max(torch.bincount(chosen).max() for chosen in drawn[:-1]) > 2  # with replacement
    assert drawn[-1].tolist() == [0, 1, 2, 3, 4]


def test_a_curve_gets_a_band_point_by_point():
    curves = normal(2, 40, 7)
    band = bootstrap(lambda chosen: curves[chosen].mean(dim=0), 40)
    assert band.value.shape == band.low.shape == band.high.shape == (7,)
    assert (band.low < band.value).all() and (band.value < band.high).all()
    one = bootstrap(lambda chosen: curves[chosen, 3].mean(), 40)
    assert (band.low[3], band.high[3]) == pytest.approx((one.low, one.high))


def test_images_cover_the_truth_where_pixels_do_not():
    """Each image has its own level, its 50 pixels little besides: pixels pretend to know 50 times as much."""
    hits = {"images": 0, "pixels": 0}
    for trial in range(100):
        pixels = normal(trial, 25, 1) + 0.3 * normal(1000 + trial, 25, 50)
        images, flat = pixels.mean(dim=1), pixels.flatten()
        by_image = bootstrap(lambda chosen, rows=images: rows[chosen].mean(), len(images), 200)
        by_pixel = bootstrap(lambda chosen, rows=flat: rows[chosen].mean(), len(flat), 200)
        hits["images"] += by_image.low <= 0 <= by_image.high
        hits["pixels"] += by_pixel.low <= 0 <= by_pixel.high
    assert hits["images"] >= 86 and hits["pixels"] < 50


def test_bootstrap_refuses():
    for arguments in ((1, 100, 0.95), (10, 1, 0.95), (10, 100, 1.0), (10, 100, 0.0)):
        with pytest.raises(UserError, match=f"{arguments[0]} images, {arguments[1]} resamples"):
            bootstrap(lambda chosen: 0.0, *arguments)


def test_seeds_and_clips_are_drawn_apart_and_clips_of_one_film_together():
    rng = np.random.default_rng(0)
    clips, seeds = rng.normal(0, 2, 60), rng.normal(0, 0.5, (4, 1))
    alone = crossed_bootstrap(clips[None])
    assert alone.value == pytest.approx(clips.mean())
    assert (alone.high - alone.low) / 2 == pytest.approx(1.96 * clips.std() / math.sqrt(60), rel=0.05)
    both = crossed_bootstrap(clips + seeds)
    spread = math.hypot(clips.std() / math.sqrt(60), seeds.std() / 2)
    assert (both.high - both.low) / 2 == pytest.approx(1.96 * spread, rel=0.1)
    films = np.arange(60) // 6  # ten films of six equal clips have as much to say as ten clips
    same = np.repeat(clips[:10], 6)[None]
    assert crossed_bootstrap(same, films)[1:] == pytest.approx(crossed_bootstrap(clips[None, :10])[1:])
    assert crossed_bootstrap(same).high < crossed_bootstrap(same, films).high
    uneven = crossed_bootstrap(np.array([[0.0, 3.0, 3.0, 3.0]]), ["a", "b", "b", "b"])  # neither, one, or both films
    assert (uneven.value, uneven.low, uneven.high) == (2.25, 0, 3)
    for wrong in (np.zeros(5), np.zeros((2, 1)), np.full((2, 3), np.nan)):
        for interval in (crossed_bootstrap, crossed_interval):
            with pytest.raises(UserError, match="finite"):
                interval(wrong)


@pytest.mark.parametrize(
    ("seeds", "of_seeds", "of_films"), [(3, 1.0, 0.5), (3, 0.2, 3.0), (5, 1.0, 0.1), (1, 0.0, 2.0)]
)
def test_the_crossed_interval_holds_the_truth_as_often_as_it_says(seeds, of_seeds, of_films):
    rng, films, held = np.random.default_rng(0), np.arange(60) // 3, 0
    for _ in range(400):
        shared = rng.normal(0, of_films, 20)[films] + rng.normal(0, of_seeds, (seeds, 1))
        found = crossed_interval(7 + shared + rng.normal(0, 1, (seeds, 60)), films)
        held += found.low <= 7 <= found.high
    assert 0.92 <= held / 400 <= 0.995


def test_the_crossed_interval_of_one_seed_or_of_equal_seeds_is_student_s_over_films():
    values = np.random.default_rng(1).normal(size=30)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    for rows in (1, 3):
        assert crossed_interval(np.repeat(values[None], rows, axis=0))[1:] == pytest.approx(expected)
    threefold = crossed_interval(values.repeat(3)[None], np.arange(30).repeat(3))
    assert threefold[1:] == pytest.approx(expected)
    assert crossed_interval(np.full((3, 5), 2.0)) == (2, 2, 2)


# --- paired differences -------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=2, max_size=8))
def test_paired_difference_equals_the_formula(rows):
    ours, theirs = (np.round(column, 3) for column in zip(*rows, strict=True))
    found = paired_difference(ours, theirs)
    error = (ours - theirs).std(ddof=1) / math.sqrt(len(ours))
    if error < 1e-9:
        assert found.low == pytest.approx(found.mean) and found.high == pytest.approx(found.mean)
        return
    reach = stats.t.ppf(0.975, len(ours) - 1) * error
    assert (found.low, found.high) == pytest.approx((found.mean - reach, found.mean + reach), rel=1e-9, abs=1e-9)
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(found.mean) / error, len(ours) - 1), abs=1e-9)


def test_paired_difference_by_hand():
    found = paired_difference([0.50, 0.52, 0.57], [0.49, 0.50, 0.54])
    assert found.mean == pytest.approx(0.02)
    assert found.high - found.mean == pytest.approx(4.3027 * 0.01 / math.sqrt(3), rel=1e-4)
    assert found.p_value == pytest.approx(stats.t.sf(2 * math.sqrt(3), 2) * 2)


def test_equal_differences_have_no_width():
    assert paired_difference([1.0, 2.0], [1.0, 2.0]) == (0, 0, 0, 1)
    assert paired_difference([1.5, 2.5], [1.0, 2.0]) == (0.5, 0.5, 0.5, 0)
    assert paired_difference([0.3, 0.4, 0.7], [0.1, 0.2, 0.5])[1:] == pytest.approx([0.2, 0.2, 0])  # but for rounding


def test_paired_difference_refuses():
    for ours, theirs in (([1.0], [1.0]), ([1.0, 2.0], [1.0]), ([], [])):
        with pytest.raises(UserError, match="2 or more pairs"):
            paired_difference(ours, theirs)
    with pytest.raises(UserError, match="NaN or infinite"):
        paired_difference([1.0, math.nan], [1.0, 2.0])


# --- trend --------------------------------------------------------------------------------------------------


def test_a_clear_rise():
    levels = normal(0, 30, 1)
    values = 5 * levels + torch.arange(6.0) + 0.3 * normal(1, 30, 6)  # clips differ by more than the whole rise
    found = trend(values)
    assert not found.falls_somewhere
    assert (found.steps.low > 0).all() and found.p_value < 1e-6
    assert found.kendall.value > 0.95 and found.kendall.low > 0.9
    np.testing.assert_allclose(found.mean.value, values.mean(dim=0))
    np.testing.assert_allclose(found.steps.value, values.mean(dim=0).diff(), atol=1e-12)


def test_a_drop_among_rises_is_found():
    values = torch.tensor([0.0, 1, 2, 1, 3, 4]) + 0.2 * normal(2, 30, 6)
    found = trend(values)
    assert found.falls_somewhere
    assert found.steps.high[2] < 0 and found.p_value < 1e-6  # an overall rise does not make it monotone


def test_a_fall_is_its_mirror():
    values = -torch.arange(4.0) + 0.1 * normal(3, 20, 4)
    found = trend(values)
    assert found.kendall.value == pytest.approx(-trend(-values).kendall.value)
    assert found.p_value > 0.999


def test_kendall_by_hand():
    found = trend(torch.tensor([[1.0, 2, 3], [1.0, 3, 2], [2.0, 2, 2]]))
    assert found.kendall.value == pytest.approx((1 + 1 / 3 + 0) / 3)


def test_noise_is_seldom_taken_for_a_trend():
    seen, falls = 0, 0
    for trial in range(40):
        found = trend(normal(trial, 25, 5))
        seen += found.p_value < 0.05
        falls += found.falls_somewhere
    assert seen <= 6 and falls <= 6


def test_the_joint_steps_are_wider_than_single_ones():
    values = normal(4, 50, 9)
    found = trend(values)
    steps = values.diff(dim=1)
    single = bootstrap(lambda chosen: steps[chosen].mean(dim=0), 50)
    assert (found.steps.high - found.steps.low > single.high - single.low).all()


def test_trend_refuses():
    for wrong in (torch.ones(3), torch.ones(1, 5), torch.ones(5, 2)):
        with pytest.raises(UserError, match=r"expected \(images, conditions\)"):
            trend(wrong)
    with pytest.raises(UserError, match="NaN"):
        trend(torch.full((3, 4), math.nan))
