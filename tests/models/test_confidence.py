"""Confidence of whole frames from a model of small ones: windows that cover, masks that miss nothing."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_training import DECODER, SHAPE

from lib.errors import UserError
from lib.models.confidence import FrameConfidence, predicted_variance, starts
from lib.models.uncertainty import SingleModel
from lib.models.variance_heads import GaussianSiamMAE
from lib.tokens.masking import mask_from_noise
from lib.tokens.patches import normalize_images

PATCH, SIDE = SHAPE["patch_size"], SHAPE["image_size"]


def build(log_variance: float | None = None) -> GaussianSiamMAE:
    """A small model; with `log_variance` it states that everywhere, up to the bound's tanh."""
    torch.manual_seed(0)
    model = GaussianSiamMAE(**SHAPE, **DECODER).eval()
    with torch.no_grad():
        if log_variance is None:
            torch.nn.init.normal_(model.variance_head.maps.weight, std=0.5)
        else:
            model.variance_head.maps.bias.fill_(8 * math.atanh(log_variance / 8))
            model.decoder.head.weight.zero_()  # the means agree, whatever is visible
    return model


@given(st.integers(1, 6), st.integers(0, 40), st.sampled_from([2, 4, 8]))
def test_windows_cover_a_frame_with_as_few_as_can_be(patches, more, patch):
    side, length = patches * patch, (patches + more) * patch
    found = starts(length, side, patch)
    covered = {place for start in found for place in range(start, start + side)}
    assert covered == set(range(length)) and len(found) == math.ceil(length / side)
    assert all(start % patch == 0 for start in found)


def test_the_toy_preset_s_windows_by_hand():
    assert starts(144, 64, 8) == [0, 40, 80] and starts(192, 64, 8) == [0, 64, 128] and starts(64, 64, 8) == [0]


@pytest.mark.parametrize("log_variance", [-2.0, 0.0, 1.5])
def test_a_model_that_states_one_variance_gives_one_confidence(log_variance):
    frames = list(np.random.default_rng(0).integers(0, 256, (3, 20, 36, 3), dtype=np.uint8))
    found = list(FrameConfidence(build(log_variance), (20, 36), sharpness=0.5)(iter(frames)))
    assert len(found) == 3 and all(cells.shape == (5, 9) for cells in found)
    assert torch.equal(found[0], torch.ones(5, 9))
    for cells in found[1:]:
        torch.testing.assert_close(cells, torch.full((5, 9), math.exp(-0.5 * math.exp(log_variance))))


def test_a_frame_of_the_model_s_size_is_two_predictions_put_together():
    model, generator = build(), torch.Generator().manual_seed(3)
    past, future = (normalize_images(torch.rand(1, 3, SIDE, SIDE, generator=generator)) for _ in range(2))
    found = predicted_variance(model, past, future, torch.Generator().manual_seed(7))
    noise = torch.rand(1, 16, generator=torch.Generator().manual_seed(7))
    expected = torch.zeros(2, 16)
    masks = [mask_from_noise(noise, 4), mask_from_noise(-noise, 4)]
    predictions = [SingleModel(model).predict(past, future, mask, torch.ones(1)) for mask in masks]  # 1: the next frame
    for place in range(16):
        seen = [k for k in range(2) if masks[k].hidden[0, place]]
        means = torch.stack([predictions[k].mean[0, place] for k in seen])
        aleatoric = torch.stack([predictions[k].aleatoric[0, place] for k in seen])
        expected[0, place] = (aleatoric.mean(0) + means.var(0, correction=0)).mean()
        assert seen, "a patch that no mask hides has no prediction"
    torch.testing.assert_close(found.flatten(), expected[0])
    assert found.std() > 0


def test_windows_that_overlap_are_averaged():
    """20 pixels in windows of 16: the middle 12 lie in both, the outer 4 in one each."""
    model = build()
    past, future = (
        normalize_images(torch.rand(1, 3, SIDE, 20, generator=torch.Generator().manual_seed(k))) for k in (0, 1)
    )
    found = predicted_variance(model, past, future, torch.Generator().manual_seed(0))
    assert found.shape == (4, 5) and found.isfinite().all() and found.min() > 0


def test_it_is_repeatable_and_flat_without_sharpness():
    frames = list(np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3), dtype=np.uint8))
    one, two = (list(FrameConfidence(build(), (16, 24), 2.0)(frames)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True)) and one[1].std() > 0
    assert all(cells.eq(1).all() for cells in FrameConfidence(build(), (16, 24), 0.0)(frames))


@pytest.mark.parametrize("size", [(12, 24), (18, 24), (16, 26)])
def test_sizes_that_do_not_fit_are_refused(size):
    frames = list(np.zeros((2, 16, 24, 3), np.uint8))
    with pytest.raises(UserError):
        list(FrameConfidence(build(), size)(frames))
