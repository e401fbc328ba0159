"""Measures of mask quality as the official DAVIS evaluation defines them: region J, boundary F, statistics.

Perazzi et al. 2016 (definitions), Pont-Tuset et al. 2017 (several objects). A mask holds object ids, 0 = background.
Values are fractions. Shapes: `T` frames, `K` objects, `H W` pixels.
"""

import math

import numpy as np

from lib.errors import UserError

BOUNDARY_TOLERANCE = 0.008
SCORED = slice(1, -1)  # the frames of a clip that DAVIS scores: all but the first and the last
STATISTICS = ("J_mean", "J_recall", "J_decay", "F_mean", "F_recall", "F_decay")
OBJECTS_AT_ONCE = 8  # boundaries are dilated one byte a pixel, one bit an object
BITS = (np.arange(256)[:, None] >> np.arange(OBJECTS_AT_ONCE)) & 1  # (256, 8): the bits of every byte


def region_similarity(truth: np.ndarray, predicted: np.ndarray, num_objects: int) -> np.ndarray:
    """J of every object in one frame of (H, W) ids: intersection over union, 1 where both masks are empty; (K,)."""
    result = np.ones(num_objects)
    for k in range(1, num_objects + 1):
        a, b = truth == k, predicted == k
        union = np.count_nonzero(a | b)
        if union:
            result[k - 1] = np.count_nonzero(a & b) / union
    return result


def boundary_map(ids: np.ndarray) -> np.ndarray:
    """Pixels that differ from their right, lower or lower-right neighbour, where there is one: (H, W) -> bool."""
    boundary = np.zeros(ids.shape, dtype=bool)
    boundary[:, :-1] |= ids[:, :-1] != ids[:, 1:]
    boundary[:-1] |= ids[:-1] != ids[1:]
    boundary[:-1, :-1] |= ids[:-1, :-1] != ids[1:, 1:]
    return boundary


def boundary_tolerance(height: int, width: int) -> int:
    """The largest distance in pixels of matching boundary pixels: 0.8 % of the image diagonal, rounded up."""
    return int(np.ceil(BOUNDARY_TOLERANCE * np.hypot(height, width)))


def boundary_accuracy(truth: np.ndarray, predicted: np.ndarray, num_objects: int) -> np.ndarray:
    """F of every object in one frame of (H, W) ids: harmonic mean of boundary precision and recall, (K,) float64.

    Ids above `num_objects` count as background, here and in J. A boundary pixel is matched if the other boundary,
    dilated by a disc of the tolerance, covers it. Both empty: 1; one: 0.
    """
    radius = boundary_tolerance(*truth.shape)
    # every boundary lies within the box of all objects, so nothing outside it needs to be dilated
    rows, columns = _box((truth | predicted) != 0)
    points = [_boundary_points(ids[rows, columns], num_objects) for ids in (truth, predicted)]
    height, width = truth[rows, columns].shape
    stride = width + radius
    size = height * stride
    places = [y * stride + x for y, x, _ in points]
    result = []
    for start in range(0, num_objects, OBJECTS_AT_ONCE):
        objects = [_object_bits(ids, start, num_objects) for _, _, ids in points]
        near = [_dilated(place, bits, size, stride, radius) for place, bits in zip(places, objects, strict=True)]
        total = np.stack([_count_bits(bits) for bits in objects])
        matched = np.stack([_count_bits(objects[i] & near[1 - i][places[i]]) for i in (0, 1)])
        recall, precision = matched / np.maximum(total, 1)
        accuracy = 2 * precision * recall / np.where(precision + recall > 0, precision + recall, 1)
        result.append(np.where(total.any(axis=0), accuracy, 1.0))
    return np.concatenate(result)[:num_objects]


