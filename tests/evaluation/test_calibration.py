"""Reliability, calibration errors, sharpness and recalibration on distributions whose answer is known."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression

from lib.errors import UserError
from lib.evaluation.calibration import (
    coverage,
    expected_calibration_error,
    fit_scale,
    isotonic_recalibration,
    sharpness,
)
from lib.evaluation.proper_scores import gaussian_nll, gaussian_pit

COUNT, NONE = 200_000, torch.zeros(1)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(seed: int, factor: float = 1.0, count: int = COUNT) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Target, mean and predicted variance; the predicted sigma, between 0.5 and 2.5, is `factor` times the true."""
    sigma = 0.5 + 2 * torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    mean = 3 * normal(seed + 1, count)
    return mean + sigma / factor * normal(seed + 2, count), mean, sigma**2


# --- coverage and ECE ---------------------------------------------------------------------------------------


def error_of(pit: torch.Tensor) -> float:
    """The calibration error of PITs, all pooled."""
    return float(expected_calibration_error(coverage(pit.reshape(1, -1))))


def test_coverage_by_hand():
    pit = torch.tensor([[0.1, 0.5, 0.5, 0.9], [0.0, 1.0, 0.25, 0.3]], dtype=torch.float64)
    found = coverage(pit)[:, [24, 49, 59]]  # at 0.25, 0.5 and 0.6
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.75, 0.75], [0.5, 0.75, 0.75]]).double())


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(1, 99))
def test_coverage_equals_a_count(pit, percent):
    expected = sum(value <= percent / 100 for value in pit) / len(pit)
    found = coverage(torch.tensor([pit], dtype=torch.float64))[0]
    assert found[percent - 1].item() == pytest.approx(expected, abs=1e-12)
    assert (found.diff() >= 0).all()


def test_images_are_kept_apart_and_their_mean_is_pooled():
    pit = gaussian_pit(*gaussian(0)).reshape(50, 40, 100)
    found = coverage(pit)
    assert found.shape == (50, 99)
    torch.testing.assert_close(found[7], coverage(pit[7][None])[0])
    torch.testing.assert_close(found.mean(0), coverage(pit.reshape(1, -1))[0])


def test_a_calibrated_gaussian_has_no_calibration_error():
    pit = gaussian_pit(*gaussian(0))
    assert error_of(pit) < 0.003


@pytest.mark.parametrize("factor", [0.5, 2.0, 4.0])
def test_a_spread_wrong_by_a_factor_has_the_known_error(factor):
    pit = gaussian_pit(*gaussian(3, factor))
    expected = abs(math.atan(factor) - math.pi / 4) / math.pi
    assert error_of(pit) == pytest.approx(expected, abs=0.003)


def test_all_truths_at_one_end_are_the_worst():
    assert error_of(torch.ones(5)) == pytest.approx(0.5)
    assert error_of(torch.zeros(5)) == pytest.approx(0.5)


# --- sharpness ----------------------------------------------------------------------------------------------


def test_sharpness_by_hand():
    assert sharpness(torch.tensor([1.0, 7.0])) == pytest.approx(2.0)


# --- recalibration ------------------------------------------------------------------------------------------


def test_the_scale_is_the_best_of_a_grid():
    target, mean, variance = gaussian(7, 1.7, count=3000)
    best = fit_scale(target - mean, variance)
    nll = {factor: gaussian_nll(target, mean, (best * factor) ** 2 * variance).mean().item() for factor in (0.99, 1.01)}
    grid = torch.linspace(0.3, 2, 171)
    scores = torch.stack([gaussian_nll(target, mean, scale**2 * variance).mean() for scale in grid])
    assert best == pytest.approx(grid[scores.argmin()].item(), abs=0.01)
    assert all(score > gaussian_nll(target, mean, best**2 * variance).mean() for score in nll.values())
    assert best == pytest.approx(1 / 1.7, abs=0.02)


@given(factor=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_nll_after_the_scale_does_not_depend_on_the_units_of_sigma(factor, seed):
    target, mean, variance = gaussian(seed, count=50)
    scores = []
    for given_variance in (variance, factor**2 * variance):
        scale = fit_scale(target - mean, given_variance)
        scores.append(gaussian_nll(target, mean, scale**2 * given_variance))
    torch.testing.assert_close(*scores)


def test_a_scale_fitted_on_one_half_calibrates_the_other():
    target, mean, variance = (part.reshape(2, -1) for part in gaussian(9, 0.25))
    before = gaussian_pit(target[1], mean[1], variance[1])
    scale = fit_scale(target[0] - mean[0], variance[0])
    after = gaussian_pit(target[1], mean[1], scale**2 * variance[1])
    assert error_of(before) > 0.15 and error_of(after) < 0.005


def test_isotonic_mends_what_no_scale_can():
    """A truth that is not Gaussian, with a shifted mean: the shape of the distribution is wrong."""
    truth = -torch.log(torch.rand(2, COUNT, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    mean, variance = torch.full_like(truth, 2.0), torch.full_like(truth, 0.5)
    scale = fit_scale(truth[0] - mean[0], variance[0])
    scaled = gaussian_pit(truth, mean, scale**2 * variance)
    mended = isotonic_recalibration(scaled[0], scaled[1])
    assert error_of(scaled[1]) > 0.1
    assert error_of(mended) < 0.005


@given(st.lists(st.integers(0, 20), min_size=1, max_size=40))
def test_isotonic_is_the_isotonic_regression_of_kuleshovs_data(twentieths):
    pit = torch.tensor(sorted(twentieths), dtype=torch.float64) / 20
    fractions = (pit[:, None] >= pit).double().mean(dim=1)  # empirical distribution function at each PIT
    fitted = torch.from_numpy(isotonic_regression(fractions.numpy()).x.copy())
    torch.testing.assert_close(isotonic_recalibration(pit, pit), fitted, rtol=0, atol=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.lists(st.floats(0, 1), min_size=2, max_size=40))
def test_isotonic_rises_within_the_unit_interval(held_out, queried):
    mended = isotonic_recalibration(torch.tensor(held_out, dtype=torch.float64), torch.tensor(sorted(queried)))
    assert (mended.diff() >= 0).all() and mended.min() >= 0 and mended.max() <= 1


def test_isotonic_by_hand():
    held_out = torch.tensor([0.2, 0.4, 0.4, 0.8])
    pit = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 0.9, 1.0])
    expected = torch.tensor([0.0, 0.125, 0.25, 0.5, 0.75, 0.875, 1.0, 1.0, 1.0])
    torch.testing.assert_close(isotonic_recalibration(held_out, pit), expected.double(), atol=1e-6, rtol=0)


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "measure", [coverage, lambda pit: isotonic_recalibration(pit, pit), lambda pit: isotonic_recalibration(NONE, pit)]
)
def test_pits_must_be_fractions(measure):
    for wrong, words in (([[1.2]], "outside 0..1"), ([[-0.1]], "outside 0..1"), ([[math.nan]], "NaN"), ([[]], "empty")):
        with pytest.raises(UserError, match=words):
            measure(torch.tensor(wrong))


def test_errors_and_variances_must_fit():
    with pytest.raises(UserError, match="shapes differ"):
        fit_scale(torch.ones(3), torch.ones(2))
    with pytest.raises(UserError, match="variance must be above 0"):
        fit_scale(torch.ones(3), torch.zeros(3))
    with pytest.raises(UserError, match="every held-out error is 0"):
        fit_scale(torch.zeros(3), torch.ones(3))
    with pytest.raises(UserError, match="variance must be above 0"):
        sharpness(torch.zeros(3))
