"""Scores of predicted frames, by hand and against scikit-image."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from lib.errors import UserError
from lib.evaluation.predicted_frames import false_detail, frame_maps, grid_peak, region_scores


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
    torch.testing.assert_close(perfect["detail"], perfect["true detail"])


def test_blur_has_less_detail_and_what_is_beyond_white_is_white():
    truth = frames(0)
    blurred = torch.nn.functional.avg_pool2d(truth, 3, stride=1, padding=1, count_include_pad=False)
    scores = region_scores(frame_maps(blurred, truth), whole(truth))
    assert (scores["detail"] < 0.3 * scores["true detail"]).all()
    assert frame_maps(truth + 5, torch.ones_like(truth)).error.eq(0).all()


def smooth(size: int) -> torch.Tensor:
    """A picture in 0..1 of noise, blurred over `size` pixels."""
    noise = torch.rand(1, 3, 31 + size, 31 + size, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.avg_pool2d(noise, size, 1)


def test_a_grid_is_seen_by_both_and_goes_with_its_square():
    y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    truth = smooth(3)
    for measure in (grid_peak, false_detail):
        for grid in ((-1.0) ** y, (-1.0) ** x, (-1.0) ** (x + y)):
            powers = [measure(truth + strength * grid, truth).item() for strength in (0, 0.02, 0.04, 0.08)]
            assert powers == sorted(powers)
            assert powers[3] - powers[0] == pytest.approx(16 * (powers[1] - powers[0]), rel=0.5)


def test_noise_and_the_truth():
    truth, other = frames(0, 200), frames(1, 200)
    assert grid_peak(truth, truth).mean().item() == pytest.approx(0, abs=0.1)  # which prefers no frequency
    assert false_detail(truth, truth).abs().max() < 1e-9
    assert false_detail(other, truth).mean().item() == pytest.approx(1, abs=0.1)


def test_blur_makes_no_grid_and_hides_none():
    y = torch.arange(32)[:, None].expand(32, 32)
    truth = smooth(3)
    blurred = 0.5 * truth + 0.25 * (truth.roll(1, -1) + truth.roll(-1, -1))
    assert false_detail(blurred, truth).item() < 0.05 and grid_peak(smooth(9), truth).abs().item() < 0.3
    for measure in (grid_peak, false_detail):
        grids = [measure(picture + 0.1 * (-1.0) ** y, truth).item() for picture in (truth, blurred)]
        assert grids[0] == pytest.approx(grids[1], rel=0.3) and grids[0] > 1


def test_blocks_are_false_detail_but_no_grid_of_single_pixels():
    truth = smooth(3)
    blocks = torch.nn.functional.avg_pool2d(truth, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert false_detail(blocks, truth).item() > 0.2 and grid_peak(blocks, truth).item() < 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: frame_maps(frames(0), frames(0, side=16)), "expected"),
        (lambda: region_scores(frame_maps(frames(0), frames(0)), torch.zeros(2, 32, 32) > 0), "frame 0 has an empty"),
        (lambda: region_scores(frame_maps(frames(0), frames(0)), whole(frames(0, 1))), r"region is \(1, 32, 32\)"),
        (lambda: grid_peak(frames(0, side=14), frames(0, side=14)), "even sides, 16 up"),
        (lambda: false_detail(frames(0), frames(0, 1)), "expected equal"),
    ],
)
def test_what_does_not_fit_is_told(call, words):
    with pytest.raises(UserError, match=words):
        call()
