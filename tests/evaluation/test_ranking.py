"""Sparsification, AUSE, Spearman and AUROC against slow references and orders whose answer is known."""

import math
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lib.errors import UserError
from lib.evaluation.ranking import Sparsification, auroc, of_hidden, patch_ranks, sparsification, spearman

few = st.integers(0, 4).map(float)  # many ties
pairs = st.lists(st.tuples(st.floats(0.01, 9), few), min_size=2, max_size=30)


def columns(rows):
    return (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))


def seeded(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ratio(found: Sparsification) -> float:
    return float(found.ause.mean() / found.random_ause.mean())


# --- sparsification -----------------------------------------------------------------------------------------


def test_sparsification_by_hand():
    error = torch.tensor([[3.0, 2.0, 1.0], [0.0, 0.0, 6.0]])
    found = sparsification(error, torch.tensor([[1.0, 3.0, 2.0], [0.1, 0.2, 0.3]]))
    torch.testing.assert_close(found.removed, torch.tensor([0, 1 / 3, 2 / 3]).double())
    torch.testing.assert_close(found.oracle, torch.tensor([[1.0, 0.75, 0.5], [1, 0, 0]]).double())
    torch.testing.assert_close(found.curve, torch.tensor([[1.0, 1.0, 1.5], [1, 0, 0]]).double())
    torch.testing.assert_close(found.ause, torch.tensor([1.25 / 3, 0.0]).double())
    torch.testing.assert_close(found.random_ause, torch.tensor([0.25, 2 / 3]).double())
    assert ratio(found) == pytest.approx(1.25 / 2.75)


@given(pairs)
def test_curves_equal_a_slow_reading_with_ties_in_every_order(rows):
    error, uncertainty = columns(rows[:5])
    curves = []
    for order in permutations(range(len(error))):
        ranked = sorted(order, key=lambda i: uncertainty[i])  # stable: ties stay as the permutation has them
        rest = [error[ranked[: len(ranked) - k]].mean() / error.mean() for k in range(len(ranked))]
        curves.append(torch.stack(rest))
    found = sparsification(error[None], uncertainty[None])
    torch.testing.assert_close(found.curve[0], torch.stack(curves).mean(dim=0))


@given(pairs)
def test_the_oracle_has_no_area_and_nothing_is_below_it(rows):
    error, uncertainty = columns(rows)
    assert sparsification(error[None], error[None]).ause.item() == pytest.approx(0, abs=1e-12)
    found = sparsification(error[None], uncertainty[None])
    assert (found.curve >= found.oracle - 1e-12).all() and (found.random_ause >= -1e-12).all()


def test_known_areas_of_uniform_errors():
    """With errors even on 0..1 the oracle's curve is 1 - f: a random order has area 1/2, the worst 1."""
    error = (torch.arange(4000, dtype=torch.float64)[None] + 0.5) / 4000
    found = sparsification(error, -error)
    assert found.random_ause.item() == pytest.approx(0.5, abs=1e-3)
    assert found.ause.item() == pytest.approx(1.0, abs=1e-3)
    assert ratio(found) == pytest.approx(2.0, abs=1e-3)


def test_a_random_order_has_the_stated_area_and_a_constant_has_it_exactly():
    error = seeded(0, 300, 100).log().abs()  # exponential errors
    found = sparsification(error, seeded(1, 300, 100))
    assert ratio(found) == pytest.approx(1, abs=0.03)
    constant = sparsification(error, torch.full_like(error, 0.7))
    torch.testing.assert_close(constant.ause, constant.random_ause)
    # exponential: the rest after the largest share f has mean 1 + (f / (1 - f)) ln f; its mean over f is 2 - pi^2 / 6
    assert found.random_ause.mean().item() == pytest.approx(math.pi**2 / 6 - 1, abs=0.02)


@given(pairs, st.floats(0.01, 100))
def test_only_the_order_of_uncertainty_and_the_ratio_of_errors_count(rows, scale):
    error, uncertainty = columns(rows)
    first = sparsification(error[None], uncertainty[None])
    second = sparsification(scale * error[None], uncertainty[None].exp() - 3)
    torch.testing.assert_close(first.curve, second.curve)
    torch.testing.assert_close(first.oracle, second.oracle)


def test_pooling_is_one_row_and_differs_from_images():
    """Uncertainty that knows which image is hard, and nothing within an image."""
    error = torch.tensor([1.0, 10.0])[:, None] * (0.5 + seeded(0, 2, 200))
    uncertainty = torch.tensor([1.0, 10.0])[:, None].expand(2, 200)
    assert ratio(sparsification(error, uncertainty)) == pytest.approx(1)
    assert ratio(sparsification(error.reshape(1, -1), uncertainty.reshape(1, -1))) < 0.3


def test_equal_errors_leave_nothing_to_rank():
    assert math.isnan(ratio(sparsification(torch.ones(1, 4), seeded(0, 1, 4))))


# --- rank correlation ---------------------------------------------------------------------------------------


@given(st.lists(st.tuples(few, few), min_size=2, max_size=30))
def test_spearman_equals_scipy(rows):
    first, second = columns(rows)
    found = spearman(first, second).item()
    if first.unique().numel() == 1 or second.unique().numel() == 1:
        assert found == 0
    else:
        assert found == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-9)


