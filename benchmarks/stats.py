"""Statistics of a race: medians, spreads, ratios and differences with their intervals."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

NOISY = 0.25  # of the median: a wider IQR makes a cell unfit for a claim
RESAMPLES = 10_000
CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True)
class Summary:
    """Median, interquartile range and number of samples."""

    median: float
    iqr: float
    n: int

    @property
    def noisy(self) -> bool:
        """Whether the spread is too wide for a claim."""
        return self.iqr > NOISY * self.median


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def summary(samples: Sequence[float]) -> Summary:
    """Quartiles are interpolated linearly, as NumPy does by default."""
    low, middle, high = np.percentile(np.asarray(samples, float), (25, 50, 75))
    return Summary(float(middle), float(high - low), len(samples))


def mean_std(samples: Sequence[float]) -> tuple[float, float]:
    """The mean and the sample standard deviation, 0 for a single sample."""
    return float(np.mean(samples)), float(np.std(samples, ddof=1)) if len(samples) > 1 else 0.0


def mean(samples: Sequence[float]) -> Estimate:
    """A mean with Student's interval; of a single sample it is the sample itself."""
    from scipy.stats import t  # takes a second to import, and speeds do not need it

    middle, spread = mean_std(samples)
    half = float(t.ppf((1 + CONFIDENCE) / 2, max(len(samples) - 1, 1))) * spread / math.sqrt(len(samples))
    return Estimate(middle, middle - half, middle + half)


def ratio(samples: Sequence[float], others: Sequence[float], seed: int = 0) -> Estimate:
    """The ratio of two medians, with the percentile bootstrap's interval.

    Source: B. Efron, R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    rng = np.random.default_rng(seed)
    quotients = _resampled_medians(samples, rng) / _resampled_medians(others, rng)
    tails = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(quotients, (tails, 100 - tails))
    return Estimate(float(np.median(samples) / np.median(others)), float(low), float(high))


def difference(samples: Sequence[float], others: Sequence[float]) -> Estimate:
    """The difference of two means, with Welch's interval: the spreads may differ.

    Source: B. L. Welch, Biometrika 34 (1947), 28-35.

    Raises:
      ValueError: fewer than two samples on a side.
    """
    from scipy.stats import t  # takes a second to import, and speeds do not need it

    if min(len(samples), len(others)) < 2:
        raise ValueError(f"expected two samples or more on each side, got {len(samples)} and {len(others)}")
    a, b = (float(np.var(side, ddof=1)) / len(side) for side in (samples, others))
    middle = float(np.mean(samples) - np.mean(others))
    if a + b == 0:
        return Estimate(middle, middle, middle)
    freedom = (a + b) ** 2 / (a**2 / (len(samples) - 1) + b**2 / (len(others) - 1))
    half = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(a + b)
    return Estimate(middle, middle - half, middle + half)


def disagreeing(losses: Mapping[str, float], tolerance: float) -> list[str]:
    """The names whose loss is no number, or differs from the median by more than a share of it.

    Of two that differ nobody knows which is wrong: both are named.
    """
    finite = [loss for loss in losses.values() if math.isfinite(loss)]
    middle = float(np.median(finite)) if finite else math.nan
    return [name for name, loss in losses.items() if not abs(loss - middle) <= tolerance * middle]


def _resampled_medians(samples: Sequence[float], rng: np.random.Generator) -> np.ndarray:
    values = np.asarray(samples, float)
    return np.median(rng.choice(values, (RESAMPLES, len(values))), axis=1)
