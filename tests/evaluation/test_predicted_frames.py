"""Scores of predicted frames, by hand and against scikit-image."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from lib.errors import UserError
from lib.evaluation.predicted_frames import frame_maps, grid_power, region_scores


def frames(seed: int, count: int = 2, side: int = 32) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def whole(pictures: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(pictures), *pictures.shape[-2:], dtype=torch.bool)


def test_similarity_is_that_of_scikit_image_away_from_the_border():
    truth = frames(0)
    predicted = (0.6 * truth + 0.4 * frames(1)).clamp(0, 1)
    maps = frame_maps(predicted, truth)
    for ours, one, other in zip(maps.similarity, predicted, truth, strict=True):
        pair = [picture.permute(1, 2, 0).double().numpy() for picture in (one, other)]
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
        _, theirs = structural_similarity(*pair, channel_axis=2, full=True, **options)
        np.testing.assert_allclose(ours[5:-5, 5:-5], theirs.mean(axis=2)[5:-5, 5:-5], atol=1e-4)


def test_a_region_counts_alone():
    truth, predicted = frames(0), frames(0)
    predicted[:, :, :8] = 0.5
    region = torch.zeros(2, 32, 32, dtype=torch.bool)
    region[:, :4, :3] = True
    region[1, 4:8] = True
    scores = region_scores(frame_maps(predicted, truth), region)
    error = (predicted - truth).abs().mean(dim=1)
    for number in range(2):
        assert scores["error"][number].item() == pytest.approx(error[number][region[number]].mean().item(), rel=1e-5)
    untouched = region.roll(20, dims=1)
    perfect = region_scores(frame_maps(predicted, truth), untouched)
    assert perfect["error"].eq(0).all() and (perfect["ssim"] - 1).abs().max() < 1e-5
    assert (perfect["detail"] - 1).abs().max() < 1e-5


def test_blur_has_less_detail_and_what_is_beyond_white_is_white():
    truth = frames(0)
    blurred = torch.nn.functional.avg_pool2d(truth, 3, stride=1, padding=1, count_include_pad=False)
    assert (region_scores(frame_maps(blurred, truth), whole(truth))["detail"] < 0.3).all()
    assert frame_maps(truth + 5, torch.ones_like(truth)).error.eq(0).all()


def test_a_grid_has_power_where_it_should():
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    smooth = torch.nn.functional.avg_pool2d(torch.randn(1, 3, 36, 36, generator=torch.Generator().manual_seed(0)), 5, 1)
    rows, checkers, columns4 = ((-1.0) ** y, (-1.0) ** (x + y), (x % 4 == 0).float())
    plain = grid_power(smooth).item()
    for grid in (rows, checkers):
        powers = [grid_power(smooth + strength * grid).item() for strength in (0.05, 0.1, 0.2)]
        assert plain < powers[0] < powers[1] < powers[2]
    assert grid_power(smooth + 0.2 * columns4, period=4).item() > 3 * grid_power(smooth, period=4).item()
    assert grid_power(frames(0, 200)).mean().item() == pytest.approx(1, abs=0.1)  # noise prefers nothing


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: frame_maps(frames(0), frames(0, side=16)), "expected"),
        (lambda: region_scores(frame_maps(frames(0), frames(0)), torch.zeros(2, 32, 32) > 0), "frame 0 has an empty"),
        (lambda: region_scores(frame_maps(frames(0), frames(0)), whole(frames(0, 1))), r"region is \(1, 32, 32\)"),
        (lambda: grid_power(frames(0, side=14)), "whole periods"),
    ],
)
def test_what_does_not_fit_is_told(call, words):
    with pytest.raises(UserError, match=words):
        call()
