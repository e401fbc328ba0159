"""Masks and the strategies that draw them, against counts, hand calculations and slow loops."""

import itertools
import math
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import UserError
from lib.tokens.masking import (
    Masking,
    RandomMasking,
    mask_from_noise,
    masked_mean,
    num_visible,
    random_mask,
    restore_order,
    take,
)
from lib.tokens.maskings import MASKINGS, get_masking, spread_ranks

# --- masks --------------------------------------------------------------------------------------------------


COUNTS = [(196, 0.75, 49), (196, 0.95, 9), (64, 0.75, 16), (64, 0.95, 3)]


@pytest.mark.parametrize(("patches", "ratio", "visible"), COUNTS)
def test_visible_counts(patches, ratio, visible):
    assert num_visible(patches, ratio) == visible
    mask = random_mask(2, patches, ratio)
    assert mask.keep.shape == (2, visible) and (~mask.hidden).sum(dim=1).tolist() == [visible] * 2


@given(patches=st.integers(1, 2000), hundredths=st.integers(1, 99))
def test_visible_counts_are_exact_whatever_floats_do(patches, hundredths):
    visible = patches * (100 - hundredths) // 100
    if visible:
        assert num_visible(patches, hundredths / 100) == visible
    else:
        with pytest.raises(UserError):
            num_visible(patches, hundredths / 100)


@pytest.mark.parametrize("ratio", [0, 1, -0.5, 1.5, float("nan")])
def test_impossible_ratios_are_refused_in_one_line(ratio):
    with pytest.raises(UserError, match=rf"^mask_ratio {ratio} is outside \(0, 1\): [^\n]+$"):
        random_mask(1, 196, ratio)


def test_a_ratio_that_leaves_nothing_is_refused_in_one_line():
    with pytest.raises(UserError, match="^mask_ratio 0.985 hides all 64 patches: [^\n]+$"):
        random_mask(1, 64, 0.985)


@given(batch=st.integers(1, 4), patches=st.integers(2, 40), data=st.data())
def test_keep_restore_and_hidden_tell_the_same_story(batch, patches, data):
    visible = data.draw(st.integers(1, patches - 1))
    noise = torch.rand(batch, patches)
    mask = mask_from_noise(noise, visible)
    tokens = torch.arange(1.0, patches + 1).repeat(batch, 1).unsqueeze(-1)  # patch i carries the number i + 1
    restored = restore_order(take(tokens, mask.keep), torch.zeros(1, 1, 1), mask.restore)
    assert torch.equal(restored, tokens.masked_fill(mask.hidden.unsqueeze(-1), 0))
    for sample in range(batch):
        assert set(mask.keep[sample].tolist()) == set((~mask.hidden[sample]).nonzero().flatten().tolist())
        assert sorted(mask.restore[sample].tolist()) == list(range(patches))
        assert noise[sample][~mask.hidden[sample]].max() <= noise[sample][mask.hidden[sample]].min()


def test_masks_differ_between_samples_and_between_calls():
    torch.manual_seed(0)
    first, second = random_mask(8, 64, 0.75).hidden, random_mask(8, 64, 0.75).hidden
    patterns = {tuple(row) for row in torch.cat([first, second]).tolist()}
    assert len(patterns) == 16
    torch.manual_seed(0)
    assert torch.equal(random_mask(8, 64, 0.75).hidden, first)


def test_every_patch_is_kept_equally_often():
    torch.manual_seed(0)
    kept = (~random_mask(4000, 20, 0.75).hidden).float().mean(dim=0)
    assert (kept - 0.25).abs().max() < 0.03  # more than four standard deviations of sqrt(0.25 * 0.75 / 4000)


