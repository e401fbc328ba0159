"""NLL, CRPS and PIT against numerical integration, Monte Carlo, SciPy and values known in closed form."""

import math

import numpy as np
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
    mixture_crps,
    mixture_nll,
    mixture_pit,
    student_t_nll,
    student_t_pit,
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


# --- mixtures -----------------------------------------------------------------------------------------------

MEANS, SIGMAS = np.array([-1.0, 0.5, 3.0, 0.5]), np.array([0.4, 1.0, 0.2, 2.0])


def mixture(target):
    target = torch.as_tensor(target, dtype=torch.float64)
    shape = (len(MEANS), *[1] * target.ndim)
    means, variances = (torch.from_numpy(part).reshape(shape).expand(-1, *target.shape) for part in (MEANS, SIGMAS**2))
    return target, means, variances


@pytest.mark.parametrize("target", [-6.0, -1.0, 0.7, 2.9, 11.0])
def test_mixture_scores_equal_the_integral_and_scipy(target):
    arguments = mixture([target])
    law = stats.norm(MEANS, SIGMAS)
    assert mixture_nll(*arguments).item() == pytest.approx(-math.log(law.pdf(target).mean()), rel=1e-10)
    assert mixture_pit(*arguments).item() == pytest.approx(law.cdf(target).mean(), abs=1e-12)
    expected = integrated_crps(lambda x: law.cdf(x).mean(), target, -25, 30)
    assert mixture_crps(*arguments).item() == pytest.approx(expected, abs=1e-6)


def test_mixture_crps_equals_monte_carlo():
    rng = np.random.default_rng(0)
    member = rng.integers(0, len(MEANS), (2, 400_000))
    x, other = MEANS[member] + SIGMAS[member] * rng.standard_normal(member.shape)
    expected = np.abs(x - 1.2).mean() - np.abs(x - other).mean() / 2
    assert mixture_crps(*mixture([1.2])).item() == pytest.approx(expected, abs=0.01)


def test_equal_members_are_one_gaussian():
    target, mean = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    variance = torch.full_like(mean, 0.3)
    stacked = mean.expand(4, 3, 5), variance.expand(4, 3, 5)
    for of_mixture, of_one in (
        (mixture_nll, gaussian_nll),
        (mixture_crps, gaussian_crps),
        (mixture_pit, gaussian_pit),
    ):
        torch.testing.assert_close(of_mixture(target, *stacked), of_one(target, mean, variance))


@given(target=values, seed=st.integers(0, 1000), members=st.integers(1, 5))
def test_a_mixture_is_no_worse_than_its_members_on_average(target, seed, members):
    """Both scores are convex in the distribution: why an ensemble cannot lose to its average member."""
    generator = torch.Generator().manual_seed(seed)
    means = 5 * torch.randn(members, 1, generator=generator, dtype=torch.float64)
    variances = 0.1 + torch.rand(members, 1, generator=generator, dtype=torch.float64)
    (target,) = tensors(target)
    alone = target.expand_as(means)
    assert mixture_nll(target, means, variances) <= gaussian_nll(alone, means, variances).mean() + 1e-9
    assert mixture_crps(target, means, variances) <= gaussian_crps(alone, means, variances).mean() + 1e-9


# --- Student's t --------------------------------------------------------------------------------------------


@given(target=values, location=values, scale=spreads, degrees=st.floats(0.5, 1e7))
def test_student_t_equals_scipy(target, location, scale, degrees):
    arguments = tensors(target, location, scale**2, degrees)
    law = stats.t(degrees, location, scale)
    assert student_t_nll(*arguments).item() == pytest.approx(-law.logpdf(target), rel=1e-6, abs=1e-6)
    assert student_t_pit(*arguments).item() == pytest.approx(law.cdf(target), abs=1e-9)


def test_many_degrees_of_freedom_are_a_gaussian():
    arguments = tensors(1.7, 0.2, 0.8)
    assert student_t_nll(*arguments, *tensors(1e7)).item() == pytest.approx(gaussian_nll(*arguments).item(), abs=1e-6)


def test_evidential_parameters_are_the_integral_over_their_prior():
    """The t density with the documented parameters is N(y; mu, s2) averaged over the normal-inverse-gamma law."""
    gamma, nu, alpha, beta, target = 0.3, 2.0, 3.0, 1.5, 1.1
    rng = np.random.default_rng(0)
    variance = stats.invgamma.rvs(alpha, scale=beta, size=400_000, random_state=rng)
    # given the variance, mean and noise are normal and independent: their variances add
    density = stats.norm.pdf(target, gamma, np.sqrt(variance * (1 + 1 / nu))).mean()
    found = student_t_nll(*tensors(target, gamma, beta * (1 + nu) / (nu * alpha), 2 * alpha)).item()
    assert found == pytest.approx(-math.log(density), abs=0.01)


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


@pytest.mark.parametrize("score", [mixture_nll, mixture_crps, mixture_pit])
def test_mixture_scores_refuse_what_is_no_mixture(score):
    target, means = torch.ones(2, 3), torch.ones(4, 2, 3)
    for wrong in (torch.ones(2, 3), torch.ones(0, 2, 3), torch.ones(4, 3, 2)):
        with pytest.raises(UserError, match=r"expected \(M, ...\)"):
            score(target, wrong, wrong)
    with pytest.raises(UserError, match="shapes differ"):
        score(target, means, torch.ones(3, 2, 3))
    with pytest.raises(UserError, match="must be above 0"):
        score(target, means, torch.zeros_like(means))


@pytest.mark.parametrize("score", [student_t_nll, student_t_pit])
def test_student_t_refuses_what_is_no_distribution(score):
    ones = torch.ones(3)
    with pytest.raises(UserError, match="squared_scale must be above 0"):
        score(ones, ones, 0 * ones, ones)
    with pytest.raises(UserError, match="degrees must be above 0"):
        score(ones, ones, ones, 0 * ones)


def test_half_precision_is_computed_in_double_and_without_gradient():
    target = torch.full((4,), 0.5, dtype=torch.bfloat16)
    mean = torch.zeros(4, requires_grad=True)
    found = gaussian_nll(target, mean, torch.full((4,), 0.25, dtype=torch.float16))
    assert found.dtype == torch.float64 and not found.requires_grad
    assert found[0].item() == pytest.approx(-stats.norm(0, 0.5).logpdf(0.5), abs=1e-12)
