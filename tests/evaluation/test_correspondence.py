"""Correspondence on true flow: matches, errors and baselines, by hand and against a slow reading."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import UserError
from lib.evaluation import correspondence as module
from lib.evaluation.correspondence import (
    best_matches,
    cell_errors,
    correspondence,
    flow_at_cells,
    random_matches,
)

CELL = 8


def texture(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def even_flow(grid, motion, cell=CELL):
    """Flow (H, W, 2) of one motion (x, y) everywhere, all of it visible."""
    size = (grid[0] * cell, grid[1] * cell)
    return torch.tensor(motion, dtype=torch.float32).expand(*size, 2), torch.ones(size, dtype=torch.bool)


def slow_matches(first, second):
    """One cell at a time, in double precision."""
    (_, height, width), result = first.shape, []
    for y in range(height):
        for x in range(width):
            best = None
            for v in range(height):
                for u in range(width):
                    distance = math.hypot(u - x, v - y)
                    a, b = first[:, y, x].double(), second[:, v, u].double()
                    key = (-round(float(a @ b / (a.norm() * b.norm())), 9), distance)
                    if best is None or key < best[0]:
                        best = (key, (u - x, v - y))
            result.append(best[1])
    return torch.tensor(result).reshape(height, width, 2)


# --- Matches ---


def test_matches_agree_with_the_slow_reading():
    first, second = texture(5, 4, 6), texture(5, 4, 6, seed=1)
    torch.testing.assert_close(best_matches(first, second), slow_matches(first, second))


def test_blocks_do_not_change_the_matches(monkeypatch):
    first, second = texture(6, 7, 9), texture(6, 7, 9, seed=1)
    whole = [best_matches(first, second), random_matches((7, 9), seed=5)]
    monkeypatch.setattr(module, "SCORES_AT_ONCE", 7 * 63)  # seven cells a block
    torch.testing.assert_close([best_matches(first, second), random_matches((7, 9), seed=5)], whole)


@given(st.permutations(range(6)), st.floats(0.01, 100), st.floats(0.01, 100))
def test_order_of_channels_and_scale_of_features_do_not_matter(order, a, b):
    first, second = texture(6, 5, 7), texture(6, 5, 7, seed=1)
    expected = best_matches(first, second)
    torch.testing.assert_close(best_matches(a * first[order], b * second[order]), expected)


def test_without_texture_nothing_moves():
    flat = torch.ones(3, 4, 5)
    assert not best_matches(flat, flat).any() and not best_matches(0 * flat, flat).any()


def test_half_precision_is_taken():
    first = texture(16, 4, 5)
    moved = first.roll((1, 0), (1, 2))
    torch.testing.assert_close(best_matches(first.half(), moved.half()), best_matches(first, moved))


def test_random_matches_are_even_and_repeatable():
    drawn = torch.stack([random_matches((2, 5), seed) for seed in range(400)])
    _, counts = drawn[:, 1, 2].unique(dim=0, return_counts=True)
    assert len(counts) == 10 and counts.min() > 20 and counts.max() < 65  # 40 expected, 6 their deviation
    torch.testing.assert_close(random_matches((2, 5), 3), drawn[3])


# --- Flow at cells ---


def test_flow_is_read_at_the_centre_of_each_cell():
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(12.0), indexing="ij")
    flow, visible = torch.stack([x, y], -1), torch.zeros(6, 12, dtype=torch.bool)
    visible[4, 10] = True
    read, seen = flow_at_cells(flow, visible, (2, 4))  # cells of 3x3: the centre is a pixel
    assert read[..., 0].tolist() == [[1, 4, 7, 10]] * 2 and read[:, 0, 1].tolist() == [1, 4]
    assert seen.tolist() == [[False] * 4, [False, False, False, True]]
    read, _ = flow_at_cells(flow, visible, (3, 3))  # 2x4: it lies between pixels, the right or lower is taken
    assert read[0, :, 0].tolist() == [2, 6, 10] and read[:, 0, 1].tolist() == [1, 3, 5]
    read, _ = flow_at_cells(flow, visible, (4, 5))  # no whole pixels: centres .75, 2.25, ... and 1.2, 3.6, ...
    assert read[0, :, 0].tolist() == [1, 3, 6, 8, 10] and read[:, 0, 1].tolist() == [0, 2, 3, 5]


# --- Errors ---


def test_a_still_pair_has_no_cells_that_count():
    first = texture(8, 5, 7)
    for scores in correspondence([(first, first, *even_flow((5, 7), (0, 0)))]).values():
        assert scores["moving_cells"] == 0 and math.isnan(scores["moving_end_point_error"])
        assert math.isnan(scores["moving_within_one_cell"])


def test_a_rolled_texture_is_followed_exactly():
    first = texture(16, 6, 9)
    second = first.roll((1, 2), (1, 2))  # one cell down, two to the right
    flow, visible = even_flow((6, 9), (2 * CELL, CELL))
    visible[-CELL:], visible[:, -2 * CELL :] = False, False  # rolled in at the other side
    result = correspondence([(first, second, flow, visible)])
    exact = {"moving_cells": 5 * 7, "moving_end_point_error": 0, "moving_within_one_cell": 1}
    assert result["features"] == result["nearest cell"] == exact
    assert result["nothing moves"]["moving_end_point_error"] == pytest.approx(math.hypot(16, 8))
    assert result["nothing moves"]["moving_within_one_cell"] == 0
    assert result["random match"]["moving_end_point_error"] > 8


def test_errors_by_hand():
    """Cells of 10 x 20 pixels (width, height)."""
    flow = torch.zeros(20, 40, 2)
    flow[10, 5], flow[10, 15], flow[10, 25], flow[10, 35] = torch.tensor([[5.0, 0], [6, 0], [0, -11], [13, 24]])
    displacement = torch.tensor([[[0, 0], [-1, 0], [-3, -1], [3, 1]]])
    visible = torch.ones(20, 40, dtype=torch.bool)
    # misses: (-5, 0), (-16, 0), (-30, -9), (17, -4); motion in cells: (.5, 0), (.6, 0), (0, .55), (1.3, 1.2)
    expected = [5, 16, math.hypot(30, 9), math.hypot(17, 4)]
    for moving_above, counted in ((0.4, slice(None)), (0.5, slice(1, None)), (1, slice(3, None))):
        error, within = cell_errors(displacement, flow, visible, moving_above)
        torch.testing.assert_close(error, torch.tensor(expected[counted]))
        assert within.tolist() == [True, False, False, False][counted]


def test_within_one_cell_is_a_box_that_includes_its_edge():
    visible = torch.ones(8, 8, dtype=torch.bool)
    for motion, expected in (((8, 8), True), ((8.01, 0), False), ((0, -8.01), False), ((-8, 0), True)):
        flow = torch.tensor(motion, dtype=torch.float32).expand(8, 8, 2)
        assert cell_errors(torch.zeros(1, 1, 2), flow, visible, 0.5)[1].item() is expected


def test_cells_that_are_not_seen_do_not_count():
    first, second = texture(8, 4, 6), texture(8, 4, 6, seed=1)
    flow, visible = even_flow((4, 6), (2 * CELL, 0))
    visible[:, : 3 * CELL] = False
    before = correspondence([(first, second, flow, visible)])
    wild = flow.clone()
    wild[:, : 3 * CELL] = 1e6  # flow of what is not seen means nothing
    assert before == correspondence([(first, second, wild, visible)]) and before["features"]["moving_cells"] == 12
    nothing = correspondence([(first, second, flow, torch.zeros_like(visible))])["features"]
    assert nothing["moving_cells"] == 0 and math.isnan(nothing["moving_end_point_error"])


def test_what_counts_as_motion_can_be_chosen():
    pair = (texture(8, 4, 6), texture(8, 4, 6, seed=1), *even_flow((4, 6), (0.9 * CELL, 0)))
    assert correspondence([pair], moving_above=0.5)["nothing moves"]["moving_cells"] == 24
    assert correspondence([pair])["nothing moves"]["moving_cells"] == 0


def test_pairs_are_pooled_by_cell_and_read_one_at_a_time():
    alive = []

    def pairs():
        for seed in range(3):
            pair = (texture(8, 4, 6, seed=seed), texture(8, 4, 6, seed=9), *even_flow((4, 6), (seed * 9.0, 0)))
            alive.append(seed)
            yield pair

    result = correspondence(pairs(), seed=7)
    assert alive == [0, 1, 2] and result["features"]["moving_cells"] == 48
    errors = []
    for seed in (1, 2):
        matches = slow_matches(texture(8, 4, 6, seed=seed), texture(8, 4, 6, seed=9))
        errors.append((matches * CELL - torch.tensor([seed * 9.0, 0])).norm(dim=-1).flatten())
    assert result["features"]["moving_end_point_error"] == pytest.approx(torch.cat(errors).mean().item(), rel=1e-5)
    assert result == correspondence(pairs(), seed=7)
    assert result["random match"] != correspondence(pairs(), seed=8)["random match"]


# --- Faults ---


def test_what_does_not_fit_is_refused():
    first, (flow, visible) = texture(3, 4, 5), even_flow((4, 5), (0, 0))
    with pytest.raises(UserError, match=r"\(3, 4, 5\) and \(3, 5, 4\)"):
        best_matches(first, first.transpose(1, 2))
    with pytest.raises(UserError, match="NaN or infinity"):
        best_matches(first, first / 0)
    with pytest.raises(UserError, match=r"flow is \(40, 32, 2\), visible \(32, 40\)"):
        flow_at_cells(flow.transpose(0, 1), visible, (4, 5))
    with pytest.raises(UserError, match=r"\(33, 5\) cells on \(32, 40\) pixels"):
        flow_at_cells(flow, visible, (33, 5))
    with pytest.raises(UserError, match="no pair of frames"):
        correspondence([])
