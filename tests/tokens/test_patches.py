"""Patches and their positions, against counts, hand calculations and slow loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import UserError
from lib.tokens.masking import random_mask
from lib.tokens.painting import model_free_predictions, paint_mask, paint_prediction
from lib.tokens.patches import (
    denormalize_images,
    grid_of,
    normalize_images,
    normalize_patches,
    patch_statistics,
    patchify,
    resize_positions,
    sincos_positions,
    target_patches,
    unpatchify,
)

sides = st.integers(1, 5)

# --- patches ------------------------------------------------------------------------------------------------


@given(batch=st.integers(1, 3), channels=st.integers(1, 4), h=sides, w=sides, patch=st.integers(1, 6))
def test_unpatchify_undoes_patchify(batch, channels, h, w, patch):
    images = torch.randn(batch, channels, h * patch, w * patch)
    patches = patchify(images, patch)
    assert patches.shape == (batch, h * w, patch * patch * channels)
    assert torch.equal(unpatchify(patches, patch, (h, w)), images)


def test_patches_go_row_by_row_and_their_vectors_row_column_channel():
    # Pixel values spell 100 * row + 10 * column + channel, on a 4 x 6 image with patches of 2 x 2.
    rows, columns, channels = torch.arange(4), torch.arange(6), torch.arange(3)
    image = 100 * rows.view(1, 4, 1) + 10 * columns.view(1, 1, 6) + channels.view(3, 1, 1)
    patches = patchify(image.unsqueeze(0).float(), 2)[0]
    assert patches[0].tolist() == [0, 1, 2, 10, 11, 12, 100, 101, 102, 110, 111, 112]
    assert patches[1, 0] == 20 and patches[3, 0] == 200 and patches[5, -1] == 352


@pytest.mark.parametrize(
    ("height", "width", "patch", "fits"),
    [(225, 224, 16, "224x224"), (480, 854, 16, "480x848"), (480, 854, 8, "480x856"), (5, 64, 16, "16x64")],
)
def test_a_size_that_is_not_whole_patches_is_refused_with_one_that_fits(height, width, patch, fits):
    with pytest.raises(UserError, match=f"{height}x{width}.*patch size {patch}: use {fits}$"):
        patchify(torch.zeros(1, 3, height, width), patch)
    assert grid_of(*map(int, fits.split("x")), patch)


def test_patch_normalisation_by_hand():
    # One patch of the values 1, 2, 3, 6: mean 3, squared deviations 4 + 1 + 0 + 9 = 14, unbiased variance 14 / 3.
    patches = torch.tensor([[[1.0, 2.0, 3.0, 6.0]]], dtype=torch.float64)
    root = math.sqrt(14 / 3 + 1e-6)
    expected = torch.tensor([-2, -1, 0, 3], dtype=torch.float64) / root
    torch.testing.assert_close(normalize_patches(patches)[0, 0], expected, rtol=1e-12, atol=0)
    # The epsilon stands inside the root: a patch without contrast is divided by 0.001, not by 0.000001.
    mean, std = patch_statistics(torch.full((1, 1, 12), 0.25))
    assert mean.item() == 0.25 and std.item() == pytest.approx(1e-3)


def test_the_target_is_the_patches_or_the_normalised_ones():
    images = torch.randn(2, 3, 8, 12)
    patches = patchify(images, 4)
    assert torch.equal(target_patches(images, 4, norm_pix=False), patches)
    assert torch.equal(target_patches(images, 4, norm_pix=True), normalize_patches(patches))


def test_image_normalisation_by_hand_and_back():
    pixels = torch.tensor([[[0]], [[255]], [[51]]], dtype=torch.uint8)
    normal = normalize_images(pixels)
    expected = [-0.485 / 0.229, (1 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    assert normal.dtype == torch.float32
    torch.testing.assert_close(normal.flatten(), torch.tensor(expected))
    pixels = torch.randint(256, (2, 3, 4, 4), dtype=torch.uint8)
    assert torch.equal((denormalize_images(normalize_images(pixels)) * 255).round().byte(), pixels)


def test_painting_shows_the_truth_where_visible_and_the_prediction_where_hidden():
    images = torch.randn(2, 3, 8, 12)
    hidden = random_mask(2, 6, 0.5).hidden
    patches = patchify(images, 4)
    for norm_pix, perfect in ((False, patches), (True, normalize_patches(patches))):
        torch.testing.assert_close(paint_prediction(images, perfect, hidden, 4, norm_pix), images)
        wrong = patchify(paint_prediction(images, perfect + 1, hidden, 4, norm_pix), 4)
        assert torch.equal((wrong != patches).any(dim=-1), hidden)
    grey = patchify(paint_mask(images, hidden, 4), 4)
    assert (grey[hidden] == 0).all() and torch.equal(grey[~hidden], patches[~hidden])


# --- positions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [(2, 3), (7, 7), (1, 4)])
def test_positions_equal_the_formula_entry_by_entry(grid):
    dim, (h, w) = 16, grid
    table = sincos_positions(dim, grid)
    assert table.shape == (h * w, dim) and table.dtype == torch.float32
    for row in range(h):
        for column in range(w):
            for channel in range(dim):
                half, within = divmod(channel, dim // 2)
                coordinate = column if half == 0 else row  # the first half encodes the column
                wave, k = divmod(within, dim // 4)
                angle = coordinate / 10000 ** (k / (dim / 4))
                value = math.sin(angle) if wave == 0 else math.cos(angle)
                assert table[row * w + column, channel].item() == pytest.approx(value, abs=1e-6)


def test_positions_need_a_width_of_four_parts():
    with pytest.raises(UserError, match="embed_dim 6 "):
        sincos_positions(6, (2, 2))


def bicubic(old: int, new: int) -> torch.Tensor:
    """The (new, old) matrix of cubic convolution (Keys 1981, a = -0.75), half-pixel centres, clamped at the border."""

    def weight(distance: float) -> float:
        x, a = abs(distance), -0.75
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0

    matrix = torch.zeros(new, old)
    for place in range(new):
        centre = (place + 0.5) * old / new - 0.5
        for tap in range(math.floor(centre) - 1, math.floor(centre) + 3):
            matrix[place, min(max(tap, 0), old - 1)] += weight(centre - tap)
    return matrix


@pytest.mark.parametrize("new", [(7, 5), (3, 8), (2, 2)])
def test_resized_positions_equal_a_slow_bicubic(new):
    table = torch.randn(4 * 4, 6)
    expected = torch.einsum("ir,jc,rcd->ijd", bicubic(4, new[0]), bicubic(4, new[1]), table.view(4, 4, 6))
    torch.testing.assert_close(resize_positions(table, (4, 4), new), expected.reshape(-1, 6), rtol=1e-5, atol=1e-5)


def test_positions_at_their_own_grid_stay_as_they_are():
    table = sincos_positions(8, (4, 4))
    assert torch.equal(resize_positions(table, (4, 4), (4, 4)), table)


@pytest.mark.parametrize("norm_pix", [True, False])
def test_predictions_of_no_model_know_what_they_say(norm_pix):
    past, future = torch.randn(2, 3, 3, 8, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    found = model_free_predictions(past, future, 4, norm_pix)
    everything = torch.ones(3, 4, dtype=torch.bool)
    pictures = {name: paint_prediction(future, values, everything, 4, norm_pix) for name, values in found.items()}
    means = patchify(pictures["true patch means alone"], 4)
    torch.testing.assert_close(means, patchify(future, 4).mean(2, keepdim=True).expand_as(means))
    if not norm_pix:
        torch.testing.assert_close(pictures["copy of the past"], past)
    target = target_patches(future, 4, norm_pix)
    errors = {name: (values - target).square().mean().item() for name, values in found.items()}
    level = found["true patch means alone"]
    for factor in (0.0, 0.1, 1.0):  # no other factor is better
        other = level + factor * (found["copy of the past"] - level)
        assert errors["faded copy"] <= (other - target).square().mean().item() + 1e-6


def test_a_still_video_is_copied_without_error():
    frame = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    found = model_free_predictions(frame, frame, 4, norm_pix=True)
    for name in ("copy of the past", "faded copy"):
        torch.testing.assert_close(found[name], normalize_patches(patchify(frame, 4)))
