"""Medians, spreads, and intervals of ratios and differences."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

NOISY = 0.25  # the interquartile range, as a part of the median, that a believable cell does not exceed
RESAMPLES = 10_000


class Interval(NamedTuple):
    """An estimate and the 95 % interval around it."""

    value: float
    low: float
    high: float


def spread(samples: Sequence[float]) -> float:
    """The interquartile range."""
    low, high = np.percentile(samples, (25, 75))
    return float(high - low)


def summary(samples: Sequence[float]) -> dict[str, float]:
    """Median, interquartile range and number."""
    return {"median": float(np.median(samples)), "iqr": spread(samples), "n": len(samples)}


def moments(samples: Sequence[float]) -> dict[str, float]:
    """Mean, standard deviation (of a sample, n - 1), smallest, largest and number."""
    deviation = float(np.std(samples, ddof=1)) if len(samples) > 1 else 0.0
    mean, low, high = float(np.mean(samples)), float(np.min(samples)), float(np.max(samples))
    return {"mean": mean, "std": deviation, "min": low, "max": high, "n": len(samples)}


def noisy(samples: Sequence[float]) -> bool:
    """Whether the spread is too wide to believe the median."""
    return spread(samples) > NOISY * float(np.median(samples))


def ratio(above: Sequence[float], below: Sequence[float]) -> Interval:
    """The ratio of the medians, with a bootstrap interval (percentiles; both sides resampled; a fixed seed).

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, chapter 13.
    """
    rng = np.random.default_rng(0)

    def medians(samples: Sequence[float]) -> np.ndarray:
        return np.median(rng.choice(np.asarray(samples), (RESAMPLES, len(samples))), axis=1)

    low, high = np.percentile(medians(above) / medians(below), (2.5, 97.5))
    return Interval(float(np.median(above) / np.median(below)), float(low), float(high))


def difference(left: Sequence[float], right: Sequence[float]) -> Interval:
    """The difference of the means, with Welch's t interval.

    Source: Welch, The generalization of "Student's" problem, Biometrika 34 (1947).

    Raises:
      ValueError: fewer than two samples on a side.
    """
    from scipy.stats import t

    if min(len(left), len(right)) < 2:
        raise ValueError(f"an interval takes at least two samples of each; got {len(left)} and {len(right)}")
    parts = [float(np.var(samples, ddof=1)) / len(samples) for samples in (left, right)]
    value, error = float(np.mean(left) - np.mean(right)), sum(parts)
    if not error:
        return Interval(value, value, value)
    freedom = error**2 / sum(p**2 / (len(s) - 1) for p, s in zip(parts, (left, right), strict=True))
    reach = float(t.ppf(0.975, freedom)) * error**0.5
    return Interval(value, value - reach, value + reach)
