"""One estimate evaluated: right and wrong spreads with known answers, recalibration on other clips, comparisons."""

import numpy as np
import pytest
import torch

from lib.errors import UserError
from lib.evaluation.calibration import coverage, expected_calibration_error
from lib.evaluation.proper_scores import gaussian_pit
from lib.evaluation.ranking import sparsification, spearman
from lib.evaluation.uncertainty_report import Comparison, Estimate, compare, evaluate

CLIPS, PER_CLIP, PATCHES, VALUES = 12, 3, 20, 48


def draw(seed: int, clips: int = CLIPS, told: float = 1.0, flat: bool = False) -> tuple[Estimate, torch.Tensor]:
    """Errors whose sigma differs between patches by a factor of up to e^2; what is told is that sigma times `told`."""
    generator = torch.Generator().manual_seed(seed)
    sigma = torch.exp(2 * torch.rand(clips * PER_CLIP, PATCHES, 1, generator=generator) - 1).double()
    mean = torch.randn(clips * PER_CLIP, PATCHES, VALUES, generator=generator).double()
    target = mean + sigma * torch.randn(mean.shape, generator=generator).double()
    variance = torch.full_like(mean, told**2) if flat else (told * sigma).square().expand_as(mean).clone()
    return Estimate(target, mean, variance), sigma[..., 0]


def test_the_row_has_the_numbers_of_the_single_measures():
    (test, _), (held_out, _) = draw(0, told=2), draw(1, told=2)
    row = evaluate(test, held_out, CLIPS).row
    error, sigma = test.target - test.mean, row["scale"] * test.variance.sqrt()
    assert row["sharpness"] == pytest.approx(sigma.square().mean().sqrt().item())
    assert row["rmse"] == pytest.approx(error.square().mean().sqrt().item())
    assert row["crps"] == pytest.approx(sigma.mean().item() / np.sqrt(np.pi), abs=0.01)
    of_patches = test.variance.mean(dim=2).sqrt()
    assert row["spearman"] == pytest.approx(spearman(of_patches, error.abs().mean(dim=2)).mean().item())
    squared = sparsification(error.square().mean(dim=2), of_patches)
    areas = [area.mean().item() for area in (squared.ause, squared.random_ause)]
    assert (row["ause"], row["ause_ratio"]) == pytest.approx((areas[0], areas[0] / areas[1]))
    raw = gaussian_pit(*test).reshape(1, -1)
    assert row["ece_raw"] == pytest.approx(expected_calibration_error(coverage(raw)).item())


@pytest.mark.parametrize("told", [0.25, 1.0, 3.0])
def test_a_spread_wrong_by_a_factor_is_put_right_by_the_scalar(told):
    (test, sigma), (held_out, _) = draw(0, told=told), draw(1, told=told)
    report = evaluate(test, held_out, CLIPS)
    assert report.row["scale"] == pytest.approx(1 / told, rel=0.02)
    truth = 0.5 + sigma.log().mean() + 0.5 * np.log(2 * np.pi)
    assert report.row["nll"] == pytest.approx(float(truth), abs=0.02)
    assert report.row["ece"] < 0.01 and report.row["ece_isotonic"] < 0.01
    assert report.row["ece_raw"] == pytest.approx(abs(np.arctan(told) - np.pi / 4) / np.pi, abs=0.01)
    assert report.row["spearman"] > 0.9 and report.row["ause_ratio"] < 0.1
    assert report.row["nll_raw"] >= report.row["nll"] - 1e-3


def test_a_constant_ranks_nothing_but_can_be_calibrated():
    (test, sigma), (held_out, _) = draw(0, flat=True), draw(1, flat=True)
    report = evaluate(test, held_out, CLIPS, {"late": (sigma > 1).float()})
    assert report.row["spearman"] == 0 and report.row["ause_ratio"] == pytest.approx(1)
    assert report.row["auroc_late"] == report.row["auroc_late_low"] == report.row["auroc_late_high"] == 0.5
    assert report.row["ece_isotonic"] < 0.01 < report.row["ece"]  # a mixture of widths is no Gaussian


