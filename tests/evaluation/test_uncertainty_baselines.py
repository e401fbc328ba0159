"""The guesses without a model against slow readings, and that they see what is visible alone."""

import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import UserError
from lib.evaluation.uncertainty_baselines import distance_to_visible, visible_neighbour_deviation


@st.composite
def masked_grids(draw):
    h, w = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    visible = draw(st.integers(1, h * w))
    rng = random.Random(draw(st.integers(0, 10_000)))
    hidden = torch.ones(2, h * w, dtype=torch.bool)
    for row in hidden:
        row[rng.sample(range(h * w), visible)] = False
    return hidden, (h, w)


def away(a: int, b: int, width: int) -> float:
    return math.hypot(a // width - b // width, a % width - b % width)


@given(masked_grids())
def test_distance_equals_a_slow_reading(given_mask):
    hidden, (h, w) = given_mask
    found = distance_to_visible(hidden, (h, w))
    for row, distances in zip(hidden, found, strict=True):
        visible = [place for place in range(h * w) if not row[place]]
        expected = [min(away(place, other, w) for other in visible) for place in range(h * w)]
        torch.testing.assert_close(distances, torch.tensor(expected))
    assert (found[~hidden] == 0).all() and (found[hidden] >= 1).all()


def test_distance_by_hand():
    hidden = torch.ones(1, 6, dtype=torch.bool)
    hidden[0, 0] = False
    expected = torch.tensor([[0, 1, 2, 1, math.sqrt(2), math.sqrt(5)]])
    torch.testing.assert_close(distance_to_visible(hidden, (2, 3)), expected)
    torch.testing.assert_close(distance_to_visible(hidden, (1, 6)), torch.arange(6.0)[None])


@given(masked_grids(), st.integers(1, 6), st.integers(0, 1000))
def test_deviation_equals_a_slow_reading(given_mask, neighbours, seed):
    hidden, (h, w) = given_mask
    patches = 100 + torch.randn(2, h * w, 12, generator=torch.Generator().manual_seed(seed))
    found = visible_neighbour_deviation(patches, hidden, (h, w), neighbours)
    for sample, row, deviations in zip(patches, hidden, found, strict=True):
        visible = [place for place in range(h * w) if not row[place]]
        for place in range(h * w):
            distances = sorted(away(place, other, w) for other in visible)
            limit = distances[min(neighbours, len(visible)) - 1] + 1e-6
            near = [other for other in visible if away(place, other, w) <= limit]
            pixels = sample[near].double().reshape(-1, 3)
            expected = pixels.var(dim=0, correction=0).mean().sqrt().item()
            assert deviations[place].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_deviation_by_hand():
    """One row of four patches, one grey pixel each: the middle two hidden."""
    hidden = torch.tensor([[False, True, True, False]])
    patches = torch.tensor([1.0, 0, 0, 5]).reshape(1, 4, 1).repeat(1, 1, 3)
    nearest = visible_neighbour_deviation(patches, hidden, (1, 4), neighbours=1)
    torch.testing.assert_close(nearest, torch.zeros(1, 4))  # one pixel does not vary
    both = visible_neighbour_deviation(patches, hidden, (1, 4), neighbours=2)
    torch.testing.assert_close(both, torch.full((1, 4), 2.0))


def test_equal_distances_need_no_choice():
    """A cross around the hidden centre: asked for one neighbour, all four are as near."""
    hidden = torch.ones(1, 9, dtype=torch.bool)
    hidden[0, [1, 3, 5, 7]] = False
    patches = torch.tensor([0.0, 1, 0, 2, 0, 3, 0, 4, 0]).reshape(1, 9, 1).repeat(1, 1, 3)
    found = visible_neighbour_deviation(patches, hidden, (3, 3), neighbours=1)[0, 4]
    assert found.item() == pytest.approx(math.sqrt(1.25))


def test_colour_alone_is_no_spread():
    """Channels differ, pixels do not: variance over pixels and channels jointly would see something."""
    patches = torch.tensor([0.1, 0.5, 0.9]).repeat(1, 4, 4)
    hidden = torch.tensor([[False, True, True, False]])
    torch.testing.assert_close(visible_neighbour_deviation(patches, hidden, (2, 2), 4), torch.zeros(1, 4))


def test_flat_surfaces_far_from_zero_have_no_spread():
    hidden = torch.tensor([[False, True, False, True, False, False]])
    patches = torch.full((1, 6, 12), 1e6 + 0.3, dtype=torch.float64)
    assert visible_neighbour_deviation(patches, hidden, (2, 3), 4).max() < 1e-6


def test_hidden_pixels_are_not_read():
    hidden = torch.tensor([[True, False, True, True, False, True]])
    patches = torch.randn(1, 6, 12, generator=torch.Generator().manual_seed(0))
    before = visible_neighbour_deviation(patches, hidden, (2, 3), 4)
    patches[hidden] = math.nan
    torch.testing.assert_close(visible_neighbour_deviation(patches, hidden, (2, 3), 4), before)


@given(masked_grids(), st.floats(0.1, 10), st.floats(-5, 5))
def test_deviation_follows_a_change_of_units(given_mask, scale, shift):
    hidden, grid = given_mask
    patches = torch.randn(2, hidden.shape[1], 12, generator=torch.Generator().manual_seed(0))
    before = visible_neighbour_deviation(patches, hidden, grid, 4)
    after = visible_neighbour_deviation(scale * patches + shift, hidden, grid, 4)
    torch.testing.assert_close(after, scale * before, rtol=1e-3, atol=1e-5)


def test_baselines_refuse_masks_that_do_not_fit():
    patches = torch.ones(1, 4, 12)
    blind = torch.ones(1, 4, dtype=torch.bool)
    seeing = torch.tensor([[True, True, False, True]])
    for measure in (distance_to_visible, lambda hidden, grid: visible_neighbour_deviation(patches, hidden, grid, 4)):
        with pytest.raises(UserError, match="no visible patch: lower mask_ratio"):
            measure(blind, (2, 2))
        with pytest.raises(UserError, match=r"expected bool \(B, 6\)"):
            measure(seeing, (2, 3))
        with pytest.raises(UserError, match="expected bool"):
            measure(seeing.float(), (2, 2))
    for wrong, neighbours in ((patches, 0), (torch.ones(1, 4, 5), 4), (torch.ones(1, 5, 12), 4)):
        with pytest.raises(UserError, match=r"expected \(B, N, P\*P\*3\)"):
            visible_neighbour_deviation(wrong, seeing, (2, 2), neighbours)
