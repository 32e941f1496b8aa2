"""What happens beside the steps: records, evaluation, checkpoints, histograms, signals."""

import math
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxdl import tree
from jaxdl.data.loader import Chunk
from jaxdl.engine import metrics as averages
from jaxdl.engine import processes
from jaxdl.engine.checkpoint import Checkpoints
from jaxdl.engine.log import Logger
from jaxdl.engine.loop import Hook, Late
from jaxdl.engine.state import TrainState
from jaxdl.engine.tensorboard import TensorBoard
from jaxdl.typing import Metrics, PyTree


class NonFiniteError(ArithmeticError):
    """The loss of a step is NaN or infinite; the message names the step."""


class InterruptedRunError(Exception):
    """A signal asked the run to end and the state is saved; ``signal`` is its number."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name} after step {step}")
        self.signal = number


class Speed:
    """Steps per second since the chunk before; nothing for the first, whose time is mostly compilation."""

    def __init__(self) -> None:
        self._clock: float | None = None

    def __call__(self, chunk: Chunk) -> dict[str, float]:
        now, before = time.perf_counter(), self._clock
        self._clock = now
        return {"steps_per_second": (chunk.stop - chunk.start) / (now - before)} if before else {}


class Log(Hook):
    """Makes a record every ``every`` steps of an epoch, and stops the run when the loss is no number.

    Args:
      loggers: where records go.
      progress: told of each chunk: ``(step, mean loss, mean accuracy)``.
      every: steps between records, counted within an epoch, and one at its end.
      steps_per_epoch: steps in an epoch.
    """

    def __init__(
        self,
        loggers: Sequence[Logger],
        progress: Callable[[int, float, float], None],
        *,
        every: int,
        steps_per_epoch: int,
    ) -> None:
        self.loggers, self.progress = loggers, progress
        self.every, self.steps_per_epoch = every, steps_per_epoch
        self.window: Metrics = {}  # sums since the last record: part of a checkpoint
        self._speed = Speed()

    def on_metrics(self, chunk: Chunk, metrics: Metrics) -> None:
        loss, count = metrics["loss"]
        if not np.isfinite(loss).all():
            step = chunk.start + int(np.argmin(np.isfinite(loss))) + 1
            raise NonFiniteError(f"the loss is {loss[step - chunk.start - 1]} at step {step}")
        speed, start = self._speed(chunk), 0
        for stop in self._records(chunk):
            self._extend(metrics, start, stop)
            last = {"batch_loss": loss[stop - 1] / count[stop - 1], "lr": metrics["lr"][0][stop - 1]}
            # Shortest decimals that a float32 tells apart: 0.01, not 0.009999999776.
            self._write(chunk.start + stop, {name: float(str(np.float32(x))) for name, x in last.items()} | speed)
            start = stop
        self._extend(metrics, start, len(loss))
        means = averages.means({name: (np.sum(s), np.sum(n)) for name, (s, n) in metrics.items()})
        self.progress(chunk.stop, means["loss"], means["accuracy"])

    def _records(self, chunk: Chunk) -> list[int]:
        """After how many steps of the chunk a record is due."""
        first = chunk.start % self.steps_per_epoch
        ends = range(first + 1, first + chunk.stop - chunk.start + 1)
        return [end - first for end in ends if end % self.every == 0 or end == self.steps_per_epoch]

    def _extend(self, metrics: Metrics, start: int, stop: int) -> None:
        part = {name: (s[start:stop], n[start:stop]) for name, (s, n) in metrics.items()}
        self.window = averages.add(self.window, averages.host_total([part]))

    def _write(self, step: int, last: dict[str, float]) -> None:
        means, self.window = averages.means(self.window), {}
        record = {"kind": "train", "step": step, "epoch": step / self.steps_per_epoch, **means, **last}
        for logger in self.loggers:
            logger.write(record)


class Evaluate(Hook):
    """Measures the test set at the end of each epoch, and of the run.

    Args:
      evaluate: ``state -> list of metrics``, each with a leading axis of batches, still on the device.
      loggers: where records go.
      steps_per_epoch, last_step: when.
    """

    def __init__(
        self,
        evaluate: Callable[[TrainState], list[Metrics]],
        loggers: Sequence[Logger],
        *,
        steps_per_epoch: int,
        last_step: int,
    ) -> None:
        self.evaluate, self.loggers = evaluate, loggers
        self.steps_per_epoch, self.last_step = steps_per_epoch, last_step
        self.last: dict[str, Any] = {}
        self.best: dict[str, Any] = {}

    def due(self, step: int) -> bool:
        return step % self.steps_per_epoch == 0 or step == self.last_step

    def on_state(self, step: int, state: TrainState, late: Late) -> None:
        late.push(self.evaluate(state), lambda parts: self._write(step, parts))

    def _write(self, step: int, parts: list[Metrics]) -> None:
        means = averages.means(averages.host_total(parts))
        self.last = {"kind": "eval", "step": step, "epoch": step / self.steps_per_epoch, **means}
        if means["accuracy"] >= self.best.get("accuracy", -math.inf):
            self.best = self.last
        for logger in self.loggers:
            logger.write(self.last)


class Save(Hook):
    """Writes checkpoints, and ends the run behind one when a signal asks for it.

    Args:
      checkpoints: where they go.
      log, evaluate: hooks whose sums are part of a checkpoint.
      signals: tells whether the run shall end.
      every: steps between checkpoints.
      last_step: saved in any case.
      pause: seconds that lie between two checkpoints, unless the run ends: writing one can take longer than an
        epoch of a small network.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        log: Log,
        evaluate: Evaluate,
        signals: "Signals",
        *,
        every: int,
        last_step: int,
        pause: float = 0.0,
    ) -> None:
        self.checkpoints, self.log, self.evaluate, self.signals = checkpoints, log, evaluate, signals
        self.every, self.last_step, self.pause = every, last_step, pause
        self._next = time.monotonic() + pause

    def due(self, step: int) -> bool:
        regular = step % self.every == 0 and time.monotonic() >= self._next
        regular, self.signals.received = processes.decide(regular, self.signals.received)
        return regular or step == self.last_step or self.signals.received is not None

    def on_state(self, step: int, state: TrainState, late: Late) -> None:
        late.flush()
        if not tree.all_finite((state.params, state.stats)):
            raise NonFiniteError(f"a parameter is NaN or infinite after step {step}")
        self.checkpoints.save(state, self.notes(), self.score(step))
        self._next = time.monotonic() + self.pause
        if self.signals.received is not None and step < self.last_step:
            raise InterruptedRunError(self.signals.received, step)

    def score(self, step: int) -> float:
        """The checkpoint with the largest is kept as the best."""
        last = self.evaluate.last
        return last["accuracy"] if last.get("step") == step else -1.0

    def notes(self) -> dict[str, Any]:
        """What the hooks have to remember, as JSON values."""
        return {"window": self.log.window, "last": self.evaluate.last, "best": self.evaluate.best}

    def recall(self, notes: dict[str, Any]) -> None:
        """The inverse of `notes`, on a run that is resumed."""
        self.log.window = {name: (pair[0], pair[1]) for name, pair in notes["window"].items()}
        self.evaluate.last, self.evaluate.best = notes["last"], notes["best"]


