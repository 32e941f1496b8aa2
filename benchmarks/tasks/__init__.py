"""What ``python -m benchmarks`` can measure: a module a task.

To add one, write a module that is a `Task` and name it in `TASKS`. The process that measures imports it, so it
imports no framework: what holds a device is a process of its own (`benchmarks.process`).
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from benchmarks.claims import Claim, Measure
from benchmarks.tasks import accuracy, checkpoint, devices, memory, proof, race, seeds, startup, target


class Task(Protocol):
    """What a module of this package has.

    A result is JSON: ``task``, the module's name; ``case``, which of several; ``data``, ``platform`` and
    ``device`` as `benchmarks.process.prepare` gives them; and keys of the task's own. A later one with the same
    task, case and platform takes its place. A module may also have ``plot(result, path)``, which draws a PNG.
    """

    @property
    def SUMMARY(self) -> str:
        """For ``--help``."""
        ...

    def arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds its own options; ``--data-dir``, ``--quick`` and ``--out`` are there."""
        ...

    def run(self, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
        """Measures, and yields what is known so far as often as it likes: each is saved.

        Raises:
          ArmError, ValueError, OSError: shown as one line.
        """
        ...

    def tables(self, result: Mapping[str, Any]) -> str:
        """Markdown, without the line that says how and where it was measured."""
        ...

    def claims(self, result: Mapping[str, Any]) -> Sequence[Claim]:
        """What the README and the chart show of it."""
        ...

    def measures(self, result: Mapping[str, Any]) -> Mapping[str, Measure]:
        """What ``compare`` holds against an older result, under names that say it all."""
        ...


TASKS: Mapping[str, Task] = {
    "race": race,
    "startup": startup,
    "accuracy": accuracy,
    "target": target,
    "seeds": seeds,
    "memory": memory,
    "checkpoint": checkpoint,
    "devices": devices,
    "proof": proof,
}
