"""Mean intersection over union of class ids, from one confusion matrix over all pixels, frames and videos.

The measure of VIP part propagation (Zhou et al. 2018, Jabri et al. 2020). Matrices of single frames are added, so that
a large frame weighs more than a small one and a class counts once, however many videos show it. Shapes: `K` classes.
"""

import numpy as np

from lib.errors import UserError


def confusion(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """How many pixels of each true class were given each class: (K, K) int64, rows truth, columns prediction.

    `truth`, `predicted`: integer ids of one shape. Pixels whose truth is not in 0..K-1 (void) are left out.
    """
    if truth.shape != predicted.shape:
        raise UserError(f"prediction is {predicted.shape}, truth is {truth.shape}; they must agree")
    # folded into the matrix, an id beyond it would count as a pixel of the next class
    if predicted.size and not 0 <= predicted.min() <= predicted.max() < num_classes:
        bad = predicted[(predicted < 0) | (predicted >= num_classes)].flat[0]
        raise UserError(f"predicted id {bad}; ids must be 0..{num_classes - 1}")
    counted = (truth >= 0) & (truth < num_classes)
    pairs = num_classes * truth[counted].astype(np.int64) + predicted[counted]
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)


def iou_per_class(matrix: np.ndarray) -> np.ndarray:
    """Intersection over union of each class, (K,) float64, from a (K, K) confusion matrix.

    NaN for a class that neither truth nor prediction shows; 0 for one that only one of them shows.
    """
    hits = np.diag(matrix).astype(np.float64)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - hits
    return np.divide(hits, union, out=np.full(len(matrix), np.nan), where=union > 0)


def mean_iou(matrix: np.ndarray) -> float:
    """The mean of `iou_per_class` over the classes that are present, background included. A fraction."""
    if not matrix.any():
        raise UserError("no pixel has a class: every true id is void; check the annotations")
    return float(np.nanmean(iou_per_class(matrix)))
