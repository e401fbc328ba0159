"""Patches, positions and masks, against counts, hand calculations and slow loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import UserError
from lib.tokens.masking import (
    MASKINGS,
    get_masking,
    mask_from_noise,
    masked_mean,
    num_visible,
    random_mask,
    restore_order,
    take,
)
from lib.tokens.patches import (
    denormalize_images,
    grid_of,
    model_free_predictions,
    normalize_images,
    normalize_patches,
    paint_mask,
    paint_prediction,
    patch_statistics,
    patchify,
    resize_positions,
    sincos_positions,
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
    grey = patchify(paint_mask(images, hidden, 4, grey=0.5), 4)
    assert (grey[hidden] == 0.5).all() and torch.equal(grey[~hidden], patches[~hidden])


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
def test_strategies_draw_for_each_sample_apart_and_keep_every_place_equally_often(name):
    torch.manual_seed(0)
    grid = (8, 2, 4)
    hidden = get_masking(name, 0.75)(tokens_on(grid, 4000), grid).hidden
    assert len({tuple(row) for row in hidden[:50].tolist()}) > 10
    assert ((~hidden).float().mean(dim=0) - 0.25).abs().max() < 0.03  # over four standard deviations


def test_tubes_stay_whole_where_random_numbers_are_equal(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *size, device: torch.zeros(size, device=device))
    grid = (3, 2, 2)
    for name in ("tube", "frame"):
        visible = (~get_masking(name, 0.5)(tokens_on(grid), grid).hidden).view(3, 3, 4)
        assert torch.equal(*(f(visible, dim=1 if name == "tube" else 2) for f in (torch.any, torch.all)))


def test_a_strategy_is_the_random_mask_of_a_single_frame():
    torch.manual_seed(0)
    expected = random_mask(3, 64, 0.95)
    torch.manual_seed(0)
    drawn = get_masking("random", 0.95)(tokens_on((1, 8, 8)), (1, 8, 8))
    assert all(torch.equal(one, other) for one, other in zip(drawn, expected, strict=True))


def test_unknown_strategies_and_frames_that_all_hide_are_refused_in_one_line():
    with pytest.raises(UserError, match="^unknown masking 'tubes': did you mean 'tube'. choose one of frame, random"):
        get_masking("tubes", 0.9)
    with pytest.raises(UserError, match="^mask_ratio 0.95 hides all 8 times: lower it or use longer clips$"):
        get_masking("frame", 0.95)(tokens_on((8, 2, 2)), (8, 2, 2))
    with pytest.raises(UserError, match="^mask_ratio 0.9 hides all 4 places: lower it or use smaller patches$"):
        get_masking("tube", 0.9)(tokens_on((8, 2, 2)), (8, 2, 2))


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
    target = normalize_patches(patchify(future, 4)) if norm_pix else patchify(future, 4)
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
