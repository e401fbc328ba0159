"""Where a sampler looks: times chance and rank agreement, on cases that can be counted by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import UserError
from lib.evaluation.focus import rank_agreement, times_chance


def test_times_chance_by_hand():
    cover = torch.tensor([[1.0, 0.5, 0, 0], [0, 0, 0, 0.001]]).unsqueeze(-1)
    weights = torch.tensor([[2.0, 1, 1, 0], [1, 1, 1, 1]])
    found = times_chance(weights, cover)
    assert found[0, 0] == pytest.approx((2 * 1 + 1 * 0.5) / 4 / (1.5 / 4))
    assert math.isnan(found[1, 0])  # too small to count


@given(st.integers(0, 2**31), st.floats(0.01, 100))
def test_uniform_weights_are_chance_and_scale_does_not_matter(seed, scale):
    generator = torch.Generator().manual_seed(seed)
    cover = torch.rand(3, 20, 2, generator=generator)
    assert torch.allclose(times_chance(torch.full((3, 20), scale), cover), torch.ones(3, 2), atol=1e-5)
    weights = torch.rand(3, 20, generator=generator) + 0.01
    assert torch.allclose(times_chance(weights, cover), times_chance(scale * weights, cover), rtol=1e-4)


def test_regions_that_cover_everything_balance():
    weights = torch.rand(4, 30, generator=torch.Generator().manual_seed(0))
    cover = torch.rand(4, 30, 3, generator=torch.Generator().manual_seed(1)).softmax(-1)
    balance = (times_chance(weights, cover) * cover.mean(1)).sum(1)
    assert torch.allclose(balance, torch.ones(4), atol=1e-5)


def test_rank_agreement_by_hand():
    first = torch.tensor([[1.0, 2, 3, 4], [1, 2, 3, 4], [1, 1, 1, 1]])
    second = torch.tensor([[10.0, 20, 25, 99], [4, 3, 2, 1], [1, 2, 3, 4]])
    found = rank_agreement(first, second, torch.ones(3, 4, dtype=torch.bool))
    assert found[:2].tolist() == pytest.approx([1, -1]) and math.isnan(found[2])
    where = torch.tensor([[True, True, False, False]] * 3)
    assert rank_agreement(first, second, where)[:2].tolist() == pytest.approx([1, -1])


@pytest.mark.parametrize(
    "weights, cover",
    [
        (torch.ones(2, 3), torch.ones(2, 4, 1)),
        (torch.ones(2, 3), torch.ones(2, 3)),
        (-torch.ones(1, 2), torch.ones(1, 2, 1)),
    ],
)
def test_what_cannot_be_measured_is_named(weights, cover):
    with pytest.raises(UserError, match="weight"):
        times_chance(weights, cover)
    with pytest.raises(UserError, match="must both be"):
        rank_agreement(torch.ones(2, 3), torch.ones(3, 2), torch.ones(2, 3, dtype=torch.bool))
