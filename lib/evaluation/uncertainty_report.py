"""One estimate of uncertainty, evaluated on held-out clips after a recalibration fitted on others.

A Gaussian with the estimate's mean and variance is evaluated; a mixture by its first two moments. Two recalibrations
are fitted: one scalar for sigma, under which NLL, CRPS, sharpness and ECE are given, and an isotonic map on top of it,
which changes ECE alone. Ranking looks at patches, the unit that is masked, and needs neither. Shapes: `C` clips, `I`
pairs of frames (equally many a clip, in a row), `n` hidden patches a pair, `D` values a patch.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lib.errors import UserError
from lib.evaluation import calibration, ranking
from lib.evaluation.intervals import Interval, bootstrap
from lib.evaluation.proper_scores import gaussian_crps, gaussian_nll, gaussian_pit

REVEALED = 0.5  # fraction of a patch from which it counts as revealed


class Estimate(NamedTuple):
    """What is predicted of hidden patches, and what is true: (I, n, D) each."""

    target: Tensor
    mean: Tensor
    variance: Tensor


class Report(NamedTuple):
    """Numbers of an estimate; `{name}_low` and `{name}_high` are the ends of a 95 % interval, drawn over clips."""

    row: dict[str, float]  # measures by name
    per_clip: dict[str, list[float]]  # C numbers a measure, for paired comparisons of estimates on the same clips
    curve: dict[str, list[float]]  # reliability: `nominal` levels, and what is observed `raw`, `scaled`, `isotonic`


def evaluate(test: Estimate, held_out: Estimate, clips: int, revealed: dict[str, Tensor] | None = None) -> Report:
    """Numbers of `test` (C = `clips`), recalibrated on `held_out`, which must be of other clips.

    `revealed`: float (I, n) by name, the fraction of a patch that something hid before, NaN to leave it out; the row
    then has `auroc_{name}`, how well sigma tells patches of at least REVEALED from the rest.
    """
    if clips < 2 or len(test.target) % clips:
        raise UserError(f"{len(test.target)} pairs are not evenly from {clips} clips, or those are fewer than 2")
    scale = calibration.fit_scale(held_out.target - held_out.mean, held_out.variance)
    scaled, fitted = (part._replace(variance=scale**2 * part.variance) for part in (test, held_out))
    pits = {"raw": gaussian_pit(*test), "scaled": gaussian_pit(*scaled)}
    pits["isotonic"] = calibration.isotonic_recalibration(gaussian_pit(*fitted), pits["scaled"])
    ranks = ranking.patch_ranks(*scaled)
    values = _values(scaled, ranks) | {"nll_raw": gaussian_nll(*test)}
    means = {name: float(value.mean()) for name, value in values.items()}
    observed = {name: calibration.coverage(pit.reshape(clips, -1)) for name, pit in pits.items()}
    ece = {name: float(calibration.expected_calibration_error(rows)) for name, rows in observed.items()}
    row = {
        "scale": scale,  # of sigma; under it nll to ece
        "nll": means["nll"],  # nats a value
        "crps": means["crps"],
        "sharpness": calibration.sharpness(scaled.variance),
        "rmse": math.sqrt(means["squared_error"]),
        "ece": ece["scaled"],
        "spearman": means["spearman"],  # of sigma and absolute error
        "ause": means["ause"],  # of squared errors
        "ause_ratio": float(values["ause"].mean() / values["random_ause"].mean()),
        "nll_raw": means["nll_raw"],  # as predicted
        "ece_raw": ece["raw"],
        "ece_isotonic": ece["isotonic"],
    }
    per_clip = {name: value.reshape(clips, -1).mean(dim=1) for name, value in values.items()}
    intervals = _intervals(per_clip, observed)
    for name, fraction in (revealed or {}).items():
        intervals[f"auroc_{name}"] = _auroc(ranks.sigma, fraction, clips)
        row[f"auroc_{name}"] = intervals[f"auroc_{name}"].value
    for name, interval in intervals.items():
        row |= {f"{name}_low": float(interval.low), f"{name}_high": float(interval.high)}
    curve = {"nominal": calibration.LEVELS, **{name: rows.mean(dim=0) for name, rows in observed.items()}}
    return Report(row, *({name: part.tolist() for name, part in parts.items()} for parts in (per_clip, curve)))


def _values(estimate: Estimate, ranks: ranking.PatchRanks) -> dict[str, Tensor]:
    """What is averaged, over all pairs or over a clip's: (I, ...) each."""
    squared = ranking.sparsification(ranks.squared_error, ranks.sigma)
    return {
        "nll": gaussian_nll(*estimate),
        "crps": gaussian_crps(*estimate),
        "spearman": ranking.spearman(ranks.sigma, ranks.absolute_error),
        "ause": squared.ause,
        "random_ause": squared.random_ause,
        "squared_error": ranks.squared_error,
    }


def _intervals(per_clip: dict[str, Tensor], observed: dict[str, Tensor]) -> dict[str, Interval]:
    """Bootstrap over clips of means (C,) each, of the AUSE ratio, and of the ECE from each clip's coverage (C, L)."""

    def of(values: Tensor, statistic: Callable[[Tensor], Tensor] = torch.mean) -> Interval:
        return bootstrap(lambda chosen: statistic(values[chosen]), len(values))

    both = torch.stack([per_clip["ause"], per_clip["random_ause"]], dim=1)
    return {name: of(per_clip[name]) for name in ("nll", "nll_raw", "crps", "spearman")} | {
        "ause_ratio": of(both, lambda drawn: torch.div(*drawn.mean(dim=0))),
        "ece": of(observed["scaled"], calibration.expected_calibration_error),
        "ece_isotonic": of(observed["isotonic"], calibration.expected_calibration_error),
    }


def _auroc(sigma: Tensor, fraction: Tensor, clips: int) -> Interval:
    """AUROC of patches with a fraction of at least REVEALED; NaN without any, its ends already when a draw has none."""
    positive, known = fraction >= REVEALED, ~fraction.isnan()
    sigma, positive, known = (values.reshape(clips, -1) for values in (sigma, positive, known))

    def statistic(chosen: Tensor) -> float:
        there = known[chosen]
        true = positive[chosen][there]
        return ranking.auroc(sigma[chosen][there], true) if true.any() and not true.all() else math.nan

    return bootstrap(statistic, clips, resamples=200)


class Comparison(NamedTuple):
    """A measure of one estimate minus another's, on the same clips."""

    difference: float
    low: float
    high: float


def compare(ours: dict[str, list[float]], theirs: dict[str, list[float]], measure: str) -> Comparison:
    """Difference of a measure of `Report.per_clip`, with its 95 % interval over clips; `ause_ratio` is one of them."""
    names = ("ause", "random_ause") if measure == "ause_ratio" else (measure,)
    missing = [name for name in names if name not in ours or name not in theirs]
    if missing or len(ours[names[0]]) != len(theirs[names[0]]):
        raise UserError(f"no {measure} of the same clips in both reports: evaluate both anew")
    values = torch.tensor([[side[name] for name in names] for side in (ours, theirs)], dtype=torch.float64)

    def statistic(chosen: Tensor) -> Tensor:
        means = values[..., chosen].mean(dim=2)
        both = means[:, 0] / means[:, 1] if measure == "ause_ratio" else means[:, 0]
        return both[0] - both[1]

    return Comparison(*(float(value) for value in bootstrap(statistic, values.shape[2])))
