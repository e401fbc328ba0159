"""Action recognition measured: k-NN and linear probe on frozen features, top-k accuracy, averaged views.

Shapes: `n` training samples, `M` test samples, `C` classes, `D` feature width, `V` views of a video. Features are
float (n, D) and (M, D), labels int64 (n,), class indices from 0. Scores are larger for likelier classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import Tensor

from lib.errors import UserError

PAIRS_AT_ONCE = 10_000_000  # bounds the memory of one block of similarities (float32: 40 MB)
TEMPERATURE = 0.07  # of k-NN votes
STRENGTHS = tuple(10.0**power for power in range(1, -7, -1))  # of the probe's L2 penalty, strongest first


def knn(train_features: Tensor, train_labels: Tensor, test_features: Tensor, k: int = 20) -> Tensor:
    """Votes of the `k` nearest training samples: float32 (M, C), each row sums to 1; C = largest training label + 1.

    As DINO evaluates features (Caron et al. 2021, appendix; after Wu et al. 2018): by cosine similarity, with weights
    exp(similarity / TEMPERATURE), here divided by their sum, which changes no prediction.
    """
    _check(train_features, train_labels, test_features)
    if not 1 <= k <= len(train_features):
        raise UserError(f"k {k} must be between 1 and the {len(train_features)} training samples")
    train, test = (F.normalize(features.float(), dim=-1) for features in (train_features, test_features))
    votes = test.new_zeros(len(test), int(train_labels.max()) + 1)
    rows = max(1, PAIRS_AT_ONCE // len(train))
    for start in range(0, len(test), rows):
        similarity, nearest = (test[start : start + rows] @ train.T).topk(k, dim=-1)
        weights = (similarity / TEMPERATURE).softmax(dim=-1)
        votes[start : start + rows].scatter_add_(1, train_labels[nearest], weights)
    return votes


def linear_probe(train_features: Tensor, train_labels: Tensor, test_features: Tensor) -> Tensor:
    """Log-probabilities of multinomial logistic regression on frozen features: float32 (M, C).

    Minimised: mean cross-entropy + strength / 2 * |W|^2, in float64, from zero, by L-BFGS; it has one minimum, biases
    are free. Each of STRENGTHS is fitted without a fifth of every class and evaluated on it (of equals the strongest
    wins); the best is fitted to all.
    """
    _check(train_features, train_labels, test_features)
    x, y = train_features.double().cpu().numpy(), train_labels.cpu().numpy()
    if len(np.unique(y)) < 2:
        raise UserError(f"all {len(y)} training labels are {y[0]}: a probe needs two classes or more")
    classes, held_out = int(y.max()) + 1, _held_out(y)

    def accuracy(strength: float) -> float:
        scores = _fit(x[~held_out], y[~held_out], classes, strength)(x[held_out])
        return float((scores.argmax(axis=1) == y[held_out]).mean())

    scores = _fit(x, y, classes, max(STRENGTHS, key=accuracy))(test_features.double().cpu().numpy())
    return torch.from_numpy(log_softmax(scores, axis=1)).float()


def _held_out(labels: np.ndarray) -> np.ndarray:
    """Which samples to hold out, (n,) bool: a fifth of each class, rounded, never all of it, nor none of two."""
    rng, held_out = np.random.default_rng(0), np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held_out[members[: min(max(1, round(0.2 * len(members))), len(members) - 1)]] = True
    if not held_out.any():
        raise UserError("every class has one training sample: none can be held out to choose the L2 strength")
    return held_out


def _fit(x: np.ndarray, y: np.ndarray, classes: int, strength: float):
    """Fit to x float64 (n, D), y int (n,), standardised; returns the function from features (m, D) to scores (m, C)."""
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
    flat = minimize(objective, np.zeros((width + 1) * classes), jac=True, method="L-BFGS-B", options=options).x
    weights, bias = flat[: width * classes].reshape(width, classes), flat[width * classes :]
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


def topk_accuracy(scores: Tensor, labels: Tensor, ks: Sequence[int]) -> dict[int, float]:
    """For each k the fraction of samples whose class is among the k with the largest scores, (M, C) with labels (M,).

    A class with an equal score counts as before the true one, so that equal scores for all earn nothing.
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
    before = (scores >= scores.gather(1, labels[:, None])).sum(dim=1) - 1
    return {k: float((before < k).double().mean()) for k in ks}


def average_views(scores: Tensor, views: int) -> Tensor:
    """Mean over the views of each video: (M * V, C) -> (M, C), where the V views of a video are neighbours.

    Published evaluations average probabilities: apply softmax to logits first.
    """
    if views < 1 or scores.ndim != 2 or len(scores) % views:
        raise UserError(f"scores are {tuple(scores.shape)}: not (M * {views}, C), {views} views for each video")
    return scores.unflatten(0, (-1, views)).mean(dim=1)
