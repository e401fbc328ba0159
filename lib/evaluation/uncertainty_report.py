"""One estimate of uncertainty, judged on held-out clips after a recalibration fitted on others: a row with intervals.

A Gaussian with the estimate's mean and variance is judged; a mixture by its first two moments. Two recalibrations are
fitted on the calibration split: one scalar for sigma, under which NLL, CRPS, sharpness and calibration are given, and
an isotonic map on top of it, which changes calibration alone. Ranking needs neither.

Shapes: `C` clips, `I` pairs of frames (the same number from each clip, in a row), `n` hidden patches a pair, `D` values
a patch.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lib.errors import UserError
from lib.evaluation import calibration, proper_scores, ranking
from lib.evaluation.intervals import Interval, bootstrap
from lib.evaluation.uncertainty_scores import patch_ranks, uncertainty_scores

REVEALED = 0.5  # share of a patch from which it counts as revealed


class Estimate(NamedTuple):
    """What is predicted of hidden patches, and what is true: (I, n, D) each."""

    target: Tensor
    mean: Tensor
    variance: Tensor


class Report(NamedTuple):
    """Numbers of an estimate."""

    row: dict[str, float]
    """Measures by name; `{name}_low` and `{name}_high` are the ends of a 95 % interval, drawn over clips."""
    per_clip: dict[str, list[float]]
    """C numbers a measure, for paired comparisons of estimates on the same clips."""
    curve: dict[str, list[float]]
    """The reliability curve: `nominal` levels, and the share observed `raw`, `scaled` and `isotonic`."""


def judge(test: Estimate, held_out: Estimate, clips: int, revealed: dict[str, Tensor] | None = None) -> Report:
    """Judge `test` after recalibration on `held_out`, which must not share clips with it.

    clips: C. revealed: names of truths, float (I, n): the share of a patch that something hid before, NaN to leave it
    out; the row then has `auroc_{name}`, how well sigma tells patches of at least REVEALED from the rest, or NaN where
    all are of one kind.
    Besides the measures of `uncertainty_scores` (under the scaled variance) the row has `scale`, `nll_raw`, `ece_raw`
    and `ece_isotonic`. Raises UserError as the measures do, and if pairs cannot be shared out evenly among the clips.
    """
    if clips < 2 or len(test.target) % clips:
        raise UserError(f"{len(test.target)} pairs are not evenly from {clips} clips, or those are fewer than 2")
    scale = calibration.fit_scale(held_out.target - held_out.mean, held_out.variance)
    scaled = test._replace(variance=scale**2 * test.variance)
    pits = {
        "raw": proper_scores.gaussian_pit(*test),
        "scaled": proper_scores.gaussian_pit(*scaled),
    }
    fitted = held_out._replace(variance=scale**2 * held_out.variance)
    pits["isotonic"] = calibration.IsotonicRecalibration(proper_scores.gaussian_pit(*fitted))(pits["scaled"])
    row = {"scale": scale, **uncertainty_scores(*scaled), "nll_raw": float(proper_scores.gaussian_nll(*test).mean())}
    row |= {f"ece_{name}": calibration.expected_calibration_error(pits[name]) for name in ("raw", "isotonic")}
    per_clip = _per_clip(scaled, clips) | {"nll_raw": _clip_means(proper_scores.gaussian_nll(*test), clips)}
    found = {name: _mean_interval(per_clip[name]) for name in ("nll", "nll_raw", "crps", "spearman")}
    both = torch.stack([per_clip["ause"], per_clip["random_ause"]])
    found["ause_ratio"] = bootstrap(lambda chosen: (lambda part: part[0] / part[1])(both[:, chosen].mean(1)), clips)
    observed = {name: calibration.coverage(pit.reshape(clips, -1)) for name, pit in pits.items()}
    for name, column in (("ece", "scaled"), ("ece_isotonic", "isotonic")):
        found[name] = bootstrap(_calibration_error(observed[column]), clips)
    for name, share in (revealed or {}).items():
        found[f"auroc_{name}"] = _auroc(patch_ranks(*scaled).sigma, share, clips)
        row[f"auroc_{name}"] = found[f"auroc_{name}"].value
    for name, interval in found.items():
        row |= {f"{name}_low": float(interval.low), f"{name}_high": float(interval.high)}
    curve = {"nominal": calibration.LEVELS, **{name: rows.mean(dim=0) for name, rows in observed.items()}}
    lists = ({name: values.tolist() for name, values in part.items()} for part in (per_clip, curve))
    return Report(row, *lists)


def _per_clip(estimate: Estimate, clips: int) -> dict[str, Tensor]:
    """Means over each clip (C,) of what `judge` compares; AUSE is for squared errors."""
    ranks = patch_ranks(*estimate)
    squared = ranking.sparsification(ranks.squared_error, ranks.sigma)
    values = {
        "nll": proper_scores.gaussian_nll(*estimate),
        "crps": proper_scores.gaussian_crps(*estimate),
        "spearman": ranking.spearman(ranks.sigma, ranks.absolute_error),
        "ause": squared.ause,
        "random_ause": squared.random_ause,
        "squared_error": ranks.squared_error,
    }
    return {name: _clip_means(value, clips) for name, value in values.items()}


def _clip_means(values: Tensor, clips: int) -> Tensor:
    return values.reshape(clips, -1).mean(dim=1)


def _mean_interval(values: Tensor) -> Interval:
    return bootstrap(lambda chosen: values[chosen].mean(), len(values))


def _calibration_error(observed: Tensor) -> Callable[[Tensor], Tensor]:
    """The ECE of chosen clips, from each clip's coverage (C, L)."""
    return lambda chosen: (observed[chosen].mean(dim=0) - calibration.LEVELS).abs().mean()


def _auroc(sigma: Tensor, share: Tensor, clips: int, resamples: int = 200) -> Interval:
    """AUROC of patches with a share of at least REVEALED against the rest.

    NaN where there are no such patches, as interval already when a draw of clips has none.
    """
    positive, known = share >= REVEALED, ~share.isnan()
    sigma, positive, known = (values.reshape(clips, -1) for values in (sigma, positive, known))

    def statistic(chosen: Tensor) -> float:
        there = known[chosen]
        true = positive[chosen][there]
        return ranking.auroc(sigma[chosen][there], true) if true.any() and not true.all() else math.nan

    return bootstrap(statistic, clips, resamples)


class Comparison(NamedTuple):
    """A measure of one estimate minus another's, on the same clips."""

    difference: float
    low: float
    high: float


def compare(ours: dict[str, list[float]], theirs: dict[str, list[float]], measure: str) -> Comparison:
    """Difference of a measure of `Report.per_clip`, with its 95 % interval over clips; `ause_ratio` is one of them.

    Raises UserError for reports of different clips or a measure that they lack.
    """
    names = ("ause", "random_ause") if measure == "ause_ratio" else (measure,)
    missing = [name for name in names if name not in ours or name not in theirs]
    if missing or len(ours[names[0]]) != len(theirs[names[0]]):
        raise UserError(f"no {measure} of the same clips in both reports: judge both anew")
    values = torch.tensor([[side[name] for name in names] for side in (ours, theirs)], dtype=torch.float64)

    def statistic(chosen: Tensor) -> Tensor:
        means = values[..., chosen].mean(dim=2)
        both = means[:, 0] / means[:, 1] if measure == "ause_ratio" else means[:, 0]
        return both[0] - both[1]

    return Comparison(*(float(value) for value in bootstrap(statistic, values.shape[2])))
