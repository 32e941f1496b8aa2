"""Averages that stay exact over ragged batches: every metric is a (sum, count) pair until it is read."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxdl.typing import Array, Metrics


def average(values: Array) -> tuple[Array, Array]:
    """The pair of per-example ``values``, shape (B,): their sum and their number."""
    return jnp.sum(values.astype(jnp.float32)), jnp.asarray(values.size, jnp.float32)


def add(left: Metrics, right: Metrics) -> Metrics:
    """The metrics of both together; ``left`` may be empty."""
    return {
        name: (left[name][0] + total, left[name][1] + count) if name in left else (total, count)
        for name, (total, count) in right.items()
    }


def host_total(parts: Iterable[Metrics]) -> Metrics:
    """Metrics with leading axes of steps, summed over steps and parts in float64, as Python floats."""
    sums: Metrics = {}
    for part in parts:
        here = {name: (_sum(total), _sum(count)) for name, (total, count) in part.items()}
        sums = add(sums, here)
    return sums


def means(metrics: Metrics) -> dict[str, float]:
    """What a person reads: sum / count of each, as Python floats; NaN where nothing was counted."""
    return {name: float(s) / float(n) if float(n) else float("nan") for name, (s, n) in metrics.items()}


class Spread(NamedTuple):
    """Values of equal runs that differ in their seed: the mean, what it says of others, and the extremes.

    ``std`` divides by n - 1; ``low`` and ``high`` are the 95% confidence interval of the mean by Student's t. Of
    one value they are NaN.
    """

    n: int
    mean: float
    std: float
    low: float
    high: float
    smallest: float
    largest: float

    def known(self) -> dict[str, float | None]:
        """By name, for a JSON file: None for what one value does not tell."""
        return {name: None if math.isnan(value) else value for name, value in self._asdict().items()}


def spread(values: Sequence[float]) -> Spread:
    """The `Spread` of some numbers, at least one."""
    from scipy.special import stdtrit

    found, n = np.asarray(values, np.float64), len(values)
    mean = float(found.mean())
    std = float(found.std(ddof=1)) if n > 1 else math.nan
    half = float(stdtrit(n - 1, 0.975)) * std / math.sqrt(n) if n > 1 else math.nan
    return Spread(n, mean, std, mean - half, mean + half, float(found.min()), float(found.max()))


def _sum(values: Any) -> Any:
    return float(np.asarray(values).sum(dtype=np.float64))
