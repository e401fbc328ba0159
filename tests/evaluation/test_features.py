"""Frames to features: in batches, not ahead, resized and normalised; videos that do not fit."""

import numpy as np
import pytest
import torch
from make_davis import moving_squares

from lib.errors import UserError
from lib.evaluation import features
from lib.evaluation.features import place_share, rgb_patch_features
from lib.evaluation.masks import propagate_masks
from lib.evaluation.protocols import get_protocol


def test_video_frames_are_read_in_batches_and_not_ahead(monkeypatch):
    monkeypatch.setattr(features, "FRAMES_AT_ONCE", 2)
    masks = moving_squares(1, 7, (32, 32))
    frames = [np.full((32, 32, 3), 20 * t, np.uint8) for t in range(7)]
    taken = []
    source = (taken.append(t) or frame for t, frame in enumerate(frames))
    protocol = get_protocol("dino", input_size=(32, 32))
    stream = propagate_masks(source, masks[0], rgb_patch_features(8), 8, protocol)
    assert np.array_equal(next(stream), masks[0]) and len(taken) == 1  # needed for its size alone
    next(stream)
    assert len(taken) == 2
    assert len(list(stream)) == 5 and len(taken) == 7


def test_features_are_computed_on_resized_normalised_frames_in_inference_mode(monkeypatch):
    monkeypatch.setattr(features, "FRAMES_AT_ONCE", 2)
    seen = []

    def feature_fn(batch):
        seen.append((batch, torch.is_inference_mode_enabled()))
        return rgb_patch_features(8)(batch)

    frames = np.full((3, 40, 60, 3), (255, 0, 51), np.uint8)
    protocol = get_protocol("crw", input_size=(32, 64))
    list(propagate_masks(frames, np.zeros((40, 60), np.uint8), feature_fn, 8, protocol))
    assert [tuple(batch.shape) for batch, _ in seen] == [(2, 3, 32, 64), (1, 3, 32, 64)]
    assert all(inference for _, inference in seen)
    expected = torch.tensor([(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225])
    torch.testing.assert_close(seen[0][0][0, :, 5, 7], expected)


def run_masks(frames=2, size=(32, 32), mask=(32, 32), patch=8, feature_fn=None, **overrides):
    video = np.zeros((frames, *size, 3), np.uint8)
    protocol = get_protocol("dino", **{"input_size": (32, 32), **overrides})
    fn = feature_fn or rgb_patch_features(patch)
    return list(propagate_masks(video, np.zeros(mask, np.uint8), fn, patch, protocol))


@pytest.mark.parametrize(
    "message, arguments",
    [
        ("without frames has no labels", {"frames": 0}),
        ("32x36 is no whole number of patches of 8", {"input_size": (32, 36)}),
        (r"first mask is \(16, 32\)", {"mask": (16, 32)}),
        (r"feature_fn returned \(2, 192\)", {"feature_fn": lambda batch: torch.zeros(2, 192)}),
        (r"expected \(B, D, \*\(4, 4\)\)", {"feature_fn": rgb_patch_features(16)}),
    ],
)
def test_videos_that_do_not_fit_are_refused(message, arguments):
    assert len(run_masks()) == 2
    with pytest.raises(UserError, match=message):
        run_masks(**arguments)


def test_the_share_of_the_place_is_all_none_or_what_analysis_of_variance_says():
    rng = np.random.default_rng(0)
    places, frames = (torch.from_numpy(rng.normal(size=shape)).float() for shape in ((5, 4, 6), (3000, 5, 4, 6)))
    share, mean = place_share(places for _ in range(7))
    assert share == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(mean, places)
    assert place_share(frames)[0] == pytest.approx(1 / 3000, rel=0.3)  # chance: means of 3000 frames differ, too
    assert place_share(1e3 + place + places for place in frames)[0] == pytest.approx(0.5, abs=0.1)
    values = np.stack([frame + places for frame in frames[:50]]).astype(np.float64)  # frames x D x h x w
    between = ((values.mean(0) - values.mean((0, 2, 3))[:, None, None]) ** 2).sum() * 50
    total = ((values - values.mean((0, 2, 3))[:, None, None]) ** 2).sum()
    assert place_share(torch.from_numpy(values))[0] == pytest.approx(between / total)
