"""Runs a step that is a technique's own, on the loop, the checkpoints and the signals that all training has.

`jaxdl.session` is for classifiers, which have epochs, a loss and an accuracy. Here a run is a number of steps that
give metrics of any name.
"""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from jaxdl.data.loader import Chunk
from jaxdl.engine import metrics as averages
from jaxdl.engine.checkpoint import Checkpoints
from jaxdl.engine.hooks import InterruptedRunError, NonFiniteError, Save, Signals, Speed
from jaxdl.engine.log import JsonLines, Logger, Record
from jaxdl.engine.loop import Hook, fit
from jaxdl.engine.run_folder import RunFolder
from jaxdl.engine.state import TrainState
from jaxdl.typing import Metrics, PyTree

KEEP = 2  # checkpoints
PAUSE = 10.0  # seconds between two


@dataclasses.dataclass(frozen=True)
class Own:
    """A run whose step is the technique's own.

    Attributes:
      state: where it starts.
      run: ``(state, items of a chunk) -> (state, metrics of each step)``; may donate the state.
      chunks: ``(first, last) -> the chunks between``, on a grid that does not depend on ``first``.
      steps: how many it takes.
      every: steps to a record.
      shown: the line that a person sees of a record; empty: none.
      hooks: what else happens beside the steps.
    """

    state: TrainState
    run: Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]
    chunks: Callable[[int, int], Iterable[Chunk]]
    steps: int
    every: int
    shown: Callable[[Record], str]
    hooks: Sequence[Hook] = ()


class Records(Hook):
    """Writes the means of all metrics every few steps, and stops the run when one is no number.

    Args:
      loggers: where records go.
      every: steps to a record.
      last_step: has one in any case.
    """

    def __init__(self, loggers: Sequence[Logger], *, every: int, last_step: int) -> None:
        self.loggers, self.every, self.last_step = loggers, every, last_step
        self.window: Metrics = {}  # sums since the last record: part of a checkpoint
        self._speed = Speed()

    def on_metrics(self, chunk: Chunk, metrics: Metrics) -> None:
        _check_finite(chunk, metrics)
        speed = self._speed(chunk)
        for place, step in enumerate(range(chunk.start + 1, chunk.stop + 1)):
            own = {name: (total[place], count[place]) for name, (total, count) in metrics.items()}
            self.window = averages.add(self.window, averages.host_total([own]))
            if step % self.every == 0 or step == self.last_step:
                self._write(step, speed)

    def _write(self, step: int, speed: dict[str, float]) -> None:
        counted = {name: pair for name, pair in self.window.items() if pair[1]}
        record = {"kind": "train", "step": step, **averages.means(counted), **speed}
        self.window = {}
        for logger in self.loggers:
            logger.write(record)


class Keep(Save):
    """Checkpoints of a run that is not evaluated: the latest is the best.

    Args:
      records: the hook whose sums are part of a checkpoint.
      others: as those of `Save`.
    """

    def __init__(
        self, checkpoints: Checkpoints, records: Records, signals: Signals, *, last_step: int, pause: float = PAUSE
    ) -> None:
        self.checkpoints, self.records, self.signals = checkpoints, records, signals
        self.every, self.last_step, self.pause = 1, last_step, pause
        self._next = time.monotonic() + pause

    def score(self, step: int) -> float:
        return float(step)

    def notes(self) -> dict[str, Any]:
        return {"window": self.records.window}

    def recall(self, notes: dict[str, Any]) -> None:
        self.records.window = {name: (pair[0], pair[1]) for name, pair in notes["window"].items()}


class Lines:
    """Shows a person a line of every record, and says where a run starts."""

    def __init__(self, shown: Callable[[Record], str], *, quiet: bool) -> None:
        self.shown, self.quiet = shown, quiet

    def write(self, record: Record) -> None:
        if text := self.shown(record):
            self.message(text)

    def message(self, text: str) -> None:
        """Prints a line, unless the run is quiet."""
        if not self.quiet:
            print(text, flush=True)

    def close(self) -> None:
        """There is nothing to close."""


def train(own: Own, folder: RunFolder, *, quiet: bool) -> TrainState:
    """Runs all steps, from the folder's last checkpoint if it has one, and returns the last state.

    Raises:
      InterruptedRunError: a signal asked for the end; the state is saved.
      NonFiniteError: a metric or a parameter is no number.
      OSError: something could not be written.
    """
    checkpoints = Checkpoints(folder.checkpoints, KEEP)
    with contextlib.ExitStack() as stack:
        stack.callback(checkpoints.close)
        lines = Lines(own.shown, quiet=quiet)
        restored = checkpoints.restore(own.state, lines.message)
        state, notes = restored or (own.state, None)
        first = int(state.step)
        loggers: list[Logger] = [JsonLines(folder.metrics, first if restored else None), lines]
        for logger in loggers:
            stack.callback(logger.close)
        signals = stack.enter_context(Signals())
        records = Records(loggers, every=own.every, last_step=own.steps)
        keep = Keep(checkpoints, records, signals, last_step=own.steps)
        if notes:
            keep.recall(notes)
            lines.message(f"from step {first}")
        return fit(state, own.run, own.chunks(first, own.steps), [records, *own.hooks, keep])


def grid(first: int, last: int, steps: int) -> Iterator[Chunk]:
    """Chunks that have no data: of ``steps`` steps, or what is left of them."""
    while first < last:
        stop = min(first - first % steps + steps, last)
        yield Chunk(first, stop, np.zeros((stop - first, 1), np.int32))
        first = stop


def status(work: Callable[[], None], folder: RunFolder) -> int:
    """Does the work and returns the exit status: 0 complete, 1 failed, 128 + the signal that stopped it."""
    try:
        work()
    except InterruptedRunError as stop:
        print(f"{stop}, which is saved; go on with --out {folder.path} --resume", file=sys.stderr)
        return 128 + stop.signal
    except NonFiniteError as error:
        print(f"error: {error}; try a smaller --lr", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: cannot write to {folder.path}: {error}", file=sys.stderr)
        return 1
    return 0


def _check_finite(chunk: Chunk, metrics: Metrics) -> None:
    for name, (total, _) in metrics.items():
        if not np.isfinite(total).all():
            place = int(np.argmin(np.isfinite(total)))
            raise NonFiniteError(f"{name} is {total[place]} at step {chunk.start + place + 1}")
