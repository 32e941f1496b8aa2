"""A short training on part of the data: which learning rate a model likes, how far it comes, what a step takes."""

import dataclasses
import time

import numpy as np
import optax

from jaxdl import build
from jaxdl.build import Technique
from jaxdl.config import TrainConfig, replace
from jaxdl.data import subset
from jaxdl.data.loader import Chunk
from jaxdl.data.sources import Source
from jaxdl.engine import metrics as averages
from jaxdl.engine import parallel
from jaxdl.engine.loop import Hook, fit
from jaxdl.engine.state import TrainState
from jaxdl.methods.advice import STEPS, Trial
from jaxdl.optim.optimizers import OPTIMIZERS
from jaxdl.typing import Array, Metrics

LOWEST, HIGHEST = 1e-5, 3.0  # learning rates of the range test
CHUNK = 25


def trial(config: TrainConfig, part: Source) -> Trial:
    """Tests rates, then trains with the best of them.

    Args:
      config: model, optimizer and data options.
      part: few images, of which the test images were kept aside.
    """
    options = {"steps": STEPS, "chunk_steps": CHUNK, "batch_size": min(config.data.batch_size, _size(part))}
    config = replace(config, options)
    losses, _, _ = _trained(config, part, Technique(tx=lambda _: _rising(config)))
    lowest_at = rates()[lowest(losses)]
    lr = round_rate(lowest_at / 10)
    config = replace(config, {"lr": lr, "schedule": "one_cycle"})
    _, accuracies, (seconds, tested) = _trained(config, part, Technique())
    return Trial(
        model=config.model.model,
        optimizer=config.optim.optimizer,
        lr=lr,
        lowest_at=float(lowest_at),
        train_accuracy=float(np.mean(accuracies[-CHUNK:])),
        accuracy=tested,
        kept=len(part.test["label"]),
        seconds=seconds,
    )


def rates() -> np.ndarray:
    """The rates of the range test, (STEPS,)."""
    return np.geomspace(LOWEST, HIGHEST, STEPS)


def lowest(losses: np.ndarray) -> int:
    """The step of the lowest loss, smoothed over some ten steps, up to where it rises beyond four times that.

    Source: Smith 2017, "Cyclical learning rates"; fast.ai's ``lr_find`` suggests a tenth of the rate there.
    """
    smooth, best, where = 0.0, np.inf, 0
    for step, loss in enumerate(losses):
        if not np.isfinite(loss):
            break
        smooth = 0.9 * smooth + 0.1 * loss
        value = smooth / (1 - 0.9 ** (step + 1))
        if value > 4 * best:
            break
        if value < best:
            best, where = value, step
    return where


def round_rate(rate: float) -> float:
    """The nearest of 1, 2, 3, 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(rate))
    nearest = min((1, 2, 3, 5, 10), key=lambda digit: abs(np.log(rate / (digit * power))))
    return float(f"{nearest * power:.1g}")


def parted(source: Source, rows: int, seed: int) -> Source:
    """At most ``rows`` of the training images, of which a third takes the place of the test images."""
    labels = np.asarray(source.train["label"])
    if len(labels) > rows:
        _, chosen = subset.hold_out(source, rows / len(labels), seed)
        source = dataclasses.replace(source, train=chosen)
    kept, aside = subset.hold_out(source, 1 / 3, seed)
    return dataclasses.replace(kept, test=aside)


class _Collect(Hook):
    """The losses and accuracies of all steps, and when they came."""

    def __init__(self) -> None:
        self.losses: list[np.ndarray] = []
        self.accuracies: list[np.ndarray] = []
        self.clock: list[tuple[int, float]] = []

    def on_metrics(self, chunk: Chunk, metrics: Metrics) -> None:
        self.losses.append(metrics["loss"][0] / metrics["loss"][1])
        self.accuracies.append(metrics["accuracy"][0] / metrics["accuracy"][1])
        self.clock.append((chunk.stop, time.perf_counter()))


def _trained(
    config: TrainConfig, part: Source, technique: Technique
) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Losses and accuracies of each step, seconds a step, accuracy on the images kept aside."""
    job, collect = build.job(config, part, technique), _Collect()
    run = job.plan.train_chunk(job.train_step, job.loader.take)
    arrays = parallel.replicate(job.mesh, job.loader.resident_arrays)
    chunks = job.loader.chunks(0, job.steps, job.chunk_steps)

    def step(state: TrainState, items: Array) -> tuple[TrainState, Metrics]:
        return run(state, arrays, items)

    state = fit(job.state, step, chunks, [collect])
    tested = averages.host_total(parallel.evaluator(job.eval_step, job.tests, job.mesh)(state))
    # Between the two fastest neighbouring chunks nothing was compiled.
    times = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in zip(collect.clock, collect.clock[1:], strict=False)]
    seconds, accuracy = min(times, default=0.0), averages.means(tested)["accuracy"]
    return np.concatenate(collect.losses), np.concatenate(collect.accuracies), (seconds, accuracy)


def _rising(config: TrainConfig) -> optax.GradientTransformation:
    """The optimizer under rates that rise from step to step."""
    ratio = HIGHEST / LOWEST

    def rate(step: Array) -> Array:
        return LOWEST * ratio ** (step.astype(float) / (STEPS - 1))

    momentum = {"momentum": config.optim.momentum, "nesterov": config.optim.nesterov}
    return OPTIMIZERS[config.optim.optimizer](rate, **(momentum if config.optim.optimizer == "sgd" else {}))


def _size(part: Source) -> int:
    return len(part.train["label"])
