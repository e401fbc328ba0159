"""Measures of mask quality as the official DAVIS evaluation defines them: region J, boundary F, statistics.

Perazzi et al. 2016 (definitions), Pont-Tuset et al. 2017 (several objects). All arrays are NumPy; a mask
holds object ids, 0 = background. Values are fractions.

Shape letters: `T` frames, `K` objects, `H W` pixels.
"""

import numpy as np
from scipy.spatial import cKDTree

from lib.errors import UserError

BOUNDARY_TOLERANCE = 0.008
SCORED = slice(1, -1)  # the frames of a clip that DAVIS scores: all but the first and the last
STATISTICS = ("J_mean", "J_recall", "J_decay", "F_mean", "F_recall", "F_decay")


def region_similarity(truth: np.ndarray, predicted: np.ndarray, num_objects: int) -> np.ndarray:
    """J of every object in one frame: intersection over union, 1 where both masks are empty.

    `truth`, `predicted`: (H, W) ids. Returns (K,) float64. Ids of `truth` above `num_objects` count as
    background.
    """
    truth = np.where(truth > num_objects, 0, truth).astype(np.int64)
    side = num_objects + 1
    confusion = np.bincount((truth * side + predicted).ravel(), minlength=side * side).reshape(side, side)
    intersection = np.diag(confusion)[1:]
    union = confusion.sum(0)[1:] + confusion.sum(1)[1:] - intersection
    return np.where(union == 0, 1.0, intersection / np.maximum(union, 1))


def boundary_map(mask: np.ndarray) -> np.ndarray:
    """Boundary pixels of a binary mask: (H, W) bool in, (H, W) bool out.

    A pixel is on the boundary if it differs from its right, lower or lower-right neighbour. In the last row
    only the right neighbour counts, in the last column only the lower one, and the last corner never is on
    the boundary.
    """
    mask = mask.astype(bool)
    boundary = np.zeros_like(mask)
    boundary[:, :-1] |= mask[:, :-1] != mask[:, 1:]
    boundary[:-1] |= mask[:-1] != mask[1:]
    boundary[:-1, :-1] |= mask[:-1, :-1] != mask[1:, 1:]
    return boundary


def boundary_tolerance(height: int, width: int) -> int:
    """The largest distance in pixels of matching boundary pixels: 0.8 % of the image diagonal, rounded up."""
    return int(np.ceil(BOUNDARY_TOLERANCE * np.hypot(height, width)))


def boundary_accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """F of one object in one frame: harmonic mean of boundary precision and recall.

    `truth`, `predicted`: (H, W) bool. A boundary pixel is matched if the other boundary has a pixel within
    the tolerance (Euclidean, inclusive), which is the official dilation by a disc. Both boundaries empty: 1;
    one: 0.
    """
    points = [np.argwhere(boundary_map(mask)) for mask in (truth, predicted)]
    if not len(points[0]) or not len(points[1]):
        return float(len(points[0]) == len(points[1]))
    tolerance = boundary_tolerance(*truth.shape)
    recall, precision = (_share_near(a, b, tolerance) for a, b in (points, points[::-1]))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _share_near(points: np.ndarray, others: np.ndarray, radius: int) -> float:
    # squared distances of pixels are whole numbers: a bound between r^2 and r^2 + 1 keeps those <= r^2
    bound = np.sqrt(radius**2 + 0.5)
    distance, _ = cKDTree(others).query(points, distance_upper_bound=bound)
    return float(np.mean(np.isfinite(distance)))


def score_sequence(truth: np.ndarray, predicted: np.ndarray, num_objects: int) -> tuple[np.ndarray, np.ndarray]:
    """J and F of every object in every given frame: two (K, T) float64 arrays.

    `truth`, `predicted`: (T, H, W) integer ids. Give only the frames that count: the DAVIS evaluation leaves
    out the first and the last (`SCORED`). An object that is not predicted has an empty mask.
    Raises UserError if the shapes differ or a predicted id is larger than `num_objects`.
    """
    if truth.shape != predicted.shape:
        raise UserError(f"prediction is {predicted.shape} (T, H, W), truth is {truth.shape}; they must agree")
    if predicted.size and predicted.max() > num_objects:
        raise UserError(f"prediction has id {predicted.max()}, but the first frame shows {num_objects} object(s)")
    region = np.stack([region_similarity(t, p, num_objects) for t, p in zip(truth, predicted, strict=True)], axis=1)
    boundary = [
        [boundary_accuracy(t == k, p == k) for t, p in zip(truth, predicted, strict=True)]
        for k in range(1, num_objects + 1)
    ]
    return region, np.array(boundary)


def statistics(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, recall and decay of one object's values per frame, (T,) float.

    Recall: share of frames above 0.5. Decay: mean of the first quarter minus mean of the last, where the
    quarters' edges are rounded and neighbouring quarters share their edge frame. NaN frames are left out of
    the two means and are no success in the recall; all-NaN gives NaN.
    """
    edges = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    first, last = values[edges[0] : edges[1] + 1], values[edges[3] : edges[4] + 1]
    return _mean(values), float(np.mean(values > 0.5)), _mean(first) - _mean(last)


def _mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if values.size else float("nan")


def object_statistics(region: np.ndarray, boundary: np.ndarray) -> list[dict[str, float]]:
    """For every object the six `STATISTICS` of its J and F values, both (K, T)."""
    return [
        dict(zip(STATISTICS, statistics(j) + statistics(f), strict=True)) for j, f in zip(region, boundary, strict=True)
    ]


def summary(objects: list[dict[str, float]]) -> dict[str, float]:
    """Means over objects (of all sequences alike), and `JF_mean`, the mean of `J_mean` and `F_mean`."""
    result = {name: float(np.mean([values[name] for values in objects])) for name in STATISTICS}
    return {**result, "JF_mean": (result["J_mean"] + result["F_mean"]) / 2}
