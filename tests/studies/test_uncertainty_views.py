"""Pictures and reports of one model: under one mask, with the frames they name, against what was measured directly."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lib import presets
from lib.data.futures import Futures
from lib.evaluation.ranking import of_hidden
from lib.models.uncertainty import SingleModel
from lib.models.variance_heads import GaussianSiamMAE
from lib.studies import uncertainty_measures as measures
from lib.studies import uncertainty_views as views
from lib.studies.uncertainty_data import Study, masked
from lib.tokens.painting import paint_prediction
from lib.tokens.patches import normalize_images

CLIPS, GAPS, SIDE, PATCH = 3, (4, 8, 12), 16, 4
SMALL = {"embed_dim": 16, "depth": 1, "num_heads": 2}
PRESET = replace(
    presets.SIAMMAE["toy"], image_size=SIDE, patch_size=PATCH, decoder_embed_dim=16, decoder_depth=1,
    decoder_num_heads=2, mask_ratio=0.75, gap=(4, 8),
)  # fmt: skip


def random_futures(clips: int, seed: int) -> Futures:
    """Two pasts a clip; something hid a quarter of the patches, and nothing lay outside."""
    generator = torch.Generator().manual_seed(seed)
    size, patches = (2 * clips, len(GAPS), 3, SIDE, SIDE), (SIDE // PATCH) ** 2
    future = torch.randint(256, size, dtype=torch.uint8, generator=generator)
    occluded = (torch.rand(*size[:2], patches, generator=generator) < 0.25).float()
    return Futures(future[:, 0].flip(-1), future, GAPS, clips, occluded, torch.zeros_like(occluded))


@pytest.fixture(scope="module")
def study() -> Study:
    splits = (masked(random_futures(CLIPS, seed), PATCH, 0.75) for seed in range(2))
    return Study(PRESET, Path(), Path(), [], *splits, Path())


@pytest.fixture(scope="module")
def model() -> GaussianSiamMAE:
    torch.manual_seed(0)
    return GaussianSiamMAE(**(PRESET.model_arguments() | SMALL)).eval()


def test_the_most_revealing_pasts_are_of_different_clips(study):
    futures = study.test.futures
    occluded = torch.zeros_like(futures.occluded)
    for past, hidden in ((0, 0.5), (1, 0.7), (4, 0.6), (5, 0.1)):  # pasts 2 * clip and 2 * clip + 1
        occluded[past] = hidden
    assert views.most_revealing(futures._replace(occluded=occluded), 2) == [1, 4]
    change = futures.past[:, None].repeat(1, len(GAPS), 1, 1, 1)
    change[3] = 255 - change[3]
    assert views.most_revealing(futures._replace(occluded=None, outside=None, future=change), 1) == [3]


def test_a_view_shows_what_is_visible_and_predicted(study, model):
    view = views.future_view(SingleModel(model), study.test, 4, [0, 2])
    hidden = study.test.mask.hidden[4].view(4, 4)
    pixels = hidden.repeat_interleave(PATCH, 0).repeat_interleave(PATCH, 1)
    frames = normalize_images(study.test.futures.future[4, [0, 2]])
    truth, visible, painted = view.images.values()
    torch.testing.assert_close(truth, frames)
    for pictures in (visible, painted):
        torch.testing.assert_close(pictures[..., ~pixels], frames[..., ~pixels])
    assert (visible[..., pixels] == 0).all() and (painted[..., pixels] != frames[..., pixels]).any()
    error, sigma, occluded = view.maps.values()
    np.testing.assert_array_equal(np.isnan(sigma[1]), ~hidden.numpy())
    assert sigma.shape == error.shape == occluded.shape == (2, 4, 4)
    np.testing.assert_array_equal(occluded[1].ravel(), study.test.futures.occluded[4, 2])


def test_controls_have_the_same_mask_and_another_past_is_that_one(study, model):
    rows = views.control_rows(SingleModel(model), study.test, 0, 3, [1])
    assert list(rows)[:3] == ["truth", "prediction", "prediction,\nanother past"] and len(rows) == 6
    past, wrong = (normalize_images(study.test.futures.past[k])[None] for k in (0, 3))
    future, mask = normalize_images(study.test.futures.future[:1, 1]), study.test.only(0).mask
    for name, frame in (("prediction", past), ("prediction,\nanother past", wrong)):
        prediction = SingleModel(model).predict(frame, future, mask, torch.tensor([8.0])).mean
        expected = paint_prediction(future, prediction, mask.hidden, PATCH, model.norm_pix)[0]
        torch.testing.assert_close(rows[name][1], expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(rows["prediction,\nanother past"][0], wrong[0])
    assert rows["prediction"][0] is None


def test_errors_in_both_spaces(study, model):
    normalised, rgb = views.space_rows(SingleModel(model), study.test, 0)
    estimate = measures.estimate(SingleModel(model), study.test, [0])
    assert normalised["RMSE"] == pytest.approx((estimate.target - estimate.mean).square().mean().sqrt().item())
    assert 0 < rgb["RMSE"] < 255 and rgb["RMSE"] != normalised["RMSE"]


def test_reports_of_a_run_and_its_guesses(study, model):
    estimates, reports = views.evaluate_run(model, study, "ours")
    assert list(reports) == ["ours", "visible subsets", *measures.BASELINES]
    assert reports["constant sigma"].row["ause_ratio"] == pytest.approx(1)
    assert len({report.row["rmse"] for name, report in reports.items() if name != "visible subsets"}) == 1
    rows = views.against_guesses(reports, "ours")
    assert len(rows) == 9 and rows[0]["against"] == "constant sigma"
    difference = reports["ours"].row["ause_ratio"] - reports["constant sigma"].row["ause_ratio"]
    assert rows[0]["difference"] == pytest.approx(difference)
    curves = views.sparsifications(estimates[0], study, "ours")
    assert list(curves) == ["ours", *measures.BASELINES]
    torch.testing.assert_close(curves["constant sigma"].curve, torch.ones_like(curves["ours"].curve))


def test_patches_are_grouped_by_what_the_past_shows(study, model):
    estimate = measures.estimate(SingleModel(model), study.test, study.gaps)
    groups = views.sigma_groups(estimate, study)
    hidden = of_hidden(study.test.futures.occluded[:, 1], study.test.mask.hidden)
    hidden = torch.cat([of_hidden(study.test.futures.occluded[:, 0], study.test.mask.hidden), hidden])
    sizes = [len(values) for values in groups.values()]
    assert sizes == [int((hidden == 0).sum()), int((hidden == 1).sum()), 0]
    sharp = estimate._replace(variance=torch.ones_like(estimate.variance))
    reports = dict.fromkeys(("a", *measures.BASELINES), measures.report((sharp, sharp), study))
    rows = views.auroc_rows(sharp, reports, study, "a")
    assert [row["truth"] for row in rows] == ["occluded", "occluded_or_seen", "unseen"]
    assert all(row["AUROC"] == 0.5 for row in rows) and rows[0]["AUROC of the true error"] != 0.5