@given(st.lists(st.tuples(st.floats(-5, 5), few), min_size=2, max_size=30))
def test_spearman_under_monotone_maps(rows):
    first, second = columns(rows)
    first = first.round(decimals=3)  # maps must not merge values that differ by a rounding error
    found = spearman(first, second).item()
    assert spearman(first.exp(), second**3 + second).item() == pytest.approx(found, abs=1e-12)
    assert spearman(-first, second).item() == pytest.approx(-found, abs=1e-12)
    assert spearman(second, first).item() == pytest.approx(found, abs=1e-12)


def test_spearman_per_image_and_pooled():
    hard = torch.tensor([0.0, 100.0])[:, None]  # the second image is harder and known to be
    sigma, error = hard + torch.tensor([[1.0, 2, 3], [1, 2, 3]]), hard + torch.tensor([[3.0, 2, 1], [3, 2, 1]])
    torch.testing.assert_close(spearman(sigma, error), torch.tensor([-1.0, -1.0]).double())
    assert spearman(sigma.flatten(), error.flatten()).item() == pytest.approx(19 / 35)
    assert spearman(sigma.expand(5, 2, 3), error.expand(5, 2, 3)).shape == (5, 2)


def test_spearman_of_a_bivariate_normal():
    """For normals with correlation r it is 6 / pi * arcsin(r / 2)."""
    first, noise = torch.randn(2, 100_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = spearman(first, 0.6 * first + 0.8 * noise).item()
    assert found == pytest.approx(6 / math.pi * math.asin(0.3), abs=0.01)


# --- AUROC --------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(few, st.booleans()), min_size=2, max_size=40))
def test_auroc_equals_all_pairs(rows):
    high = [score for score, positive in rows if positive]
    low = [score for score, positive in rows if not positive]
    scores, positive = torch.tensor([row[0] for row in rows]), torch.tensor([row[1] for row in rows])
    if not high or not low:
        with pytest.raises(UserError, match="AUROC compares positives with negatives"):
            auroc(scores, positive)
        return
    wins = sum((h > n) + 0.5 * (h == n) for h in high for n in low)
    assert auroc(scores, positive) == pytest.approx(wins / len(high) / len(low), abs=1e-12)
    assert auroc(scores.exp(), positive) == pytest.approx(auroc(scores, positive), abs=1e-12)
    assert auroc(scores, ~positive) == pytest.approx(1 - auroc(scores, positive), abs=1e-12)


def test_auroc_of_two_normals():
    """Unit normals whose means differ by d: Phi(d / sqrt 2)."""
    score = torch.randn(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    positive = torch.arange(200_000) % 5 == 0
    expected = stats.norm.cdf(1.2 / math.sqrt(2))
    assert auroc((score + 1.2 * positive).reshape(200, 1000), positive.reshape(200, 1000)) == pytest.approx(
        expected, abs=0.005
    )
    assert auroc(torch.full((6,), 3.0), torch.arange(6) < 2) == 0.5


# --- patches ------------------------------------------------------------------------------------------------


def test_patch_ranks_by_hand():
    target = torch.tensor([[[1.0, 3.0], [0.0, 0.0]]])
    ranks = patch_ranks(target, torch.zeros(1, 2, 2), torch.tensor([[[1.0, 7.0], [0.0, 0.0]]]))
    assert ranks.sigma.tolist() == [[2.0, 0.0]]
    assert ranks.squared_error.tolist() == [[5.0, 0.0]]
    assert ranks.absolute_error.tolist() == [[2.0, 0.0]]


def test_patch_ranks_refuse():
    ones = torch.ones(2, 3, 4)
    with pytest.raises(UserError, match=r"expected \(images, patches, values\)"):
        patch_ranks(ones[0], ones[0], ones[0])
    with pytest.raises(UserError, match="below 0"):
        patch_ranks(ones, ones, -ones)


# --- hidden patches, and what is refused --------------------------------------------------------------------


def test_hidden_patches_stay_in_their_sample_and_order():
    values = torch.arange(8.0).reshape(2, 4)
    hidden = torch.tensor([[True, False, True, False], [False, False, True, True]])
    assert of_hidden(values, hidden).tolist() == [[0, 2], [6, 7]]
    deep = values[..., None, None].expand(2, 4, 3, 5)
    assert of_hidden(deep, hidden).shape == (2, 2, 3, 5)
    torch.testing.assert_close(of_hidden(deep, hidden)[..., 0, 0], of_hidden(values, hidden))


def test_hidden_refuses_masks_that_do_not_fit():
    values = torch.ones(2, 3)
    with pytest.raises(UserError, match="nothing is hidden"):
        of_hidden(values, torch.zeros(2, 3, dtype=torch.bool))
    with pytest.raises(UserError, match="nothing is hidden"):
        of_hidden(torch.ones(0, 3), torch.zeros(0, 3, dtype=torch.bool))
    with pytest.raises(UserError, match="samples hide 1 to 3 patches"):
        of_hidden(values, torch.tensor([[True, False, False], [True, True, True]]))
    for wrong in (torch.ones(2, 3), torch.ones(2, 4, dtype=torch.bool), torch.ones(3, dtype=torch.bool)):
        with pytest.raises(UserError, match=r"expected \(B, N, ...\) and bool"):
            of_hidden(values, wrong)


def test_sparsification_refuses():
    ones = torch.ones(2, 3)
    with pytest.raises(UserError, match="shapes differ"):
        sparsification(ones, torch.ones(2, 4))
    with pytest.raises(UserError, match=r"expected \(images, values\)"):
        sparsification(ones[0], ones[0])
    with pytest.raises(UserError, match="squared or absolute"):
        sparsification(-ones, ones)
    with pytest.raises(UserError, match="image 1 has no error"):
        sparsification(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.ones(2, 2))
    with pytest.raises(UserError, match="are empty"):
        sparsification(torch.ones(2, 0), torch.ones(2, 0))


def test_rank_measures_refuse():
    for wrong in (torch.tensor(1.0), torch.ones(3, 1)):
        with pytest.raises(UserError, match="needs 2 or more"):
            spearman(wrong, wrong)
    with pytest.raises(UserError, match="NaN"):
        spearman(torch.tensor([1.0, math.nan]), torch.ones(2))
    with pytest.raises(UserError, match="give bool"):
        auroc(torch.ones(3), torch.ones(3))
    with pytest.raises(UserError, match="shapes differ"):
        auroc(torch.ones(3), torch.ones(4, dtype=torch.bool))