def _box(shown: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the box around the true pixels of (H, W), a pixel wider on every side (empty: a corner)."""
    places = [np.flatnonzero(shown.any(axis=axis)) for axis in (1, 0)]
    return tuple(slice(max(at[0] - 1, 0), at[-1] + 2) if at.size else slice(0, 1) for at in places)


def _boundary_points(ids: np.ndarray, num_objects: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boundary pixels of all objects together: rows (n,), columns (n,), ids of each and its neighbours (4, n)."""
    rows, columns = np.divmod(np.flatnonzero(boundary_map(ids)), ids.shape[1])  # faster than nonzero in two dimensions
    # a neighbour beyond the border is one within it, which says what boundary_map says there
    lower, right = np.minimum(rows + 1, ids.shape[0] - 1), np.minimum(columns + 1, ids.shape[1] - 1)
    square = np.stack([ids[rows, columns], ids[rows, right], ids[lower, columns], ids[lower, right]]).astype(np.intp)
    return rows, columns, np.where(square > num_objects, 0, square)


def _object_bits(square: np.ndarray, start: int, num_objects: int) -> np.ndarray:
    """(n,) uint8, bit i set: on the boundary of object start + 1 + i, which some of the four show, never all."""
    count = min(OBJECTS_AT_ONCE, num_objects - start)
    bit = np.zeros(num_objects + 1, np.uint8)
    bit[start + 1 : start + 1 + count] = 1 << np.arange(count)
    return np.bitwise_or.reduce(bit[square])


def _dilated(places: np.ndarray, bits: np.ndarray, size: int, stride: int, radius: int) -> np.ndarray:
    """A map (size,) uint8 with `bits` at `places`, every bit dilated by a disc of `radius` pixels.

    The map is flat, `stride` to a line, of which the last `radius` are padding: what is shifted beyond a line's end
    falls there. Lines are widened step by step; each width is laid as far up and down as the disc is that wide.
    """
    points = np.zeros(size, np.uint8)
    points[places] = bits
    wide, near = points.copy(), points.copy()
    heights = [math.isqrt(radius**2 - width**2) for width in range(radius + 1)] + [-1]
    for width in range(radius + 1):
        if width:
            wide[width:] |= points[:-width]
            wide[:-width] |= points[width:]
        for height in range(heights[width], heights[width + 1], -1):
            shift = min(height * stride, size)
            near[shift:] |= wide[: size - shift]
            near[: size - shift] |= wide[shift:]
    return near


def _count_bits(bits: np.ndarray) -> np.ndarray:
    """(8,): in how many of the bytes each bit is set."""
    return np.bincount(bits, minlength=256) @ BITS


def score_sequence(truth: np.ndarray, predicted: np.ndarray, num_objects: int) -> tuple[np.ndarray, np.ndarray]:
    """J and F of every object in every given frame of (T, H, W) ids, those that count: two (K, T) float64 arrays."""
    if truth.shape != predicted.shape:
        raise UserError(f"prediction is {predicted.shape} (T, H, W), truth is {truth.shape}; they must agree")
    if predicted.size and predicted.max() > num_objects:
        raise UserError(f"prediction has id {predicted.max()}, but the first frame shows {num_objects} object(s)")
    if predicted.size and min(truth.min(), predicted.min()) < 0:
        raise UserError(f"id {min(truth.min(), predicted.min())}: ids are 0 (background), 1, 2, ...")
    frames = list(zip(truth, predicted, strict=True))
    return tuple(
        np.array([measure(*frame, num_objects) for frame in frames]).reshape(-1, num_objects).T
        for measure in (region_similarity, boundary_accuracy)
    )


def statistics(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, recall (fraction of frames above 0.5) and decay of one object's values per frame, (T,) float.

    Decay: mean of the first quarter minus mean of the last; the frame at an edge belongs to both quarters.
    """
    edges = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    first, last = values[edges[0] : edges[1] + 1], values[edges[3] : edges[4] + 1]
    return float(values.mean()), float(np.mean(values > 0.5)), float(first.mean()) - float(last.mean())


def object_statistics(region: np.ndarray, boundary: np.ndarray) -> list[dict[str, float]]:
    """For every object the six `STATISTICS` of its J and F values, both (K, T)."""
    return [
        dict(zip(STATISTICS, statistics(j) + statistics(f), strict=True)) for j, f in zip(region, boundary, strict=True)
    ]


def summary(objects: list[dict[str, float]]) -> dict[str, float]:
    """Means over objects (of all sequences alike), and `JF_mean`, the mean of `J_mean` and `F_mean`."""
    result = {name: float(np.mean([values[name] for values in objects])) for name in STATISTICS}
    return {**result, "JF_mean": (result["J_mean"] + result["F_mean"]) / 2}