def test_auroc_of_a_truth_that_sigma_knows_by_hand():
    (test, sigma), (held_out, _) = draw(0), draw(1)
    fraction = (sigma > 1.5).float() * 0.6
    report = evaluate(test, held_out, CLIPS, {"large": fraction, "small": 0.6 - fraction})
    assert report.row["auroc_large"] == 1 and report.row["auroc_small"] == 0
    nothing = fraction.masked_fill(sigma > 1.5, torch.nan)
    assert np.isnan(evaluate(test, held_out, CLIPS, {"gone": nothing}).row["auroc_gone"])


def test_fractions_below_half_count_as_the_rest():
    (test, sigma), (held_out, _) = draw(0), draw(1)
    fraction = torch.where(sigma > 2, 0.5, torch.where(sigma > 1.5, 0.49, 0.0))
    row = evaluate(test, held_out, CLIPS, {"half": fraction}).row
    assert row["auroc_half"] == 1
    assert evaluate(test, held_out, CLIPS, {"half": fraction.where(fraction < 0.5, 0) + 0.02}).row["auroc_half"] < 1


def test_intervals_hold_the_value_and_narrow_with_more_clips():
    held_out = draw(1)[0]
    few, many = (evaluate(draw(0, clips)[0], held_out, clips) for clips in (6, 48))
    for name in ("nll", "crps", "spearman", "ause_ratio", "nll_raw"):
        for report in (few, many):
            assert report.row[f"{name}_low"] <= report.row[name] <= report.row[f"{name}_high"]
        assert many.row[f"{name}_high"] - many.row[f"{name}_low"] < few.row[f"{name}_high"] - few.row[f"{name}_low"]
    assert few.row["ece_low"] <= few.row["ece_high"] and len(many.per_clip["nll"]) == 48
    assert np.mean(many.per_clip["nll"]) == pytest.approx(many.row["nll"])
    assert np.mean(many.per_clip["ause"]) / np.mean(many.per_clip["random_ause"]) == pytest.approx(
        many.row["ause_ratio"]
    )


def test_the_curve_is_the_diagonal_for_a_calibrated_estimate():
    report = evaluate(draw(0)[0], draw(1)[0], CLIPS)
    for kind in ("raw", "scaled", "isotonic"):
        assert np.abs(np.subtract(report.curve[kind], report.curve["nominal"])).max() < 0.02
    skewed = draw(0, told=0.3)
    assert np.abs(np.subtract(evaluate(skewed[0], draw(1)[0], CLIPS).curve["raw"], report.curve["nominal"])).max() > 0.1


def test_compare_pairs_clip_by_clip():
    generator = np.random.default_rng(0)
    difficulty = generator.normal(0, 10, 40)
    ours, theirs = {"nll": list(difficulty)}, {"nll": list(difficulty + 0.1 + 0.01 * generator.normal(size=40))}
    found = compare(ours, theirs, "nll")
    assert found.difference == pytest.approx(-0.1, abs=0.01) and found.high < 0
    assert compare(ours, ours, "nll") == Comparison(0, 0, 0)
    ratio = compare(
        {"ause": [1.0, 3.0], "random_ause": [2.0, 6.0]}, {"ause": [4.0, 4.0], "random_ause": [4.0, 4.0]}, "ause_ratio"
    )
    assert ratio == Comparison(-0.5, -0.5, -0.5)


def test_reports_that_do_not_fit_are_refused():
    report = evaluate(draw(0)[0], draw(1)[0], CLIPS)
    for other, measure in (({"nll": [1.0]}, "nll"), (report.per_clip, "cats"), ({}, "ause_ratio")):
        with pytest.raises(UserError, match="same clips"):
            compare(report.per_clip, other, measure)
    for clips in (1, 5):
        with pytest.raises(UserError, match="evenly"):
            evaluate(draw(0)[0], draw(1)[0], clips)


def test_estimates_that_cannot_be_evaluated_are_refused():
    ones = torch.ones(4, 3, 2)
    for estimate, message in (
        (Estimate(ones, 2 * ones, 0 * ones), "variance must be above 0"),
        (Estimate(ones, 2 * ones, ones[:, :1]), "shapes differ"),
        (Estimate(*[ones[:, :0]] * 3), "are empty"),
    ):
        with pytest.raises(UserError, match=message):
            evaluate(estimate, estimate, 2)
