"""One model's predictions and its uncertainty, as notebook 05 shows them: pictures, reports, what sigma follows.

Shapes: `C` clips, `I` pasts, `G` gaps, `S` side in pixels, `n` hidden patches, (h, w) patch grid.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lib.data.futures import Futures
from lib.evaluation import ranking
from lib.evaluation.uncertainty_report import REVEALED, Estimate, Report, compare
from lib.models.siammae import SiamMAE
from lib.models.uncertainty import SingleModel, VisibleSubsets, to_pixels
from lib.studies import uncertainty_measures as measures
from lib.studies.uncertainty_data import Split, Study
from lib.studies.uncertainty_measures import BASELINES, SEEN
from lib.tokens.painting import model_free_predictions, paint_mask, paint_prediction
from lib.tokens.patches import denormalize_images, normalize_images, patchify


def most_revealing(futures: Futures, number: int) -> list[int]:
    """The pasts, each of another clip, with the most that was hidden before (toy world) or that changes (real)."""
    if futures.occluded is not None:
        interest = (futures.occluded - futures.outside).flatten(1).mean(1)
    else:
        changes = (future.float() - past.float() for future, past in zip(futures.future, futures.past, strict=True))
        interest = torch.stack([change.abs().mean() for change in changes])
    per_clip = len(futures.past) // futures.clips
    best = interest.view(-1, per_clip).max(dim=1)  # over the pasts of a clip, which are in a row
    chosen = best.values.argsort(descending=True, stable=True)[:number]
    return [int(clip * per_clip + best.indices[clip]) for clip in chosen]


class FutureView(NamedTuple):
    """One past, (3, S, S), and its futures at some gaps: normalised images, and maps."""

    past: Tensor
    images: dict[str, Tensor]  # (G, 3, S, S) each
    maps: dict[str, np.ndarray]  # (G, h, w) each; error and sigma in the loss's space, NaN where visible


def future_view(estimator, split: Split, past: int, gaps: Sequence[int]) -> FutureView:
    """What the estimator predicts of the futures at these gap numbers, and, where known, what the past hid of them."""
    model, futures, single, gaps = measures.model_of(estimator), split.futures, split.only(past), list(gaps)
    predictions = [measures.predict(estimator, single, gap) for gap in gaps]
    means, variances = (torch.cat(parts) for parts in zip(*((p.mean, p.total) for p in predictions), strict=True))
    targets = torch.cat([measures.truth(estimator, single, gap) for gap in gaps])
    frames = normalize_images(futures.future[past, gaps])
    hidden = split.mask.hidden[past].expand(len(gaps), -1)
    painted = paint_prediction(frames, means, hidden, model.patch_size, model.norm_pix)
    images = {"truth": frames, "visible": paint_mask(frames, hidden, model.patch_size), "prediction": painted}
    maps = {"error": (targets - means).square().mean(2).sqrt(), "sigma": variances.mean(2).sqrt()}
    maps = {name: values.masked_fill(~hidden, torch.nan) for name, values in maps.items()}
    if futures.occluded is not None:
        maps["occluded in\nthe past"] = futures.occluded[past, gaps]
    maps = {name: values.view(-1, *model.encoder.grid).numpy() for name, values in maps.items()}
    return FutureView(normalize_images(futures.past[past]), images, maps)


def control_rows(estimator, split: Split, past: int, other: int, gaps: Sequence[int]) -> dict[str, list]:
    """Rows of pictures under the same masks and with the same privilege: truth, prediction, that with another past,
    and those of no model. The first of a row is the past frame where it is not the truth's.
    """
    model, single, gaps = measures.model_of(estimator), split.only(past), list(gaps)
    frames = normalize_images(split.futures.future[past, gaps])
    first, wrong = (normalize_images(split.futures.past[k]) for k in (past, other))
    mistaken = single._replace(futures=single.futures._replace(past=split.futures.past[other : other + 1]))
    predictions = {
        name: torch.cat([measures.predict(estimator, given, gap).mean for gap in gaps])
        for name, given in (("prediction", single), ("prediction,\nanother past", mistaken))
    }
    predictions |= model_free_predictions(first.expand_as(frames), frames, model.patch_size, model.norm_pix)
    hidden = split.mask.hidden[past].expand(len(gaps), -1)
    rows = {"truth": [first, *frames]}
    for name, values in predictions.items():
        painted = paint_prediction(frames, values.float(), hidden, model.patch_size, model.norm_pix)
        rows[name] = [wrong if "another" in name else None, *painted]
    return rows


def space_rows(estimator, split: Split, gap: int) -> list[dict]:
    """Error, sigma and their rank correlation at one gap number, in the loss's space and in RGB from 0 to 255."""
    model, hidden = measures.model_of(estimator), split.mask.hidden
    frames = normalize_images(split.futures.future[:, gap])
    prediction = measures.predict(estimator, split, gap)
    in_pixels = to_pixels(prediction, frames, model.patch_size, model.norm_pix)
    colours = patchify(denormalize_images(frames), model.patch_size)
    spaces = {
        "normalised pixels": (prediction, measures.truth(estimator, split, gap), 1),
        "RGB, 0 to 255": (in_pixels, colours, 255),
    }
    rows = []
    for space, (found, target, unit) in spaces.items():
        target, mean, variance = (ranking.of_hidden(part, hidden) for part in (target, found.mean, found.total))
        ranks = ranking.patch_ranks(target, mean, variance)
        row = {"space": space, "RMSE": unit * (target - mean).square().mean().sqrt().item()}
        row["sigma, root mean square"] = unit * variance.mean().sqrt().item()
        row["Spearman per patch"] = float(ranking.spearman(ranks.sigma, ranks.absolute_error).mean())
        rows.append(row)
    return rows


