"""From an estimator and held-out clips to numbers: every estimator predicts the same pairs under the same masks.

Shapes: `C` clips, `I` pasts, `G` gaps, `N` patches, `n` hidden ones, `Q` values of a patch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lib.evaluation import uncertainty_baselines as simple
from lib.evaluation.ranking import of_hidden
from lib.evaluation.uncertainty_report import REVEALED, Estimate, Report, evaluate
from lib.models.siammae import SiamMAE
from lib.models.variance_heads import Prediction
from lib.studies.uncertainty_data import Split, Study
from lib.tokens.masking import Mask
from lib.tokens.patches import normalize_images, patchify, target_patches

BASELINES = ("constant sigma", "distance to visible", "visible neighbours")
NEIGHBOURS = 2  # nearest visible patches; of the toy preset's 3 a baseline of 4 would be the same everywhere
SEEN = 0.05  # a patch of which the past lacks no more counts as seen
FLOOR = 1e-4  # added to variances: a baseline may be 0, and a likelihood needs more


def model_of(estimator) -> SiamMAE:
    """The estimator's model, or its first one."""
    return getattr(estimator, "model", None) or estimator.models[0]


def predict(estimator, split: Split, gap: int) -> Prediction:
    """The estimator's prediction of all patches at gap number `gap`, on the CPU: (I, N, Q) each; estimators that draw
    are given the same generator state each time.
    """
    device = next(model_of(estimator).parameters()).device
    pair = split.futures.past, split.futures.future[:, gap]
    past, future = (normalize_images(frames.to(device)) for frames in pair)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(gap)
        mask = Mask(*(part.to(device) for part in split.mask))
        distance = torch.full((len(past),), float(split.futures.gaps[gap]), device=device)
        prediction = estimator.predict(past, future, mask, distance)
    return Prediction(*(part.float().cpu() for part in prediction))


def truth(estimator, split: Split, gap: int) -> Tensor:
    """What the estimator's model is trained to predict at gap number `gap`: float32 (I, N, Q)."""
    model = model_of(estimator)
    return target_patches(normalize_images(split.futures.future[:, gap]), model.patch_size, model.norm_pix)


def estimate(estimator, split: Split, gaps: Sequence[int]) -> Estimate:
    """Target, mean and total variance of the hidden patches at these gap numbers, (I * G, n, Q) each; a model that
    states no variance gets a constant one, to be scaled in the evaluation.
    """
    parts = []
    for gap in gaps:
        prediction = predict(estimator, split, gap)
        variance = prediction.total + FLOOR if prediction.total.any() else torch.ones_like(prediction.mean)
        parts.append((truth(estimator, split, gap), prediction.mean, variance))
    return Estimate(*(_hidden(columns, split) for columns in zip(*parts, strict=True)))


def with_baseline(base: Estimate, split: Split, gaps: Sequence[int], name: str) -> Estimate:
    """The same means with a variance of no model, one of BASELINES."""
    hidden = split.mask.hidden
    side = int(hidden.shape[1] ** 0.5)  # of the patch grid
    if name == "constant sigma":
        sigmas = [torch.ones(hidden.shape)] * len(gaps)
    elif name == "distance to visible":
        sigmas = [simple.distance_to_visible(hidden, (side, side))] * len(gaps)
    else:
        frames = (normalize_images(split.futures.future[:, gap]) for gap in gaps)
        patches = (patchify(frame, frame.shape[-1] // side) for frame in frames)
        sigmas = [simple.visible_neighbour_deviation(part, hidden, (side, side), NEIGHBOURS) for part in patches]
    sigma = _hidden(sigmas, split).unsqueeze(-1)  # (I * G, n, 1)
    return base._replace(variance=(sigma.square() + FLOOR).expand_as(base.mean))


def _hidden(columns: Sequence[Tensor], split: Split) -> Tensor:
    """Values (I, N, ...) at each gap -> those of hidden patches (I * G, n, ...), a past's gaps in a row."""
    hidden = [of_hidden(column, split.mask.hidden) for column in columns]
    return torch.stack(hidden, dim=1).flatten(0, 1)


def revealed(study: Study) -> dict[str, Tensor]:
    """Fractions of the test clips' hidden patches (I * G, n) that the past does not show; empty where not known.

    "occluded": something in the picture hid them; patches that mostly lay outside the crop are NaN. "occluded_or_seen":
    the same, and NaN where less than half was hidden and yet more than SEEN not to be seen, so that what was hidden is
    told from what was seen, not from what was partly hidden. "unseen": hidden or outside.
    """
    futures = study.test.futures
    if futures.occluded is None:
        return {}
    occluded, outside = (
        _hidden([part[:, gap] for gap in study.gaps], study.test) for part in (futures.occluded, futures.outside)
    )
    unseen = occluded + outside
    occluded = occluded.masked_fill(outside >= REVEALED, torch.nan)
    partly = (occluded < REVEALED) & (unseen > SEEN)
    return {"occluded": occluded, "occluded_or_seen": occluded.masked_fill(partly, torch.nan), "unseen": unseen}


def estimates_of(estimator, study: Study) -> list[Estimate]:
    """The estimator's on the test clips, and on those for calibration."""
    return [estimate(estimator, split, study.gaps) for split in (study.test, study.calibration)]


def report(estimates: Sequence[Estimate], study: Study) -> Report:
    """Numbers of the estimates on (test, calibration) clips, with the truth about what was revealed."""
    return evaluate(*estimates, study.test.futures.clips, revealed(study))


def report_of_baseline(estimates: Sequence[Estimate], study: Study, name: str) -> Report:
    """The same of one of BASELINES around the estimates' means."""
    both = zip(estimates, (study.test, study.calibration), strict=True)
    return report([with_baseline(part, split, study.gaps, name) for part, split in both], study)


def report_of(estimator, study: Study) -> Report:
    """The same of an estimator, and its `epistemic_share`."""
    found = report(estimates_of(estimator, study), study)
    return found._replace(row={**found.row, "epistemic_share": epistemic_part(estimator, study.test, study.gaps)})


def epistemic_part(estimator, split: Split, gaps: Sequence[int]) -> float:
    """The part of hidden patches' mean total variance that the estimator calls epistemic; 0 if it states none."""
    predictions, hidden = [predict(estimator, split, gap) for gap in gaps], split.mask.hidden
    epistemic = sum(float(of_hidden(found.epistemic, hidden).double().mean()) for found in predictions)
    total = sum(float(of_hidden(found.total, hidden).double().mean()) for found in predictions)
    return epistemic / total if total else 0.0


def by_gap(estimator, split: Split) -> dict[str, Tensor]:
    """Of each clip at each gap, means over hidden values (C, G) float64: `variance`, `squared_error`, `sigma`."""
    columns = {"variance": [], "squared_error": [], "sigma": []}
    for gap in range(len(split.futures.gaps)):
        target, mean, variance = estimate(estimator, split, [gap])
        squared_error, variance = (target - mean).double().square(), variance.double()
        sigma = variance.mean(dim=2, keepdim=True).sqrt()
        for column, values in zip(columns.values(), (variance, squared_error, sigma), strict=True):
            column.append(values.flatten(1).mean(1).reshape(split.futures.clips, -1).mean(1))
    return {name: torch.stack(parts, dim=1) for name, parts in columns.items()}