def test_masked_mean_by_hand_over_the_whole_batch():
    values = torch.tensor([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    hidden = torch.tensor([[True, False, True], [False, True, False]])
    assert masked_mean(values, hidden).item() == (1 + 3 + 20) / 3


# --- strategies ---------------------------------------------------------------------------------------------


def tokens_on(grid: tuple[int, int, int], batch: int = 3) -> torch.Tensor:
    return torch.zeros(batch, math.prod(grid), 1)


@pytest.mark.parametrize(
    ("name", "ratio", "visible"),
    [("random", 0.95, 78), ("random", 0.9, 156), ("tube", 0.95, 72), ("tube", 0.9, 152), ("frame", 0.875, 196)],
)
def test_visible_counts_of_the_papers_clip(name, ratio, visible):
    grid = (8, 14, 14)
    mask = get_masking(name, ratio)(tokens_on(grid), grid)
    assert mask.keep.shape == (3, visible) and (~mask.hidden).sum(dim=1).tolist() == [visible] * 3


@given(s=st.integers(1, 6), h=st.integers(1, 5), w=st.integers(1, 5), hundredths=st.integers(1, 99))
def test_tubes_and_frames_are_whole_and_as_many_as_the_ratio_leaves(s, h, w, hundredths):
    grid, ratio = (s, h, w), hundredths / 100
    for name, units, size in (("tube", h * w, s), ("frame", s, h * w)):
        wanted = units * (100 - hundredths) // 100
        if not wanted:
            with pytest.raises(UserError, match=f"hides all {units} "):
                get_masking(name, ratio)(tokens_on(grid), grid)
            continue
        mask = get_masking(name, ratio)(tokens_on(grid), grid)
        visible = (~mask.hidden).view(3, s, h * w)
        whole = visible.all(dim=1) if name == "tube" else visible.all(dim=2)
        assert torch.equal(visible.any(dim=1 if name == "tube" else 2), whole)
        assert whole.sum(dim=1).tolist() == [wanted] * 3 and mask.keep.shape[1] == wanted * size
        for sample in range(3):
            assert sorted(mask.keep[sample].tolist()) == (~mask.hidden[sample]).nonzero().flatten().tolist()


@pytest.mark.parametrize("name", MASKINGS)
def test_strategies_draw_for_each_sample_apart_and_keep_no_place_out(name):
    torch.manual_seed(0)
    grid = (8, 2, 4)
    hidden = get_masking(name, 0.75)(tokens_on(grid, 4000), grid).hidden
    assert len({tuple(row) for row in hidden[:50].tolist()}) > 10
    seen = (~hidden).float().mean(dim=0)
    if name == "grouped":  # places in the middle are near to more of the others
        assert 0.1 < seen.min() < seen.max() < 0.5
    else:
        assert (seen - 0.25).abs().max() < 0.03  # over four standard deviations


def torus_distance(one, other, grid) -> int:
    """Squared, on a grid whose edges meet."""
    ways = (abs(a - b) for a, b in zip(one, other, strict=True))
    return sum(min(way, side - way) ** 2 for way, side in zip(ways, grid, strict=True))


@given(grid=st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)), hundredths=st.integers(1, 99))
def test_grouped_and_grid_leave_what_the_ratio_says(grid, hundredths):
    number, ratio = math.prod(grid), hundredths / 100
    visible = number * (100 - hundredths) // 100
    for name in ("grouped", "grid"):
        if not visible:
            with pytest.raises(UserError, match=f"hides all {number} patches"):
                get_masking(name, ratio)(tokens_on(grid), grid)
            continue
        mask = get_masking(name, ratio)(tokens_on(grid), grid)
        assert mask.keep.shape == (3, visible) and (~mask.hidden).sum(dim=1).tolist() == [visible] * 3


