"""Straight-line guesses of futures: copies, whole shifts, and a motion that optical flow finds."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from lib.evaluation.extrapolation import extrapolate, optical_flow

INSIDE = (..., slice(12, -12), slice(12, -12))


def texture(height: int = 80, width: int = 80, seed: int = 0) -> torch.Tensor:
    """A smooth random picture, uint8 (3, H, W)."""
    noise = np.random.default_rng(seed).standard_normal((3, height, width))
    smooth = np.stack([gaussian_filter(plane, 2.5) for plane in noise])
    return torch.from_numpy((smooth - smooth.min()) / (smooth.max() - smooth.min()) * 255).byte()


def constant(down: float, right: float, height: int, width: int) -> torch.Tensor:
    return torch.tensor([down, right]).view(2, 1, 1).expand(2, height, width)


def test_without_motion_the_future_is_a_copy():
    frame = torch.randn(3, 20, 31)
    found = extrapolate(frame, torch.zeros(2, 20, 31), (1, 2.5, 12))
    assert found.shape == (3, 3, 20, 31)
    torch.testing.assert_close(found, frame.expand(3, -1, -1, -1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("down", "right"), [(1, 0), (0, -2), (-1, 2)])
def test_a_motion_goes_on_as_it_was(down, right):
    """What lay `down, right` less far in the earlier frame lies so much further in later ones."""
    frame = torch.randn(3, 40, 50)
    found = extrapolate(frame, constant(-down, -right, 40, 50), (1, 3))
    for picture, steps in zip(found, (1, 3), strict=True):
        expected = frame.roll((steps * down, steps * right), (1, 2))
        assert expected[INSIDE].shape == (3, 16, 26)
        torch.testing.assert_close(picture[INSIDE], expected[INSIDE], rtol=1e-4, atol=1e-4)


def test_half_a_pixel_is_the_mean_of_two_and_edges_are_continued():
    frame = torch.randn(3, 10, 12)
    half = extrapolate(frame, constant(0, -1, 10, 12), (0.5,))[0]
    torch.testing.assert_close(half[..., 1:], (frame[..., 1:] + frame[..., :-1]) / 2, rtol=1e-4, atol=1e-5)
    away = extrapolate(frame, constant(0, -1, 10, 12), (100,))[0]
    torch.testing.assert_close(away, frame[..., :1].expand_as(frame), rtol=1e-4, atol=1e-5)


def test_each_pixel_follows_its_own_flow():
    frame, flow = torch.randn(3, 12, 16), torch.zeros(2, 12, 16)
    flow[1, :, 8:] = -2
    found = extrapolate(frame, flow, (1,))[0]
    torch.testing.assert_close(found[..., :8], frame[..., :8], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[..., 8:], frame[..., 6:14], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("down", "right"), [(2, -1), (-3, 0), (1, 3)])
def test_optical_flow_finds_a_motion_and_its_sign(down, right):
    scene = texture(100, 100)
    past, earlier = scene[:, 10:90, 10:90], scene[:, 10 + down : 90 + down, 10 + right : 90 + right]
    flow = optical_flow(past, earlier)
    assert flow.shape == (2, 80, 80) and flow.dtype == torch.float32
    # what is at (y, x) in the past is at (y - down, x - right) in the earlier frame
    error = flow[INSIDE] - constant(-down, -right, 80, 80)[INSIDE]
    assert error.abs().mean() < 0.1 and error.abs().quantile(0.99) < 0.3


def test_flow_and_extrapolation_together_foretell_a_steady_motion():
    scene = texture(110, 110, seed=1)
    earlier, past, future = (scene[:, 20 + 2 * t : 90 + 2 * t, 20 - t : 90 - t].float() for t in range(3))
    guess = extrapolate(past, optical_flow(past.byte(), earlier.byte()), (1,))[0]
    wrong = (guess - future)[INSIDE].square().mean()
    assert wrong < 0.05 * (past - future)[INSIDE].square().mean()


def test_a_still_scene_has_no_flow():
    frame = texture(40, 40)
    assert optical_flow(frame, frame).abs().max() < 1e-3
