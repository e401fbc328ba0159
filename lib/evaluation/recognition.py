"""Action recognition measured: k-NN and linear probe on frozen features, top-k accuracy, averaged views.

k-NN as DINO evaluates features (Caron et al. 2021, appendix; after Wu et al. 2018): cosine similarity, the k nearest
training samples vote with weight exp(similarity / temperature). The linear probe is multinomial logistic regression.

Shapes: `M` test samples, `C` classes, `D` feature width, `V` views of a video. Scores are larger for likelier
classes; labels are class indices from 0. Everything is deterministic.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from scipy.special import log_softmax
from scipy.stats import norm
from torch import Tensor

from lib.errors import UserError

PAIRS_AT_ONCE = 10_000_000  # bounds the memory of one block of similarities (float32: 40 MB)
STRENGTHS = tuple(10.0**power for power in range(1, -7, -1))


def knn(
    train_features: Tensor, train_labels: Tensor, test_features: Tensor, k: int = 20, temperature: float = 0.07
) -> Tensor:
    """Votes of the `k` nearest training samples: float32 (M, C), each row sums to 1; C = largest training label + 1.

    train_features (n, D) and test_features (M, D) float, train_labels (n,) int64. DINO's weights exp(similarity /
    temperature) are divided by their sum, which changes no prediction and lets views be averaged.
    Raises UserError for shapes that do not fit, missing labels, values that are not finite, and k outside 1..n.
    """
    _check(train_features, train_labels, test_features)
    if not 1 <= k <= len(train_features):
        raise UserError(f"k {k} must be between 1 and the {len(train_features)} training samples")
    if temperature <= 0:
        raise UserError(f"temperature {temperature} must be above 0; DINO's is 0.07")
    train, test = (F.normalize(features.float(), dim=-1) for features in (train_features, test_features))
    votes = test.new_zeros(len(test), int(train_labels.max()) + 1)
    rows = max(1, PAIRS_AT_ONCE // len(train))
    for start in range(0, len(test), rows):
        similarity, nearest = (test[start : start + rows] @ train.T).topk(k, dim=-1)
        weights = (similarity / temperature).softmax(dim=-1)
        votes[start : start + rows].scatter_add_(1, train_labels[nearest], weights)
    return votes


@dataclass(frozen=True)
class LinearProbe:
    """What a linear probe found.

    log_probabilities: float32 (M, C) of the test samples. strength: the L2 strength chosen. held_out: for every
    strength tried, the accuracy on the held-out part of the training set, by which it was chosen.
    """

    log_probabilities: Tensor
    strength: float
    held_out: dict[float, float]


def linear_probe(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    strengths: Sequence[float] = STRENGTHS,
    held_out: float = 0.2,
    seed: int = 0,
) -> LinearProbe:
    """Multinomial logistic regression on frozen features; the test features choose nothing.

    train_features (n, D) and test_features (M, D) float, train_labels (n,) int64. Features are standardised with the
    mean and deviation of the samples a model is fitted to. Minimised: mean cross-entropy + strength / 2 * |W|^2, in
    float64, from zero, by L-BFGS; it has one minimum, biases are free. Each strength is fitted without a share
    `held_out` of every class and judged on it (of equals the strongest wins); the best is fitted to all.

    Raises UserError as `knn` does, when there is one class only, and when no class has two samples to hold one out.
    """
    _check(train_features, train_labels, test_features)
    x, y = train_features.double().cpu().numpy(), train_labels.cpu().numpy()
    if len(np.unique(y)) < 2:
        raise UserError(f"all {len(y)} training labels are {y[0]}: a probe needs two classes or more")
    if not strengths or min(strengths) <= 0 or not 0 < held_out < 1:
        raise UserError(f"strengths {tuple(strengths)} must be above 0, held_out {held_out} between 0 and 1")
    classes, strengths = int(y.max()) + 1, sorted(strengths, reverse=True)
    accuracy = dict.fromkeys(strengths, math.nan)
    if len(strengths) > 1:
        judged = _held_out(y, held_out, seed)
        for strength in strengths:
            scores = _fit(x[~judged], y[~judged], classes, strength)(x[judged])
            accuracy[strength] = float((scores.argmax(axis=1) == y[judged]).mean())
    best = max(strengths, key=lambda strength: accuracy[strength])
    scores = _fit(x, y, classes, best)(test_features.double().cpu().numpy())
    return LinearProbe(torch.from_numpy(log_softmax(scores, axis=1)).float(), best, accuracy)


def _held_out(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which samples to hold out, (n,) bool: the share of each class, rounded, but never all of it, nor none of two."""
    rng, judged = np.random.default_rng(seed), np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        judged[members[: min(max(1, round(share * len(members))), len(members) - 1)]] = True
    if not judged.any():
        raise UserError("every class has one training sample: none can be held out to choose the L2 strength; give one")
    return judged