def test_cells_are_whole_and_as_many_as_the_ratio_leaves():
    for s, h, w, ratio, cells in ((1, 8, 8, 0.75, 4), (2, 4, 6, 0.5, 6), (1, 8, 8, 0.7, 4)):
        hidden = get_masking("cell", ratio)(torch.empty(50, s * h * w, 0), (s, h, w)).hidden
        of_cell = hidden.view(50, s, h // 2, 2, w // 2, 2).float().mean(dim=(3, 5))
        assert set(of_cell.unique().tolist()) == {0.0, 1.0}
        assert ((1 - of_cell).flatten(1).sum(dim=1) == cells).all()
    with pytest.raises(UserError, match="grid of 7x8 does not divide"):
        get_masking("cell", 0.75)(torch.empty(1, 56, 0), (1, 7, 8))


@pytest.mark.parametrize(("grid", "ratio"), [((1, 8, 8), 0.75), ((1, 8, 8), 0.95), ((1, 5, 7), 0.5), ((4, 3, 5), 0.8)])
def test_a_group_is_what_lies_nearest_to_some_place(grid, ratio):
    torch.manual_seed(0)
    places = list(itertools.product(*map(range, grid)))
    masks = get_masking("grouped", ratio)(tokens_on(grid, 40), grid).hidden.tolist()
    for hidden in masks:

        def gathered(centre, hidden=hidden) -> bool:
            apart = [sum((a - b) ** 2 for a, b in zip(place, centre, strict=True)) for place in places]
            farthest = max(d for d, away in zip(apart, hidden, strict=True) if not away)
            return farthest <= min(d for d, away in zip(apart, hidden, strict=True) if away)

        assert any(map(gathered, places))
    assert len({tuple(hidden) for hidden in masks}) > 15


def test_sixteen_of_eight_by_eight_are_every_second_of_every_second_row():
    torch.manual_seed(0)
    visible = (~get_masking("grid", 0.75)(tokens_on((1, 8, 8), 60), (1, 8, 8)).hidden).view(60, 8, 8)
    starts = set()
    for sample in visible:
        row, column = sample.nonzero()[0].tolist()
        expected = torch.zeros(8, 8, dtype=torch.bool)
        expected[row::2, column::2] = True
        assert torch.equal(sample, expected)
        starts.add((row, column))
    assert starts == {(0, 0), (0, 1), (1, 0), (1, 1)}


@pytest.mark.parametrize("grid", [(1, 8, 8), (1, 5, 7), (3, 2, 4)])
def test_grid_masks_are_one_pattern_moved(grid):
    torch.manual_seed(0)
    hidden = get_masking("grid", 0.8)(tokens_on(grid, 30), grid).hidden.view(30, *grid)
    moves = itertools.product(*map(range, grid))
    moved = {tuple(hidden[0].roll(move, (0, 1, 2)).flatten().tolist()) for move in moves}
    drawn = {tuple(mask.flatten().tolist()) for mask in hidden}
    assert drawn <= moved and len(drawn) > 5


@given(grid=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)))
def test_the_next_place_is_always_one_farthest_from_those_before(grid):
    ranks = spread_ranks(grid)
    places = list(itertools.product(*map(range, grid)))
    order = sorted(places, key=lambda place: int(ranks[place]))
    assert sorted(ranks.flatten().tolist()) == list(range(len(places)))
    for number in range(1, len(places)):
        apart = [min(torus_distance(one, other, grid) for other in order[:number]) for one in order[number:]]
        assert apart[0] == max(apart)


def test_tubes_stay_whole_where_random_numbers_are_equal(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *size, device: torch.zeros(size, device=device))
    grid = (3, 2, 2)
    for name in ("tube", "frame"):
        visible = (~get_masking(name, 0.5)(tokens_on(grid), grid).hidden).view(3, 3, 4)
        assert torch.equal(*(f(visible, dim=1 if name == "tube" else 2) for f in (torch.any, torch.all)))


def test_a_fixed_strategy_adds_nothing_to_the_loss():
    masking, loss = RandomMasking(0.75), torch.ones((), requires_grad=True)
    total, logs = masking.objective(loss, torch.rand(2, 8), random_mask(2, 8, 0.75))
    assert total is loss and logs == {"loss": loss} and not logs["loss"].requires_grad


def test_strategies_are_told_apart_by_plain_values():
    @dataclass(frozen=True)
    class GroupedMasking(Masking):
        group: int = 2

    values = [get_masking(name, 0.75).architecture for name in MASKINGS]
    values += [RandomMasking(0.5).architecture, GroupedMasking(0.75).architecture]
    assert all(values.count(each) == 1 for each in values)
    assert values[-1] == {"name": "GroupedMasking", "mask_ratio": 0.75, "group": 2}


def test_a_strategy_that_cannot_work_fails_before_training():
    with pytest.raises(UserError, match="hides all 8 times"):
        get_masking("frame", 0.95).prepare(torch.zeros(32, 6), (8, 2, 2))
    masking = get_masking("frame", 0.75)
    assert masking.prepare(torch.zeros(32, 6), (8, 2, 2)) is masking


def test_unknown_strategies_and_frames_that_all_hide_are_refused_in_one_line():
    with pytest.raises(
        UserError, match="^unknown masking 'tubes': did you mean 'tube'. choose one of cell, frame, grid"
    ):
        get_masking("tubes", 0.9)
    with pytest.raises(UserError, match="^mask_ratio 0.95 hides all 8 times: lower it or use longer clips$"):
        get_masking("frame", 0.95)(tokens_on((8, 2, 2)), (8, 2, 2))
    with pytest.raises(UserError, match="^mask_ratio 0.9 hides all 4 places: lower it or use smaller patches$"):
        get_masking("tube", 0.9)(tokens_on((8, 2, 2)), (8, 2, 2))
