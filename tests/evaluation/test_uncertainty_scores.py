"""The row of all measures on predictions whose quality is known."""

import math

import pytest
import torch

from lib.errors import UserError
from lib.evaluation.ranking import sparsification, spearman
from lib.evaluation.uncertainty_scores import patch_ranks, uncertainty_scores


@pytest.fixture(scope="module")
def world():
    """Targets (I, n, D) around 0 with a true sigma a patch, and that sigma."""
    generator = torch.Generator().manual_seed(0)
    sigma = torch.exp(torch.randn(40, 60, 1, generator=generator)).expand(40, 60, 48)
    return sigma * torch.randn(40, 60, 48, generator=generator), sigma


def test_the_truth_has_the_known_scores(world):
    target, sigma = world
    row = uncertainty_scores(target, torch.zeros_like(target), sigma.square())
    entropy = 0.5 * (2 * math.pi * math.e * sigma.double().square()).log().mean().item()
    assert row["nll"] == pytest.approx(entropy, abs=0.01)
    assert row["crps"] == pytest.approx(sigma.mean().item() / math.sqrt(math.pi), abs=0.01)
    assert row["sharpness"] == pytest.approx(sigma.square().mean().sqrt().item(), rel=1e-5)
    assert row["rmse"] == pytest.approx(target.square().mean().sqrt().item(), rel=1e-5)
    assert row["ece"] < 0.005 and row["ece_central"] < 0.01 and row["ence"] < 0.03
    assert min(row[name] for name in ("spearman", "spearman_squared", "spearman_pooled")) > 0.95
    assert max(row["ause_ratio"], row["ause_absolute_ratio"]) < 0.03


def test_a_spread_of_another_width_ranks_alike_but_is_not_calibrated(world):
    target, sigma = world
    mean = torch.zeros_like(target)
    row, wide = (uncertainty_scores(target, mean, (factor * sigma).square()) for factor in (1, 2))
    ranking = ("spearman", "spearman_squared", "spearman_pooled", "ause", "ause_ratio", "ause_absolute", "rmse")
    assert [wide[name] for name in ranking] == pytest.approx([row[name] for name in ranking])
    assert wide["ece"] == pytest.approx(0.1024, abs=0.005) and wide["ence"] == pytest.approx(0.5, abs=0.02)
    assert wide["nll"] > row["nll"] and wide["crps"] > row["crps"]


def test_a_constant_knows_nothing(world):
    target, _ = world
    row = uncertainty_scores(target, torch.zeros_like(target), torch.ones_like(target))
    assert row["ause_ratio"] == pytest.approx(1) and row["ause_absolute_ratio"] == pytest.approx(1)
    assert row["spearman"] == row["spearman_pooled"] == 0


def test_names_say_what_is_measured(world):
    """Absolute and squared, image and pool, told apart by values of their own."""
    target, sigma = world
    noisy = sigma.square() * torch.exp(torch.randn(40, 60, 1, generator=torch.Generator().manual_seed(1)))
    row = uncertainty_scores(target, torch.zeros_like(target), noisy)
    ranks = patch_ranks(target, torch.zeros_like(target), noisy)
    assert row["spearman"] == pytest.approx(spearman(ranks.sigma, target.abs().mean(dim=2)).mean().item())
    assert row["spearman_squared"] == pytest.approx(spearman(ranks.sigma, target.square().mean(dim=2)).mean().item())
    pooled = spearman(ranks.sigma.flatten(), target.abs().mean(dim=2).flatten()).item()
    assert row["spearman_pooled"] == pytest.approx(pooled)
    assert row["ause"] == pytest.approx(sparsification(target.square().mean(dim=2), ranks.sigma).ause.mean().item())
    absolute = sparsification(target.abs().mean(dim=2), ranks.sigma)
    assert row["ause_absolute"] == pytest.approx(absolute.ause.mean().item())
    assert row["ause_absolute_ratio"] == pytest.approx(absolute.ratio)


def test_patch_ranks_by_hand():
    target = torch.tensor([[[1.0, 3.0], [0.0, 0.0]]])
    ranks = patch_ranks(target, torch.zeros(1, 2, 2), torch.tensor([[[1.0, 7.0], [0.0, 0.0]]]))
    assert ranks.sigma.tolist() == [[2.0, 0.0]]
    assert ranks.squared_error.tolist() == [[5.0, 0.0]]
    assert ranks.absolute_error.tolist() == [[2.0, 0.0]]


def test_refusals():
    ones = torch.ones(2, 3, 4)
    with pytest.raises(UserError, match=r"expected \(images, patches, values\)"):
        patch_ranks(ones[0], ones[0], ones[0])
    with pytest.raises(UserError, match="below 0"):
        patch_ranks(ones, ones, -ones)
    with pytest.raises(UserError, match="variance must be above 0"):
        uncertainty_scores(ones, 2 * ones, 0 * ones)
    with pytest.raises(UserError, match="shapes differ"):
        uncertainty_scores(ones, ones, torch.ones(2, 3, 1))
    with pytest.raises(UserError, match="are empty"):
        uncertainty_scores(*[torch.ones(2, 0, 4)] * 3)
