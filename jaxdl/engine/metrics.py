"""Averages that stay exact over ragged batches: every metric is a (sum, count) pair until it is read."""

from collections.abc import Iterable
from typing import Any

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


def _sum(values: Any) -> Any:
    return float(np.asarray(values).sum(dtype=np.float64))