def _fit(x: np.ndarray, y: np.ndarray, classes: int, strength: float):
    """Fit to x float64 (n, D), y int (n,); returns the function from features (m, D) to scores (m, C)."""
    mean, deviation = x.mean(axis=0), x.std(axis=0)
    deviation[deviation == 0] = 1.0  # a feature that never varies tells nothing: it becomes 0
    x, width = (x - mean) / deviation, x.shape[1]
    rows = np.arange(len(y))

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = flat[: width * classes].reshape(width, classes), flat[width * classes :]
        log_p = log_softmax(x @ weights + bias, axis=1)
        error = np.exp(log_p)
        error[rows, y] -= 1
        error /= len(y)
        value = -log_p[rows, y].mean() + strength / 2 * (weights**2).sum()
        return value, np.concatenate([(x.T @ error + strength * weights).ravel(), error.sum(axis=0)])

    options = {"maxiter": 2000, "maxfun": 4000, "ftol": 1e-14, "gtol": 1e-7}
    found = minimize(objective, np.zeros((width + 1) * classes), jac=True, method="L-BFGS-B", options=options).x
    weights, bias = found[: width * classes].reshape(width, classes), found[width * classes :]
    return lambda features: (features - mean) / deviation @ weights + bias


def _check(train_features: Tensor, train_labels: Tensor, test_features: Tensor) -> None:
    shapes = [tuple(part.shape) for part in (train_features, train_labels, test_features)]
    fits = train_features.ndim == test_features.ndim == 2 and shapes[0][1] == shapes[2][1] and shapes[0][0] > 0
    if not fits or shapes[1] != shapes[0][:1]:
        raise UserError(f"train features, labels and test features are {shapes}; expected (n, D), (n,) and (M, D)")
    if train_labels.min() < 0:
        raise UserError("a training sample has no label (-1): leave it out")
    for name, features in (("training", train_features), ("test", test_features)):
        if not features.isfinite().all():
            raise UserError(f"a {name} feature is not finite: look at the model or its precision")


def topk_accuracy(scores: Tensor, labels: Tensor, ks: Sequence[int] = (1, 5)) -> dict[int, float]:
    """For each k the share of samples, 0 to 1, whose class is among the k with the largest scores.

    scores float (M, C), labels int64 (M,). A class with an equal score counts as before the true one, so that equal
    scores for all earn nothing. Raises UserError for shapes that do not fit, scores that are NaN, labels outside
    0..C-1 (unlabelled videos have -1), and a k that is not in 1..C-1: among all classes every answer is right.
    """
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not len(labels):
        raise UserError(f"scores are {tuple(scores.shape)}, labels {tuple(labels.shape)}; expected (M, C) and (M,)")
    classes = scores.shape[1]
    if scores.isnan().any():
        raise UserError("a score is not a number: look at the model or its precision")
    if labels.min() < 0 or labels.max() >= classes:
        raise UserError(f"labels are {labels.min()} to {labels.max()}, but scores are for classes 0 to {classes - 1}")
    wrong = [k for k in ks if not 1 <= k < classes]
    if wrong:
        raise UserError(f"top-{wrong[0]} of {classes} classes says nothing: choose k between 1 and {classes - 1}")
    own = scores.gather(1, labels[:, None])
    before = (scores >= own).sum(dim=1) - 1
    return {k: float((before < k).double().mean()) for k in ks}


def average_views(scores: Tensor, views: int) -> Tensor:
    """Mean over the views of each video: (n * V, C) -> (n, C), where the V views of a video are neighbours.

    Published evaluations average probabilities: apply softmax to logits first. Raises UserError when the rows are not
    whole videos.
    """
    if views < 1 or scores.ndim != 2 or len(scores) % views:
        raise UserError(f"scores are {tuple(scores.shape)}: not (n * {views}, C), {views} views for each video")
    return scores.unflatten(0, (-1, views)).mean(dim=1)


def wilson_interval(accuracy: float, samples: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (1927) for an accuracy, 0 to 1, over independent samples: (lower, upper).

    Unlike accuracy +- 1.96 standard errors it stays within 0..1 and has a width when all answers are right. Samples
    are videos, not views: views of one video are not independent.
    """
    if samples < 1 or not 0 <= accuracy <= 1 or not 0 < confidence < 1:
        raise UserError(f"accuracy {accuracy} of {samples} samples, confidence {confidence}: not 0..1, 1.., 0..1")
    z = float(norm.ppf((1 + confidence) / 2))
    centre = (accuracy + z**2 / (2 * samples)) / (1 + z**2 / samples)
    spread = accuracy * (1 - accuracy) / samples + z**2 / (4 * samples**2)
    reach = z / (1 + z**2 / samples) * math.sqrt(spread)
    return max(0.0, centre - reach), min(1.0, centre + reach)
