"""How long a model takes to answer."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SECONDS, LEAST = 1.0, 5  # that calls are timed for, and how many there are at least
WARM_UP = 3  # calls before them, in which programs are compiled and caches filled


def seconds(predict: Callable[[np.ndarray], Any], images: np.ndarray, size: int = 1) -> float:
    """The median time of a call with a batch of ``size`` images, once it is warm.

    Args:
      predict: takes images, and returns when its answer is there.
      images: (N, ...), from which the batch is taken, over and over where they are fewer.
      size: of the batch.
    """
    batch = images[np.arange(size) % len(images)]
    for _ in range(WARM_UP):
        predict(batch)
    times, end = [], time.perf_counter() + SECONDS
    while len(times) < LEAST or time.perf_counter() < end:
        start = time.perf_counter()
        predict(batch)
        times.append(time.perf_counter() - start)
    return statistics.median(times)
