"""Early stopping: the end of a run whose loss on held-out images has ceased to fall."""

import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax

from jaxdl.data.loader import Chunk
from jaxdl.engine import metrics as averages
from jaxdl.engine.hooks import Evaluate, NonFiniteError, Save
from jaxdl.engine.log import Logger
from jaxdl.engine.loop import Hook, Late
from jaxdl.engine.state import TrainState
from jaxdl.typing import Metrics


class EarlyStop(Hook):
    """Measures the held-out images after each epoch and says when to end: after ``patience`` epochs without gain.

    Args:
      evaluate: ``state -> list of metrics`` of the held-out images.
      tested: knows what the test images gave after the same step; comes earlier among the hooks.
      loggers: where records go, of the kind "validation".
      patience: epochs.
      steps_per_epoch, last_step: when.

    Source: Prechelt 1998, "Early stopping - but when?"; Keras's ``EarlyStopping(restore_best_weights=True)``.
    """

    def __init__(
        self,
        evaluate: Callable[[TrainState], list[Metrics]],
        tested: Evaluate,
        loggers: Sequence[Logger],
        *,
        patience: int,
        steps_per_epoch: int,
        last_step: int,
    ) -> None:
        self.evaluate, self.tested, self.loggers = evaluate, tested, loggers
        self.patience, self.steps_per_epoch, self.last_step = patience, steps_per_epoch, last_step
        self.best: dict[str, Any] = {}  # the record of the best epoch, and under "test" that of the test images
        self.waited = 0

    @property
    def done(self) -> bool:
        """Whether the run shall end here."""
        return self.waited >= self.patience

    def due(self, step: int) -> bool:
        return step % self.steps_per_epoch == 0 or step == self.last_step

    def on_state(self, step: int, state: TrainState, late: Late) -> None:
        # Read here and now: whether this state is the best has to be known while it is there to be saved.
        means = averages.means(averages.host_total(jax.device_get(self.evaluate(state))))
        late.flush()
        if not math.isfinite(means["loss"]):
            raise NonFiniteError(f"the loss on the held-out images is {means['loss']} after step {step}")
        record = {"kind": "validation", "step": step, "epoch": step / self.steps_per_epoch, **means}
        if means["loss"] < self.best.get("loss", math.inf):
            self.best, self.waited = {**record, "test": self.tested.last}, 0
        else:
            self.waited += 1
        for logger in self.loggers:
            logger.write(record)

    def verdict(self, step: int) -> str:
        """A line on how the run ended after ``step`` steps, and which weights it keeps."""
        ended = f"stopped after {self.waited} epochs without gain" if self.done else "not stopped early"
        epoch, loss = self.best["epoch"], self.best["loss"]
        return f"{ended} (step {step}); the weights kept are those of epoch {epoch:g}, validation loss {loss:.4f}"

    def until_done(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """The chunks of a run, as long as it shall go on."""
        return itertools.takewhile(lambda _: not self.done, chunks)


class SaveBest(Save):
    """Checkpoints of a run that stops early: also of each epoch that is the best so far, and of the last.

    Args:
      stop: comes earlier among the hooks.
      others: as those of `Save`.
    """

    def __init__(self, stop: EarlyStop, *args: Any, **others: Any) -> None:
        super().__init__(*args, **others)
        self.stop = stop

    def due(self, step: int) -> bool:
        return super().due(step) or self.stop.done or self.stop.best.get("step") == step

    def score(self, step: int) -> float:
        best = self.stop.best
        return -best["loss"] if best.get("step") == step else -sys.float_info.max

    def notes(self) -> dict[str, Any]:
        return super().notes() | {"stop": {"best": self.stop.best, "waited": self.stop.waited}}

    def recall(self, notes: dict[str, Any]) -> None:
        super().recall(notes)
        self.stop.best, self.stop.waited = notes["stop"]["best"], notes["stop"]["waited"]
