"""How sure is a number? Bootstrap over images, paired differences over seeds, a rising trend. All is deterministic.

Pixels and patches of one image have its difficulty in common, so images are drawn again, whole (cluster bootstrap;
Davison and Hinkley 1997, section 3.8). Seeds are few: their paired differences get Student's t interval. Shapes: `I`
images or clips, `G` gaps (or any ordered condition).
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from lib.errors import UserError
from lib.evaluation.proper_scores import checked


class Interval(NamedTuple):
    """An estimate with its bounds: floats, or float64 arrays of one shape."""

    value: float | np.ndarray
    low: float | np.ndarray
    high: float | np.ndarray


def bootstrap(
    statistic: Callable[[Tensor], float | Tensor], images: int, resamples: int = 1000, confidence: float = 0.95
) -> Interval:
    """Percentile interval of a statistic of `images` images, drawn with replacement `resamples` times.

    `statistic(chosen)` gets the images drawn, int64 (images,), and returns a number or a tensor of fixed shape, whose
    points get an interval each. With fewer than about 20 images it is too short.
    """
    if images < 2 or resamples < 2 or not 0 < confidence < 1:
        raise UserError(f"{images} images, {resamples} resamples, confidence {confidence}: not 2.., 2.., inside (0, 1)")
    generator = torch.Generator().manual_seed(0)
    draws = (torch.randint(images, (images,), generator=generator) for _ in range(resamples))
    drawn = np.stack([np.asarray(statistic(chosen), dtype=np.float64) for chosen in draws])
    value = np.asarray(statistic(torch.arange(images)), dtype=np.float64)[()]
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return Interval(value, low, high)


def crossed_bootstrap(
    differences: np.ndarray, sources: Sequence | None = None, resamples: int = 10_000, confidence: float = 0.95
) -> Interval:
    """Percentile interval of the mean of paired differences (seeds, clips): both are drawn again, apart.

    Clips have their difficulty in common over seeds, and a seed's training over clips (pigeonhole bootstrap, Owen
    2007). Clips that name the same of `sources` (clips,) are drawn together, for they are of one film. One seed is kept
    as it is: the interval is then over clips alone. Of three seeds that differ it is far too short, and holds the truth
    three times in four instead of 95 times in 100: `crossed_interval` knows how few they are.
    """
    differences = _crossed(differences)
    rng, (seeds, clips) = np.random.default_rng(0), differences.shape
    films, film = np.unique(np.arange(clips) if sources is None else sources, return_inverse=True)
    of_seeds, of_films = (rng.multinomial(n, [1 / n] * n, resamples) / n for n in (seeds, len(films)))
    of_clips = of_films[:, film]
    of_clips /= of_clips.sum(axis=1, keepdims=True)
    means = np.einsum("rs,sc,rc->r", of_seeds, differences, of_clips, optimize=True)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(differences.mean()), float(low), float(high))


def crossed_interval(differences: np.ndarray, sources: Sequence | None = None, confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean of paired differences (seeds, clips), for other seeds and other clips.

    Its variance is that of the seeds' means plus that of the clips' (whole films, as above, where `sources` names
    them), its degrees of freedom Satterthwaite's (1946). Two seeds are too few (it holds the truth 9 times in 10); with
    one it is over clips alone.
    """
    differences = _crossed(differences)
    seeds, clips = differences.shape
    _, film = np.unique(np.arange(clips) if sources is None else sources, return_inverse=True)
    value, films = differences.mean(), film.max() + 1
    of_films = np.bincount(film, differences.mean(axis=0) - value) / clips
    parts = [(films / (films - 1) * np.square(of_films).sum(), films - 1)] if films > 1 else [(math.inf, 1)]
    parts += [(differences.mean(axis=1).var(ddof=1) / seeds, seeds - 1)] if seeds > 1 else []
    variance = sum(part for part, _ in parts)
    if not 0 < variance < math.inf:
        return Interval(float(value), float(value - variance), float(value + variance))
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    reach = stats.t.ppf((1 + confidence) / 2, freedom) * math.sqrt(variance)
    return Interval(float(value), float(value - reach), float(value + reach))


def _crossed(differences: np.ndarray) -> np.ndarray:
    differences = np.asarray(differences, dtype=np.float64)
    if differences.ndim != 2 or differences.shape[1] < 2 or not np.isfinite(differences).all():
        raise UserError(f"differences are {differences.shape}: give finite ones, (seeds, clips), at least (1, 2)")
    return differences


class PairedDifference(NamedTuple):
    """Mean difference of pairs with its 95 % t interval and test."""

    mean: float
    low: float
    high: float
    p_value: float  # two-sided, of a true mean difference of 0


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> PairedDifference:
    """`ours - theirs` over seeds, the two runs of a seed as a pair.

    With 3 seeds the interval is wide, 2.5 standard deviations to each side: a difference that is not shown is not a
    difference shown to be none. Equal differences have an interval without width, and p 0, or 1 if they are 0.
    """
    if len(ours) != len(theirs) or len(ours) < 2:
        raise UserError(f"{len(ours)} and {len(theirs)} runs: give 2 or more pairs")
    difference = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    if not np.isfinite(difference).all():
        raise UserError("a run's number is NaN or infinite: look at that run")
    mean = float(difference.mean())
    if np.allclose(difference, mean, rtol=1e-12, atol=0):  # all rounding, where SciPy warns of 0 / 0
        return PairedDifference(mean, mean, mean, float(mean == 0))
    test = stats.ttest_1samp(difference, 0)
    low, high = test.confidence_interval(0.95)
    return PairedDifference(mean, float(low), float(high), float(test.pvalue))


class Trend(NamedTuple):
    """Whether a quantity rises with an ordered condition, the same images under each."""

    mean: Interval  # (G,) arrays, mean over images; each point has 95 % by itself
    steps: Interval  # (G - 1,) arrays, mean differences of neighbours; jointly they have 95 % (Bonferroni)
    kendall: Interval  # tau-a of each image against the condition, mean over images: 1 if all rise throughout
    p_value: float  # one-sided, of Page's test (1963) for ordered conditions, normal approximation: small if it rises

    @property
    def falls_somewhere(self) -> bool:
        """Some step is downward beyond doubt: its joint interval lies below 0."""
        return bool((self.steps.high < 0).any())


def trend(values: Tensor) -> Trend:
    """The rise of `values` (I, G) over its columns; a row is one clip, so that hard clips do not hide the trend."""
    (values,) = checked(values=values)
    if values.ndim != 2 or len(values) < 2 or values.shape[1] < 3:
        raise UserError(f"values are {tuple(values.shape)}; expected (images, conditions), at least (2, 3)")
    images, conditions = values.shape
    first, second = torch.triu_indices(conditions, conditions, 1)
    tau = (values[:, second] - values[:, first]).sign().mean(dim=1)  # SciPy's Kendall is tau-b

    def mean_of(rows: Tensor, confidence: float = 0.95) -> Interval:
        return bootstrap(lambda chosen: rows[chosen].mean(dim=0), images, confidence=confidence)

    joint = 1 - 0.05 / (conditions - 1)
    page = stats.page_trend_test(values.numpy(), method="asymptotic")
    return Trend(mean_of(values), mean_of(values.diff(dim=1), joint), mean_of(tau), float(page.pvalue))
