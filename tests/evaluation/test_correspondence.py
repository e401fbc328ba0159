"""Correspondence on true flow: matches, errors and baselines, by hand and against a slow reading."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import UserError
from lib.evaluation import correspondence as module
from lib.evaluation.correspondence import (
    CellErrors,
    best_matches,
    cell_errors,
    correspondence,
    flow_at_cells,
    pooled,
    random_matches,
    scores,
)

CELL = 8


def texture(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def even_flow(grid, motion, cell=CELL):
    """Flow (H, W, 2) of one motion (x, y) everywhere, all of it visible."""
    size = (grid[0] * cell, grid[1] * cell)
    return torch.tensor(motion, dtype=torch.float32).expand(*size, 2), torch.ones(size, dtype=torch.bool)


def slow_matches(first, second, radius):
    """One cell at a time, in double precision."""
    (_, height, width), result = first.shape, []
    for y in range(height):
        for x in range(width):
            best = None
            for v in range(height):
                for u in range(width):
                    distance = math.hypot(u - x, v - y)
                    if radius is not None and distance > radius:
                        continue
                    a, b = first[:, y, x].double(), second[:, v, u].double()
                    key = (-round(float(a @ b / (a.norm() * b.norm())), 9), distance)
                    if best is None or key < best[0]:
                        best = (key, (u - x, v - y))
            result.append(best[1])
    return torch.tensor(result).reshape(height, width, 2)


# --- Matches ---


@pytest.mark.parametrize("radius", [None, 0, 1, 2.5])
def test_matches_agree_with_the_slow_reading(radius):
    first, second = texture(5, 4, 6), texture(5, 4, 6, seed=1)
    torch.testing.assert_close(best_matches(first, second, radius), slow_matches(first, second, radius))


def test_blocks_do_not_change_the_matches(monkeypatch):
    first, second = texture(6, 7, 9), texture(6, 7, 9, seed=1)
    whole = [best_matches(first, second, 3), random_matches((7, 9), 3, seed=5)]
    monkeypatch.setattr(module, "SCORES_AT_ONCE", 7 * 63)  # seven cells a block
    torch.testing.assert_close([best_matches(first, second, 3), random_matches((7, 9), 3, seed=5)], whole)


@given(st.permutations(range(6)), st.floats(0.01, 100), st.floats(0.01, 100))
def test_order_of_channels_and_scale_of_features_do_not_matter(order, a, b):
    first, second = texture(6, 5, 7), texture(6, 5, 7, seed=1)
    expected = best_matches(first, second, 4)
    torch.testing.assert_close(best_matches(a * first[order], b * second[order], 4), expected)


def test_without_texture_nothing_moves():
    flat = torch.ones(3, 4, 5)
    assert not best_matches(flat, flat).any() and not best_matches(0 * flat, flat).any()


def test_half_precision_is_taken():
    first = texture(16, 4, 5)
    moved = first.roll((1, 0), (1, 2))
    torch.testing.assert_close(best_matches(first.half(), moved.half()), best_matches(first, moved))


def test_random_matches_are_even_within_the_radius_and_repeatable():
    grid, radius = (6, 9), 2
    drawn = torch.stack([random_matches(grid, radius, seed) for seed in range(400)])
    assert drawn.double().norm(dim=-1).max() <= radius
    middle = drawn[:, 3, 4]  # a disc of radius 2 has 13 cells, all of them within the grid here
    places, counts = middle.unique(dim=0, return_counts=True)
    assert len(places) == 13 and counts.min() > 10 and counts.max() < 60  # 31 expected, 5 their deviation
    corner = drawn[:, 0, 0]
    assert (corner >= 0).all() and len(corner.unique(dim=0)) == 6
    torch.testing.assert_close(random_matches(grid, radius, 3), drawn[3])
    far = random_matches((1, 50), seed=1)[0, :, 0]
    assert far.abs().max() > 20 and (far + torch.arange(50)).unique().numel() > 20


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


def test_the_same_frame_twice_has_no_error():
    first = texture(8, 5, 7)
    result = correspondence([(first, first, *even_flow((5, 7), (0, 0)))])
    for row in ("features", "nothing moves", "nearest cell"):
        assert result[row]["end_point_error"] == result[row]["end_point_error_median"] == 0
        assert result[row]["within_one_cell"] == 1 and result[row]["cells"] == 35
        assert result[row]["moving_cells"] == 0 and math.isnan(result[row]["moving_end_point_error"])
        assert math.isnan(result[row]["moving_end_point_error_median"])
    assert result["random match"]["end_point_error"] > CELL and result["random match"]["within_one_cell"] < 0.7


@pytest.mark.parametrize("radius", [None, 3])
def test_a_rolled_texture_is_followed_exactly(radius):
    first = texture(16, 6, 9)
    second = first.roll((1, 2), (1, 2))  # one cell down, two to the right
    flow, visible = even_flow((6, 9), (2 * CELL, CELL))
    visible[-CELL:], visible[:, -2 * CELL :] = False, False  # rolled in at the other side
    result = correspondence([(first, second, flow, visible)], radius)
    assert result["features"] == result["nearest cell"]
    assert result["features"]["cells"] == result["features"]["moving_cells"] == 5 * 7
    assert result["features"]["end_point_error"] == 0 and result["features"]["moving_within_one_cell"] == 1
    assert result["nothing moves"]["end_point_error"] == pytest.approx(math.hypot(16, 8))
    assert result["nothing moves"]["within_one_cell"] == 0
    too_near = correspondence([(first, second, flow, visible)], 1)["features"]
    assert too_near["end_point_error"] >= 8 and result["random match"]["end_point_error"] > 8


def test_errors_by_hand():
    """Cells of 10 x 20 pixels (width, height)."""
    flow = torch.zeros(20, 40, 2)
    flow[10, 5], flow[10, 15], flow[10, 25], flow[10, 35] = torch.tensor([[5.0, 0], [6, 0], [0, -11], [13, 24]])
    displacement = torch.tensor([[[0, 0], [-1, 0], [-3, -1], [3, 1]]])
    errors = cell_errors(displacement, flow, torch.ones(20, 40, dtype=torch.bool))
    # misses: (-5, 0), (-16, 0), (-30, -9), (17, -4); motion in cells: (.5, 0), (.6, 0), (0, .55), (1.3, 1.2)
    expected = [5, 16, math.hypot(30, 9), math.hypot(17, 4)]
    torch.testing.assert_close(errors.end_point_error, torch.tensor(expected))
    assert errors.within_one_cell.tolist() == [True, False, False, False]
    assert errors.moving.tolist() == [False, True, True, True]
    found = scores(errors)
    assert found["end_point_error"] == pytest.approx(np.mean(expected))
    assert found["end_point_error_median"] == pytest.approx(np.median(expected))
    assert found["moving_end_point_error_median"] == pytest.approx(math.hypot(17, 4))
    assert (found["cells"], found["moving_cells"]) == (4, 3)
    assert (found["within_one_cell"], found["moving_within_one_cell"]) == (0.25, 0)


def test_within_one_cell_is_a_box_that_includes_its_edge():
    visible = torch.ones(8, 8, dtype=torch.bool)
    for motion, within in (((8, 8), True), ((8.01, 0), False), ((0, -8.01), False), ((-8, 0), True)):
        flow = torch.tensor(motion, dtype=torch.float32).expand(8, 8, 2)
        assert cell_errors(torch.zeros(1, 1, 2), flow, visible).within_one_cell.item() is within


def test_cells_that_are_not_seen_do_not_count():
    first, second = texture(8, 4, 6), texture(8, 4, 6, seed=1)
    flow, visible = even_flow((4, 6), (0, 0))
    visible = visible.clone()
    visible[:, : 3 * CELL] = False
    before = correspondence([(first, second, flow, visible)])
    wild = flow.clone()
    wild[:, : 3 * CELL] = 1e6  # flow of what is not seen means nothing
    after = correspondence([(first, second, wild, visible)])
    assert str(before) == str(after) and before["features"]["cells"] == 12  # as text: NaN is NaN
    nothing = correspondence([(first, second, flow, torch.zeros_like(visible))])["features"]
    assert nothing["cells"] == 0 and math.isnan(nothing["end_point_error"]) and math.isnan(nothing["within_one_cell"])


def test_what_counts_as_motion_can_be_chosen():
    pair = (texture(8, 4, 6), texture(8, 4, 6, seed=1), *even_flow((4, 6), (0.9 * CELL, 0)))
    assert correspondence([pair])["nothing moves"]["moving_cells"] == 24
    assert correspondence([pair], moving_above=1)["nothing moves"]["moving_cells"] == 0


def test_pairs_are_pooled_by_cell_and_read_one_at_a_time():
    alive = []

    def pairs():
        for seed in range(3):
            pair = (texture(8, 4, 6, seed=seed), texture(8, 4, 6, seed=9), *even_flow((4, 6), (seed * 3.0, 0)))
            alive.append(seed)
            yield pair

    result = correspondence(pairs(), radius=2, seed=7)
    assert alive == [0, 1, 2] and result["features"]["cells"] == 72 and result["features"]["moving_cells"] == 24
    errors = []
    for seed in range(3):
        found = slow_matches(texture(8, 4, 6, seed=seed), texture(8, 4, 6, seed=9), 2)
        errors.append((found * CELL - torch.tensor([seed * 3.0, 0])).norm(dim=-1).flatten())
    assert result["features"]["end_point_error"] == pytest.approx(torch.cat(errors).mean().item(), rel=1e-5)
    assert result == correspondence(pairs(), radius=2, seed=7)
    assert result["random match"] != correspondence(pairs(), radius=2, seed=8)["random match"]


def test_pooled_cells_keep_their_order():
    parts = [
        CellErrors(torch.tensor([k, 1.0]), torch.tensor([True, False]), torch.tensor([False, k > 2])) for k in (2, 3)
    ]
    whole = pooled(parts)
    assert whole.end_point_error.tolist() == [2, 1, 3, 1] and whole.moving.tolist() == [False, False, False, True]


@given(st.lists(st.floats(0, 100, width=32), min_size=1, max_size=30))
def test_the_median_is_numpys(values):
    flags = torch.ones(len(values), dtype=torch.bool)
    found = scores(CellErrors(torch.tensor(values), flags, flags))
    assert found["end_point_error_median"] == pytest.approx(np.median(values), rel=1e-5)


# --- Faults ---


def test_what_does_not_fit_is_refused():
    first, (flow, visible) = texture(3, 4, 5), even_flow((4, 5), (0, 0))
    with pytest.raises(UserError, match=r"\(3, 4, 5\) and \(3, 5, 4\)"):
        best_matches(first, first.transpose(1, 2))
    with pytest.raises(UserError, match="radius must be 0 cells or more, not -1"):
        best_matches(first, first, -1)
    with pytest.raises(UserError, match="NaN or infinity"):
        best_matches(first, first / 0)
    with pytest.raises(UserError, match=r"flow is \(40, 32, 2\), visible \(32, 40\)"):
        flow_at_cells(flow.transpose(0, 1), visible, (4, 5))
    with pytest.raises(UserError, match=r"\(33, 5\) cells on \(32, 40\) pixels"):
        flow_at_cells(flow, visible, (33, 5))
    with pytest.raises(UserError, match="no pair of frames"):
        correspondence([])
