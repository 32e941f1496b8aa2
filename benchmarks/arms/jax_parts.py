"""What the JAX arms share: the parts of ``jaxdl.train``, and the phases as functions of one batch."""

import abc
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.arms.contender import Contender
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.workload import EPOCHS, PROBE, WEIGHTS, records
from jaxdl import build
from jaxdl.config import TrainConfig
from jaxdl.data import sources
from jaxdl.engine import metrics as averages
from jaxdl.engine import parallel, weights
from jaxdl.engine.host import set_up
from jaxdl.engine.state import TrainState
from jaxdl.train import PROG, read_options
from jaxdl.typing import Array, Batch, PyTree

Run = Callable[[Any, PyTree, PyTree], tuple[Any, PyTree]]  # (carry, resident arrays, items) -> (carry, outputs)


class Jax(Contender):
    """An arm in JAX; a subclass says how a function of a batch goes over many.

    Attributes:
      job: model, data and steps, as `jaxdl.build` makes them of the workload's command line.
    """

    def __init__(self, workload: str, folder: Path) -> None:
        set_up()
        config = read_options(WORKLOADS[workload].options(folder), TrainConfig(), PROG)
        self.folder, self.job = folder, build.job(config, sources.load("npz", config.data.data_dir))
        loader, mesh = self.job.loader, self.job.mesh
        self.arrays, self.tests = (
            parallel.replicate(mesh, part.resident_arrays) for part in (loader, self.job.tests)
        )
        rows = [loader.order(epoch)[: loader.full_batches * loader.batch_size] for epoch in range(EPOCHS)]
        self.rows = [self.placed(part.reshape(loader.full_batches, -1)) for part in rows]
        self.over = {
            "forward": self.goes_over(self._forward),
            "backward": self.goes_over(self._backward),
            "step": self.goes_over(self.job.train_step),
            "evaluation": self.goes_over(lambda state, batch: (state, self.job.eval_step(state, batch))),
        }

    @abc.abstractmethod
    def goes_over(self, step: Callable[[Any, Batch], tuple[Any, PyTree]]) -> Run:
        """What applies ``(carry, batch) -> (carry, output)`` to many batches; the carry is donated."""

    @abc.abstractmethod
    def placed(self, rows: np.ndarray) -> PyTree:
        """Row numbers (steps, batch), on the device in the form that the arm takes."""

    def facts(self) -> dict[str, Any]:
        precision = jax.config.values["jax_default_matmul_precision"]
        return {"setup": {"device": jax.devices()[0].device_kind, "matmul_precision": precision}}

    def reset(self, phase: str) -> None:
        path = self.folder / (WEIGHTS if phase in ("step", "epoch") else PROBE)
        start = self.job.state
        params, stats = weights.load(path, self.job.model, start.params, start.stats)
        self.state = parallel.replicate(self.job.mesh, dataclasses.replace(start, params=params, stats=stats))
        self.zeros = jax.tree.map(jnp.zeros_like, self.state.params)
        self.passes = 0

    def wait(self) -> None:
        jax.block_until_ready((self.state, self.last))

    def steps(self, phase: str) -> int:
        loader = {"evaluation": self.job.tests}.get(phase, self.job.loader)
        return loader.steps_per_epoch if phase in ("epoch", "evaluation") else loader.full_batches

    def forward(self) -> PyTree:
        """Probabilities of every batch."""
        self.state, self.last = self.over["forward"](self.state, self.arrays, self._order())
        return self.last

    def backward(self) -> PyTree:
        """The sum of the gradients of every batch."""
        carry = self.state, jax.tree.map(jnp.copy, self.zeros)
        (self.state, self.last), _ = self.over["backward"](carry, self.arrays, self._order())
        return self.last

    def step(self) -> list[PyTree]:
        """The metrics of every step."""
        self.state, self.last = self.over["step"](self.state, self.arrays, self._order())
        return [self.last]

    def epoch(self) -> list[PyTree]:
        """The metrics of every step, by chunks; the loader draws the order and sends the row numbers."""
        loader, self.last = self.job.loader, []
        start = self.passes * loader.steps_per_epoch
        self.passes += 1
        for chunk in loader.chunks(start, start + loader.steps_per_epoch, loader.steps_per_epoch):
            self.state, metrics = self.over["step"](self.state, self.arrays, chunk.items)
            self.last.append(metrics)
        return self.last

    def evaluation(self) -> list[PyTree]:
        """The metrics of every test batch, by chunks."""
        loader, self.last = self.job.tests, []
        for chunk in loader.chunks(0, loader.steps_per_epoch, loader.steps_per_epoch):
            self.state, metrics = self.over["evaluation"](self.state, self.tests, chunk.items)
            self.last.append(metrics)
        return self.last

    def checks(self, phase: str, produced: Any) -> list[float]:
        produced = jax.device_get(produced)
        if phase == "forward":
            found = np.concatenate([np.ravel(part) for part in jax.tree.leaves(produced)]).astype(np.float64)
            return [float(np.abs(found - 1 / len(self.job.seen.classes)).mean())]
        if phase == "backward":
            squares = (np.sum(np.square(leaf, dtype=np.float64)) for leaf in jax.tree.leaves(produced))
            return [float(np.sqrt(sum(squares)) / self.steps(phase))]
        parts = [slice(None)] if phase == "evaluation" else records(self.steps(phase))
        steps = _joined(produced)
        return [_mean_loss(jax.tree.map(lambda leaf, part=part: leaf[part], steps)) for part in parts]

    def _order(self) -> PyTree:
        self.passes += 1
        return self.rows[(self.passes - 1) % EPOCHS]

    def _forward(self, state: TrainState, batch: Batch) -> tuple[TrainState, Array]:
        return state, self.job.predict_step(state, batch)

    def _backward(self, carry: tuple[TrainState, PyTree], batch: Batch) -> tuple[tuple[TrainState, PyTree], None]:
        state, total = carry
        grads, stats, _ = self.job.gradients(state, batch)
        return (dataclasses.replace(state, stats=stats), jax.tree.map(jnp.add, total, grads)), None


def _joined(chunks: Sequence[PyTree]) -> PyTree:
    """The metrics of all steps, of chunks that are arrays or lists of steps."""
    lists = [chunk if isinstance(chunk, list) else [chunk] for chunk in chunks]
    flat = [jax.tree.map(np.atleast_1d, metrics) for chunk in lists for metrics in chunk]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *flat)


def _mean_loss(metrics: PyTree) -> float:
    return averages.means(averages.host_total([metrics]))["loss"]
