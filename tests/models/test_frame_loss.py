"""The loss of predicted frames against scikit-image and by hand."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from lib.errors import UserError
from lib.models.frame_loss import check_weights, frame_loss

WINDOW = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}


def frames(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_parts_are_means_over_frames():
    one, other = frames(0, 2, 3, 3, 24, 16), frames(1, 2, 3, 3, 24, 16)
    other = 0.7 * one + 0.3 * other
    loss, parts = frame_loss(one, other, (0.5, 0.3, 0.2))
    lots = [pictures.flatten(0, 1).permute(0, 2, 3, 1).numpy() for pictures in (one, other)]
    pairs = list(zip(*lots, strict=True))
    maps = [structural_similarity(a, b, channel_axis=2, full=True, **WINDOW)[1] for a, b in pairs]
    inner = 1 - np.mean(maps, axis=(0, 3))[5:-5, 5:-5].mean()  # at borders the two continue pictures differently
    assert parts["l1"].item() == pytest.approx(np.mean([np.abs(a - b).mean() for a, b in pairs]), rel=1e-5)
    assert parts["l2"].item() == pytest.approx(np.mean([((a - b) ** 2).mean() for a, b in pairs]), rel=1e-5)
    assert parts["dssim"].item() == pytest.approx(inner, rel=0.1)
    expected = 0.5 * parts["dssim"] + 0.3 * parts["l1"] + 0.2 * parts["l2"]
    torch.testing.assert_close(loss, expected)


def test_equal_frames_cost_nothing():
    loss, _ = frame_loss(frames(0, 1, 1, 3, 16, 16), frames(0, 1, 1, 3, 16, 16), (0.9, 0.05, 0.05))
    assert abs(loss.item()) < 1e-6


def test_a_negative_is_not_similar_unless_it_may_go_below_black():
    """SSIM without clipping takes a textured picture and its negative, far below black, for the same."""
    truth = frames(0, 1, 1, 3, 32, 32).float()
    weights = (1.0, 0.0, 0.0)
    parts = {clipped: frame_loss(-truth, truth, weights, clipped)[1]["dssim"].item() for clipped in (True, False)}
    assert abs(parts[False]) < 0.02 and parts[True] > 0.9


def test_its_gradient_is_the_slope():
    one, other = frames(0, 1, 1, 3, 16, 16).requires_grad_(), frames(1, 1, 1, 3, 16, 16)
    weights = (0.9, 0.05, 0.05)
    (slope,) = torch.autograd.grad(frame_loss(one, other, weights)[0], one)
    step = 1e-3 * torch.sign(slope)
    with torch.no_grad():
        rise = frame_loss(one + step, other, weights)[0] - frame_loss(one - step, other, weights)[0]
    assert rise.item() == pytest.approx(2e-3 * slope.abs().sum().item(), rel=0.01)


def test_half_precision_around_it_changes_nothing():
    one, other = frames(0, 1, 2, 3, 16, 16).float(), frames(1, 1, 2, 3, 16, 16).float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = frame_loss(one, other, (1.0, 0.0, 0.0))[0]
    torch.testing.assert_close(inside, frame_loss(one, other, (1.0, 0.0, 0.0))[0])


def test_weights_that_do_not_sum_to_one_are_refused():
    with pytest.raises(UserError, match="sum to 1.4: they must sum to 1"):
        check_weights((1.0, 0.1, 0.3))