class Inspect(Hook):
    """Shows a run's inside in TensorBoard: histograms of weights and gradients, test images with predictions.

    At the end of an epoch, but not within ``pause`` seconds of the last time: making them costs more than an
    epoch of a small network.

    Args:
      board: where they go.
      gradients: ``state -> gradients`` of one batch.
      predict: ``state -> (N,) classes`` predicted for the images.
      images, labels, classes: (N, H, W, C) uint8, (N,) and the names.
      steps_per_epoch, last_step: when; in any case after the last step.
    """

    def __init__(
        self,
        board: TensorBoard,
        gradients: Callable[[TrainState], PyTree],
        predict: Callable[[TrainState], Any],
        images: np.ndarray,
        labels: np.ndarray,
        classes: Sequence[str],
        *,
        steps_per_epoch: int,
        last_step: int,
        pause: float,
    ) -> None:
        self.board, self.gradients, self.predict = board, gradients, predict
        self.images, self.labels, self.classes = images, labels, classes
        self.steps_per_epoch, self.last_step, self.pause = steps_per_epoch, last_step, pause
        self._next = time.monotonic() + pause

    def due(self, step: int) -> bool:
        return step == self.last_step or (step % self.steps_per_epoch == 0 and time.monotonic() >= self._next)

    def on_state(self, step: int, state: TrainState, late: Late) -> None:
        late.flush()  # the state must be read before the next chunk overwrites it
        weights, gradients, predicted = jax.device_get((state.params, self.gradients(state), self.predict(state)))
        self.board.histograms(step, tree.flatten(weights), "weights")
        self.board.histograms(step, tree.flatten(gradients), "gradients")
        self.board.images(step, self.images, self.labels, predicted, self.classes)
        self._next = time.monotonic() + self.pause


class Signals:
    """Remembers SIGINT and SIGTERM while it is entered; the second of a kind acts at once, as without it."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, _: object) -> None:
        self.received = number
        signal.signal(number, self._before[number])
