"""What an arm does: passes over the data, phase by phase, timed, the device awaited at the end of a window only.

Phases, each a pass:
  forward: probabilities of the training images, in evaluation mode.
  backward: loss and gradients of every full batch, in training mode; gradients add up, as without ``zero_grad``.
  step: a training step for every full batch; data and row numbers lie on the device.
  epoch: a training step for every batch, the ragged last one included, with whatever brings the batches.
  evaluation: loss and accuracy on the test images.
Nothing can be left out: every batch's result is part of what a pass returns, and of that whole `warm` makes a
number or two, which the parent compares between the arms.
"""

import abc
import time
from typing import Any, ClassVar

from benchmarks.workloads.workload import PHASES


class Contender(abc.ABC):
    """One arm on one workload. A subclass has a method for each of its phases.

    Attributes:
      phases: those that it takes part in.
    """

    phases: ClassVar[tuple[str, ...]] = PHASES

    @abc.abstractmethod
    def reset(self, phase: str) -> None:
        """Gets ready for a phase: the initial weights; in phases that do not train those of `PROBE`."""

    @abc.abstractmethod
    def wait(self) -> None:
        """Returns when the device has done all it was given."""

    @abc.abstractmethod
    def steps(self, phase: str) -> int:
        """Batches of a pass."""

    @abc.abstractmethod
    def checks(self, phase: str, produced: Any) -> list[float]:
        """What a pass returned, as a number or two.

        They are the mean distance of the probabilities from ``1 / classes`` (forward), the norm of the mean
        gradient (backward), the mean losses of the first and the last `workload.records` (step, epoch) or of all
        images (evaluation).
        """

    def offers(self) -> tuple[str, ...]:
        """The phases."""
        return self.phases

    def facts(self) -> dict[str, Any]:
        """What the table should say of it; ``window`` asks for longer windows, ``setup`` is only recorded."""
        return {}

    def warm(self, phase: str) -> dict[str, Any]:
        """A first pass, with all that is compiled on the way, and a second one.

        Returns:
          ``checks`` and ``first``, the seconds, of the first; ``seconds`` of the second.
        """
        started = time.perf_counter()
        self.reset(phase)
        produced = getattr(self, phase)()
        self.wait()
        first = time.perf_counter() - started
        checks = self.checks(phase, produced)
        return {"checks": checks, "first": first, "seconds": self.run(phase, 1)["seconds"]}

    def run(self, phase: str, passes: int) -> dict[str, float]:
        """A window: ``{"steps": ..., "seconds": ..., ...}``."""
        once = getattr(self, phase)
        started = time.perf_counter()
        for _ in range(passes):
            once()
        self.wait()
        return {"steps": passes * self.steps(phase), "seconds": time.perf_counter() - started}