def evaluate_run(model: SiamMAE, study: Study, case: str) -> tuple[list[Estimate], dict[str, Report]]:
    """One pass's estimates on (test, calibration) clips, and reports: its own, named `case`, that of "visible subsets",
    and those of BASELINES, which have the model's mean and another sigma.
    """
    estimates = measures.estimates_of(SingleModel(model), study)
    reports = {case: measures.report(estimates, study)}
    reports["visible subsets"] = measures.report_of(VisibleSubsets(model, draws=8), study)
    reports |= {name: measures.report_of_baseline(estimates, study, name) for name in BASELINES}
    return estimates, reports


def against_guesses(reports: Mapping[str, Report], case: str) -> list[dict]:
    """`case` minus each guess, clip by clip; `better`: shown to be below."""
    rows = []
    for name in BASELINES:
        for measure in ("ause_ratio", "nll", "crps"):
            found = compare(reports[case].per_clip, reports[name].per_clip, measure)
            rows.append({"against": name, "measure": measure, **found._asdict(), "better": found.high < 0})
    return rows


def sparsifications(estimate: Estimate, study: Study, case: str) -> dict[str, ranking.Sparsification]:
    """Curves of squared errors on the test clips: the estimate's own and the guesses'."""
    estimates = {case: estimate}
    estimates |= {name: measures.with_baseline(estimate, study.test, study.gaps, name) for name in BASELINES}
    ranks = {name: ranking.patch_ranks(*parts) for name, parts in estimates.items()}
    return {name: ranking.sparsification(found.squared_error, found.sigma) for name, found in ranks.items()}


def sigma_groups(estimate: Estimate, study: Study) -> dict[str, np.ndarray]:
    """Sigma of the test clips' hidden patches that the past shows, that something hid there, and that lay outside."""
    sigma, shown = ranking.patch_ranks(*estimate).sigma, measures.revealed(study)
    groups = {
        "seen in the past": shown["occluded_or_seen"] <= SEEN,
        "hidden in the past": shown["occluded"] >= REVEALED,
        "outside the past's crop": shown["occluded"].isnan(),
    }
    return {name: sigma[where].numpy() for name, where in groups.items()}


def auroc_rows(estimate: Estimate, reports: Mapping[str, Report], study: Study, case: str) -> list[dict]:
    """How well sigma tells what the past does not show, with its interval; the guesses; and the true error itself."""
    errors, rows, own = ranking.patch_ranks(*estimate).squared_error, [], reports[case].row
    for name, fraction in measures.revealed(study).items():
        known = ~fraction.isnan()
        row = {"truth": name, "AUROC": own[f"auroc_{name}"]}
        row |= {end: own[f"auroc_{name}_{end}"] for end in ("low", "high")}
        row |= {f"AUROC of {other}": reports[other].row[f"auroc_{name}"] for other in BASELINES}
        rows.append(row | {"AUROC of the true error": ranking.auroc(errors[known], fraction[known] >= REVEALED)})
    return rows
