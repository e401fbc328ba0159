"""NLL, CRPS and PIT against numerical integration, Monte Carlo, SciPy and values known in closed form."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from lib.errors import UserError
from lib.evaluation.proper_scores import (
    gaussian_crps,
    gaussian_nll,
    gaussian_pit,
)

values = st.floats(-50, 50)
spreads = st.floats(0.05, 20)


def tensors(*numbers):
    return [torch.tensor([float(number)], dtype=torch.float64) for number in numbers]


def integrated_crps(cdf, target, lower, upper):
    """Integral of (F(x) - [x >= target])^2, split at the jump."""
    below = integrate.quad(lambda x: cdf(x) ** 2, lower, target, limit=400, epsabs=1e-10)[0]
    above = integrate.quad(lambda x: (1 - cdf(x)) ** 2, target, upper, limit=400, epsabs=1e-10)[0]
    return below + above


# --- one Gaussian -------------------------------------------------------------------------------------------


@given(target=values, mean=values, sigma=spreads)
def test_gaussian_nll_and_pit_equal_scipy(target, mean, sigma):
    given_values = tensors(target, mean, sigma**2)
    law = stats.norm(mean, sigma)
    assert gaussian_nll(*given_values).item() == pytest.approx(-law.logpdf(target), rel=1e-9, abs=1e-9)
    assert gaussian_pit(*given_values).item() == pytest.approx(law.cdf(target), abs=1e-12)


@pytest.mark.parametrize(("target", "mean", "sigma"), [(0, 0, 1), (1.3, 0.2, 0.5), (-4, 1, 2), (6, 0, 0.7)])
def test_gaussian_crps_equals_the_integral(target, mean, sigma):
    lower, upper = min(target, mean) - 12 * sigma, max(target, mean) + 12 * sigma
    expected = integrated_crps(stats.norm(mean, sigma).cdf, target, lower, upper)
    assert gaussian_crps(*tensors(target, mean, sigma**2)).item() == pytest.approx(expected, abs=1e-7)


def test_a_calibrated_gaussian_scores_its_entropy_and_sigma_over_root_pi():
    generator = torch.Generator().manual_seed(0)
    sigma = 0.5 + 2 * torch.rand(400_000, generator=generator)
    mean = torch.randn(400_000, generator=generator)
    target = mean + sigma * torch.randn(400_000, generator=generator)
    entropy = 0.5 * torch.log(2 * math.pi * math.e * sigma.double() ** 2)
    assert gaussian_nll(target, mean, sigma**2).mean().item() == pytest.approx(entropy.mean().item(), abs=0.005)
    expected = sigma.mean().item() / math.sqrt(math.pi)
    assert gaussian_crps(target, mean, sigma**2).mean().item() == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("score", [gaussian_nll, gaussian_crps])
@pytest.mark.parametrize(("shift", "factor"), [(0.4, 1.0), (0.0, 1.5), (0.0, 0.7), (-0.3, 1.3)])
def test_the_true_distribution_scores_best(score, shift, factor):
    target = torch.randn(200_000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    zero, one = torch.zeros_like(target), torch.ones_like(target)
    assert score(target, zero, one).mean() + 0.005 < score(target, zero + shift, one * factor**2).mean()


def test_crps_without_spread_is_the_absolute_error():
    target, mean = tensors(3.0, 1.25)
    assert gaussian_crps(target, mean, torch.full_like(target, 1e-18)).item() == pytest.approx(1.75, abs=1e-8)


@given(target=values, mean=values, sigma=spreads, scale=st.floats(0.1, 10), shift=values)
def test_scores_follow_a_change_of_units(target, mean, sigma, scale, shift):
    before = tensors(target, mean, sigma**2)
    after = tensors(scale * target + shift, scale * mean + shift, (scale * sigma) ** 2)
    close = {"rel": 1e-6, "abs": 1e-6}
    assert gaussian_crps(*after).item() == pytest.approx(scale * gaussian_crps(*before).item(), **close)
    assert gaussian_nll(*after).item() == pytest.approx(gaussian_nll(*before).item() + math.log(scale), **close)


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", [gaussian_nll, gaussian_crps, gaussian_pit])
def test_gaussian_scores_refuse_what_is_no_prediction(score):
    ones = torch.ones(2, 3)
    with pytest.raises(UserError, match=r"shapes differ: target \(2, 3\), mean \(2, 3\), variance \(3,\)"):
        score(ones, ones, torch.ones(3))
    with pytest.raises(UserError, match="variance must be above 0, the smallest is 0"):
        score(ones, ones, torch.zeros(2, 3))
    with pytest.raises(UserError, match="variance must be above 0, the smallest is -1"):
        score(ones, ones, -ones)
    with pytest.raises(UserError, match="mean holds NaN"):
        score(ones, ones * math.nan, ones)
    with pytest.raises(UserError, match="are empty"):
        score(torch.ones(0), torch.ones(0), torch.ones(0))


def test_half_precision_is_computed_in_double_and_without_gradient():
    target = torch.full((4,), 0.5, dtype=torch.bfloat16)
    mean = torch.zeros(4, requires_grad=True)
    found = gaussian_nll(target, mean, torch.full((4,), 0.25, dtype=torch.float16))
    assert found.dtype == torch.float64 and not found.requires_grad
    assert found[0].item() == pytest.approx(-stats.norm(0, 0.5).logpdf(0.5), abs=1e-12)
