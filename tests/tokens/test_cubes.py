"""Cubes of videos and their positions, against counts, hand calculations and slow loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import UserError
from lib.tokens.cubes import (
    cube_grid,
    cube_statistics,
    cubify,
    flattened_positions,
    normalize_videos,
    paint_cubes,
    paint_hidden,
    position_table,
    separable_positions,
    target_cubes,
    uncubify,
)
from lib.tokens.patches import normalize_images

sides = st.integers(1, 3)

# --- cubes --------------------------------------------------------------------------------------------------


@given(batch=st.integers(1, 2), channels=st.integers(1, 4), s=sides, h=sides, w=sides, t=sides, patch=sides)
def test_cubify_equals_loops_and_uncubify_undoes_it(batch, channels, s, h, w, t, patch):
    videos = torch.randn(batch, channels, s * t, h * patch, w * patch)
    cubes = cubify(videos, t, patch)
    expected = torch.empty(batch, s * h * w, t * patch * patch * channels)
    number = 0
    for time in range(s):
        for row in range(h):
            for column in range(w):
                position = 0
                for frame in range(time * t, time * t + t):
                    for y in range(row * patch, row * patch + patch):
                        for x in range(column * patch, column * patch + patch):
                            expected[:, number, position : position + channels] = videos[:, :, frame, y, x]
                            position += channels
                number += 1
    assert torch.equal(cubes, expected)
    assert torch.equal(uncubify(cubes, t, patch, (s, h, w)), videos)


def test_counts_of_the_papers_clip():
    assert cube_grid(16, 224, 224, 2, 16) == (8, 14, 14)
    assert cubify(torch.zeros(1, 3, 16, 224, 224, device="meta"), 2, 16).shape == (1, 1568, 1536)


@pytest.mark.parametrize(
    ("shape", "name", "fits"),
    [((15, 64, 64), "frames 15", 16), ((1, 64, 64), "frames 1", 2), ((16, 60, 64), "height 60", 64),
     ((16, 64, 3), "width 3", 8), ((0, 64, 64), "frames 0", 2)],
)  # fmt: skip
def test_videos_that_are_not_whole_cubes_are_refused_with_a_size_that_fits(shape, name, fits):
    said = rf"^video {'x'.join(map(str, shape))} [^\n]*2x8x8: {name} must be a multiple of \d, such as {fits}$"
    with pytest.raises(UserError, match=said):
        cubify(torch.zeros(1, 3, *shape), 2, 8)


def test_video_normalisation_is_that_of_every_frame():
    videos = torch.randint(256, (2, 3, 4, 6, 5), dtype=torch.uint8)
    normal = normalize_videos(videos)
    for time in range(4):
        assert torch.equal(normal[:, :, time], normalize_images(videos[:, :, time]))


# --- targets ------------------------------------------------------------------------------------------------


def test_cube_normalisation_by_hand():
    # One cube of two frames of one pixel: red 1 and 3, green 0 and 0, blue 2 and 8. Deviations with n - 1 = 1.
    cubes = torch.tensor([[[1.0, 0, 2, 3, 0, 8]]], dtype=torch.float64)
    mean, scale = cube_statistics(cubes)
    assert mean[0, 0].tolist() == [2, 0, 5, 2, 0, 5]
    red, blue = math.sqrt(2) + 1e-6, math.sqrt(18) + 1e-6  # the epsilon stands outside the root
    torch.testing.assert_close(scale[0, 0], torch.tensor([red, 1e-6, blue] * 2, dtype=torch.float64))
    expected = torch.tensor([-1 / red, 0, -3 / blue, 1 / red, 0, 3 / blue], dtype=torch.float64)
    normal = target_cubes(uncubify(cubes, 2, 1, (1, 1, 1)), 2, 1, norm_pix=True)
    torch.testing.assert_close(normal[0, 0], expected, rtol=1e-12, atol=0)


def test_normalised_targets_do_not_depend_on_the_colour_scale():
    videos = torch.rand(1, 3, 4, 16, 16, dtype=torch.float64)
    plain, normal = (target_cubes(v, 2, 8, norm_pix=True) for v in (videos, normalize_videos(videos)))
    torch.testing.assert_close(plain, normal, rtol=1e-4, atol=1e-4)


def test_painting_shows_the_truth_where_visible_and_the_prediction_where_hidden():
    videos = torch.rand(2, 3, 4, 16, 8)
    cubes = cubify(videos, 2, 8)
    hidden = torch.tensor([[True, False, False, True], [False, True, True, True]])
    for norm_pix in (False, True):
        perfect = target_cubes(videos, 2, 8, norm_pix)
        torch.testing.assert_close(paint_cubes(videos, perfect, hidden, 2, 8, norm_pix), videos)
        wrong = paint_cubes(videos, perfect + 0.5, hidden, 2, 8, norm_pix)
        assert torch.equal((cubify(wrong, 2, 8) != cubes).any(dim=-1), hidden)
        assert wrong.min() >= 0 and wrong.max() <= 1
    grey = cubify(paint_hidden(videos, hidden, 2, 8), 2, 8)
    assert (grey[hidden] == 0.5).all() and torch.equal(grey[~hidden], cubes[~hidden])


# --- positions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dim", "pairs"), [(6, (1, 1, 1)), (16, (4, 2, 2)), (128, (22, 21, 21)), (48, (8, 8, 8))])
def test_separable_positions_equal_the_formula_entry_by_entry(dim, pairs):
    grid = (3, 2, 4)
    table = separable_positions(dim, grid)
    assert table.shape == (24, dim) and table.dtype == torch.float32 and 2 * sum(pairs) == dim
    number = 0
    for time in range(grid[0]):
        for row in range(grid[1]):
            for column in range(grid[2]):
                expected = []
                for coordinate, count in zip((time, row, column), pairs, strict=True):
                    angles = [coordinate / 10000 ** (k / count) for k in range(count)]
                    expected += [*map(math.sin, angles), *map(math.cos, angles)]
                assert table[number].tolist() == pytest.approx(expected, abs=1e-6)
                number += 1


def test_flattened_positions_equal_the_formula_entry_by_entry():
    table = flattened_positions(8, (2, 2, 3))
    assert table.shape == (12, 8) and table.dtype == torch.float32
    for number in range(12):
        for channel in range(8):
            angle = number / 10000 ** (2 * (channel // 2) / 8)
            value = math.cos(angle) if channel % 2 else math.sin(angle)
            assert table[number, channel].item() == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("name", ["separable", "flattened"])
def test_every_cube_of_the_papers_clip_has_a_place_of_its_own(name):
    table = position_table(name, 384, (8, 14, 14))
    gaps = torch.cdist(table, table) + 10 * torch.eye(1568)
    assert gaps.min() > 0.1


def test_only_the_separable_table_knows_the_grid():
    assert torch.equal(flattened_positions(12, (2, 3, 4)), flattened_positions(12, (4, 3, 2)))
    assert not torch.equal(separable_positions(12, (2, 3, 4)), separable_positions(12, (4, 3, 2)))


def test_positions_that_cannot_be_are_refused():
    for dim in (7, 4):
        with pytest.raises(UserError, match=f"^embed_dim {dim} .* even number of at least 6$"):
            separable_positions(dim, (2, 2, 2))
    with pytest.raises(UserError, match="embed_dim 7"):
        flattened_positions(7, (2, 2, 2))
    with pytest.raises(UserError, match="unknown positions 'seperable': did you mean 'separable'"):
        position_table("seperable", 12, (2, 2, 2))
