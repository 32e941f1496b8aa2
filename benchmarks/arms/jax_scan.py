"""Bare JAX: many steps are one scanned program, as in ``jaxdl.train``, and there is nothing beside it."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.arms.jax_parts import Jax, Run
from benchmarks.process import serve
from jaxdl.engine import parallel
from jaxdl.typing import Batch, PyTree


class Scan(Jax):
    """The compiled program of ``jaxdl.train``, without its loop."""

    def goes_over(self, step: Callable[[Any, Batch], tuple[Any, PyTree]]) -> Run:
        return parallel.train_chunk(step, self.job.loader.take, self.job.mesh)

    def placed(self, rows: np.ndarray) -> PyTree:
        return jax.device_put(rows)


if __name__ == "__main__":
    serve(Scan)
