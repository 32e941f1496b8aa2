"""Many seeds of Net in JAX: all in one program, or one program after another."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from benchmarks.members import ROWS, TAIL, starts
from benchmarks.process import serve, threads
from benchmarks.workloads import WORKLOADS
from jaxdl import build
from jaxdl.config import TrainConfig
from jaxdl.data import sources
from jaxdl.engine import parallel, weights
from jaxdl.engine.host import set_up
from jaxdl.engine.state import TrainState
from jaxdl.methods import sweep
from jaxdl.train import PROG, read_options

Losses = tuple[np.ndarray, np.ndarray]  # sums and counts of every step, (members, steps)


class Members:
    """The step of ``jaxdl.train`` for every member, from its own weights through its own batches.

    Args:
      way: a name of `WAYS`.
      folder: what `benchmarks.prepare` and `benchmarks.members.write` put there.
    """

    def __init__(self, way: str, folder: Path) -> None:
        set_up()
        config = read_options(WORKLOADS["net"].options(folder), TrainConfig(), PROG)
        job = build.job(config, sources.load("npz", config.data.data_dir))
        rows = np.load(folder / ROWS)
        self.steps = rows.shape[0] * rows.shape[1]
        self.train = WAYS[way](job, [_start(job, path) for path in starts(folder)], rows)

    def warm(self) -> tuple[list[float], float]:
        """Every member's mean loss over its last `TAIL` steps, and the seconds of a second time."""
        total, count = (part[:, -TAIL:].sum(1, dtype=np.float64) for part in self.train())
        return (total / count).tolist(), self.run(1)["seconds"]

    def run(self, times: int) -> dict[str, float]:
        """Trains all members from their start, ``times`` times."""
        started = time.perf_counter()
        for _ in range(times):
            self.train()
        return {"steps": times * self.steps, "seconds": time.perf_counter() - started}


def solo(job: build.Job, states: list[TrainState], rows: np.ndarray) -> Callable[[], Losses]:
    """The program of ``jaxdl.train``, once for each member."""
    chunk = parallel.train_chunk(job.train_step, job.loader.take, job.mesh)
    arrays = parallel.replicate(job.mesh, job.loader.resident_arrays)

    def train() -> Losses:
        fresh = (parallel.replicate(job.mesh, state) for state in states)  # the program takes it for its own
        losses = [chunk(state, arrays, own)[1]["loss"] for state, own in zip(fresh, rows, strict=True)]
        total, count = zip(*jax.device_get(losses), strict=True)
        return np.stack(total), np.stack(count)

    return train


def at_once(way: sweep.Way, job: build.Job, states: list[TrainState], rows: np.ndarray) -> Callable[[], Losses]:
    """The program of ``jaxdl.sweep``: members are shared out among the cores, or lie on one GPU, as torch's do.

    Args:
      way: how a device goes through its share.
      job: the run.
      states, rows: the start and the batches of each member.
    """
    cpu = jax.default_backend() == "cpu"
    mesh = parallel.make_mesh(parallel.first_devices(math.gcd(len(states), len(jax.devices())) if cpu else 1))
    program = sweep.train_chunk(lambda _: job.train_step, job.loader.take, mesh, way)
    members, arrays = sweep.stack(states, mesh), parallel.replicate(mesh, job.loader.resident_arrays)
    items, active = jax.device_put((rows, np.ones(len(states), bool)), NamedSharding(mesh, sweep.OWN))

    def train() -> Losses:
        fresh = jax.tree.map(jnp.copy, members)  # the program takes them for its own
        _, metrics = jax.block_until_ready(program(fresh, {}, active, arrays, items))
        return jax.device_get(metrics["loss"])

    return train


WAYS: dict[str, Callable[..., Callable[[], Losses]]] = {
    "solo": solo,
    "map": functools.partial(at_once, "map"),
    "vmap": functools.partial(at_once, "vmap"),
}


def _start(job: build.Job, path: Path) -> TrainState:
    params, stats = weights.load(path, job.model, job.state.params, job.state.stats)
    return dataclasses.replace(job.state, params=params, stats=stats)


if __name__ == "__main__":
    # A device a core, because products of 64 rows are too small to be shared between cores. Steps for a second of
    # a core's time: 5,000 with a device a core, 4,200 with one device for both, 3,500 with vmap on either, whose
    # batched products are slower. Two threads with a program each do as well as two devices, with more code.
    jax.config.update("jax_num_cpu_devices", threads())
    serve(Members)
