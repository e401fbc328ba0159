"""PCK: the fraction of keypoints that lie close enough to the truth.

As videowalk's JHMDB evaluation computes it (Jabri et al. 2020; CropMAE's is the same): an error counts against 0.6
times the diagonal of the box around the person's true joints in that frame. Frame 0 is given and not scored. A joint
that a prediction has lost (x < 0) is skipped, not counted wrong, and shapes no box: losing joints can raise the score.
Shapes: `T` frames, `J` joints, `S` THRESHOLDS.
"""

from dataclasses import dataclass

import numpy as np

from lib.errors import UserError

THRESHOLDS = (0.1, 0.2)
BOX_FRACTION = 0.6


@dataclass(frozen=True)
class PckCounts:
    """Numbers of joints by kind, int64; those of several clips are added with `+`."""

    correct: np.ndarray  # (S, J), within each threshold
    counted: np.ndarray  # (J,), predicted
    lost: np.ndarray  # (J,), not predicted

    def __add__(self, other: "PckCounts") -> "PckCounts":
        return PckCounts(self.correct + other.correct, self.counted + other.counted, self.lost + other.lost)

    def per_joint(self) -> np.ndarray:
        """PCK of each joint, (S, J) fractions; NaN for a joint that was never counted."""
        values = np.full(self.correct.shape, np.nan)
        return np.divide(self.correct, self.counted, out=values, where=self.counted > 0)

    def mean(self) -> np.ndarray:
        """PCK, (S,) fractions: the mean over the joints that were ever counted, however often; NaN without any."""
        if not self.counted.any():
            return np.full(len(self.correct), np.nan)
        return np.nanmean(self.per_joint(), axis=1)


def pck(truth: np.ndarray, predicted: np.ndarray) -> PckCounts:
    """Counts of one clip from true and predicted joints, both (T, J, 2) pixels x, y; lost ones have x < 0."""
    truth, predicted = (np.asarray(joints, dtype=np.float64) for joints in (truth, predicted))
    if truth.ndim != 3 or truth.shape[2] != 2 or truth.shape != predicted.shape:
        raise UserError(f"joints must be (T, J, 2) alike: truth is {truth.shape}, predicted {predicted.shape}")
    if not (np.isfinite(truth).all() and np.isfinite(predicted).all()):
        raise UserError("joints must be finite; write -1, -1 for a lost joint")
    truth, predicted = truth[1:], predicted[1:]
    seen = predicted[..., 0] >= 0
    # the bounds from which the published code starts its search; only a box of lost joints alone has them
    low = truth.min(axis=1, where=seen[..., None], initial=1e6)
    high = truth.max(axis=1, where=seen[..., None], initial=-1)
    scale = BOX_FRACTION * np.linalg.norm(high - low, axis=-1)[:, None]
    distance = np.linalg.norm(predicted - truth, axis=-1)
    # a lone joint has a box without extent: never correct, as in the published code (0 / 0 and x / 0)
    error = np.divide(distance, scale, out=np.full(distance.shape, np.inf), where=scale > 0)
    correct = np.stack([(seen & (error <= threshold)).sum(axis=0) for threshold in THRESHOLDS])
    return PckCounts(correct, seen.sum(axis=0), (~seen).sum(axis=0))
