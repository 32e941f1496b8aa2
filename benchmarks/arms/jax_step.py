"""JAX as most people write it: one compiled step, called in a Python loop."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.arms.jax_parts import Jax, Run
from benchmarks.process import serve
from jaxdl.typing import Batch, PyTree


class Step(Jax):
    """The step of ``jaxdl.train``; dispatch runs ahead of the device."""

    def goes_over(self, step: Callable[[Any, Batch], tuple[Any, PyTree]]) -> Run:
        take = self.job.loader.take
        program = jax.jit(lambda carry, arrays, rows: step(carry, take(arrays, rows)), donate_argnums=0)

        def run(carry: Any, arrays: PyTree, items: PyTree) -> tuple[Any, list[PyTree]]:
            outputs = []
            for rows in items:
                carry, output = program(carry, arrays, rows)
                outputs.append(output)
            return carry, outputs

        return run

    def placed(self, rows: np.ndarray) -> PyTree:
        return [jax.device_put(row) for row in rows]


if __name__ == "__main__":
    serve(Step)
