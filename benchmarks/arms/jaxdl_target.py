"""A recipe of jaxdl, trained until the test accuracy is reached: warm, so that nothing is compiled on the way."""

import itertools
import time
from pathlib import Path

import jax

from benchmarks.process import serve
from benchmarks.workloads.workload import DATA
from jaxdl import build
from jaxdl.config import TrainConfig, replace
from jaxdl.data import sources
from jaxdl.engine import parallel
from jaxdl.engine.hooks import Evaluate, Log
from jaxdl.engine.host import set_up
from jaxdl.engine.log import Record
from jaxdl.engine.loop import fit
from jaxdl.engine.state import TrainState
from jaxdl.train import PROG, read_options

Curve = list[tuple[float, float]]  # seconds since the start, accuracy


class Clock:
    """A logger that notes when the result of each evaluation is there."""

    def __init__(self, target: float) -> None:
        self.target, self.curve, self.started = target, Curve(), time.perf_counter()

    @property
    def reached(self) -> bool:
        return any(accuracy >= self.target for _, accuracy in self.curve)

    def write(self, record: Record) -> None:
        if record["kind"] == "eval":
            self.curve.append((time.perf_counter() - self.started, record["accuracy"]))

    def close(self) -> None:
        """Nothing is open."""


class Recipe:
    """The loop of ``jaxdl.train`` with its records and evaluations; files are for others to write.

    Args:
      recipe: its name.
      folder: what `benchmarks.prepare` wrote.
    """

    def __init__(self, recipe: str, folder: Path) -> None:
        set_up()
        self.config = read_options(
            [f"--recipe={recipe}", "--dataset=npz", f"--data-dir={folder / DATA}"], TrainConfig(), PROG
        )
        self.source = sources.load("npz", self.config.data.data_dir)
        job = self.job(0)
        self.train = parallel.train_chunk(job.train_step, job.loader.take, job.mesh)
        self.arrays = parallel.replicate(job.mesh, job.loader.resident_arrays)
        self.evaluate = parallel.evaluator(job.eval_step, job.tests, job.mesh)
        self.epoch = job.loader.steps_per_epoch

    def job(self, seed: int) -> build.Job:
        """A run with weights, order and augmentation of a seed; its programs are not used."""
        return build.job(replace(self.config, {"seed": seed}), self.source)

    def warm(self) -> int:
        """An epoch and its evaluation, in which everything is compiled; returns the epochs of the recipe."""
        self.follow(self.job(0), Clock(0.0), self.epoch)
        return self.config.run.epochs

    def run(self, seed: int, target: float) -> Curve:
        """Trains until an evaluation reaches the target, or the recipe ends."""
        job, clock = self.job(seed), Clock(target)
        self.follow(job, clock, job.steps)
        return clock.curve

    def follow(self, job: build.Job, clock: Clock, last: int) -> TrainState:
        """Up to ``last`` steps of a run; the clock is started with the first."""
        log = Log([clock], lambda *_: None, every=self.config.run.log_every, steps_per_epoch=self.epoch)
        evaluate = Evaluate(self.evaluate, [clock], steps_per_epoch=self.epoch, last_step=last)
        chunks, start = job.loader.chunks(0, last, job.chunk_steps), jax.block_until_ready(job.state)
        clock.started = time.perf_counter()
        wanted = itertools.takewhile(lambda _: not clock.reached, chunks)
        return fit(start, lambda state, items: self.train(state, self.arrays, items), wanted, [log, evaluate])


if __name__ == "__main__":
    serve(Recipe)
