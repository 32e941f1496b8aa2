"""``python -m benchmarks train``: steps a second of every arm, in windows that take turns."""

import contextlib
import dataclasses
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import stats
from benchmarks.process import ArmError, Worker
from benchmarks.workloads import WORKLOADS, Workload

WINDOW = 2.0  # seconds of a window, unless the arm asks for more


@dataclasses.dataclass
class Cell:
    """One arm on one workload.

    Attributes:
      speeds: training steps a second of each window; the time of evaluations is not counted, as only one arm
        evaluates.
      with_evaluation: the same with that time counted, where the arm evaluates.
      loss: at the end of the first epoch; None when it is no number.
      warm: seconds of start-up, compilation and the first two epochs.
      facts: what the arm says of itself.
      void: its loss is not that of the others.
      skipped: why it did not run.
    """

    workload: str
    arm: str
    speeds: list[float] = dataclasses.field(default_factory=list)
    with_evaluation: list[float] = dataclasses.field(default_factory=list)
    loss: float | None = None
    warm: float | None = None
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    void: bool = False
    skipped: str = ""

    @property
    def noisy(self) -> bool:
        """Whether its windows differ too much for a claim."""
        return bool(self.speeds) and stats.summary(self.speeds).noisy


def measure(
    name: str, arms: Mapping[str, str], folder: Path, *, rounds: int, window: float | None = None
) -> list[Cell]:
    """Races the arms; once more when a cell is noisy, and what is noisy then stays marked.

    Args:
      name: of the workload.
      arms: name -> module.
      folder: what `benchmarks.prepare` wrote.
      rounds: windows of each arm.
      window: seconds of each, instead of what the arms ask for.
    """
    with contextlib.ExitStack() as stack:
        workers, cells = {}, {arm: Cell(name, arm) for arm in arms}
        for arm, module in arms.items():
            worker = Worker(module, name, folder)
            stack.callback(worker.close)
            if epochs := _warm(cells[arm], worker, window):
                workers[arm] = worker, epochs
        _race(cells, workers, rounds)
        if any(cell.noisy for cell in cells.values()):
            _race(cells, workers, rounds)
    found = {arm: cell.loss for arm, cell in cells.items() if not cell.skipped}
    losses = {arm: math.nan if loss is None else loss for arm, loss in found.items()}
    for arm in stats.disagreeing(losses, WORKLOADS[name].tolerance):
        cells[arm].void = True
    return list(cells.values())


def run(arms: Mapping[str, str], names: Sequence[str], prepare: Any, *, quick: bool) -> Iterator[dict[str, Any]]:
    """The race of each of some workloads, as its result file has it.

    Args:
      arms: name -> module.
      names: of the workloads.
      prepare: ``(workload, folder) -> facts``.
      quick: see whether everything works, in windows too short to measure anything.
    """
    for name in names:
        with tempfile.TemporaryDirectory() as place:
            facts = prepare(name, Path(place))
            rounds, window = (2, 0.05) if quick else (WORKLOADS[name].rounds, None)
            cells = measure(name, arms, Path(place), rounds=rounds, window=window)
        yield {"kind": "train", "workload": name, **facts, "cells": [dataclasses.asdict(cell) for cell in cells]}


def compare(workload: Workload, cells: Sequence[Cell], platform: str) -> list[dict[str, Any]]:
    """The goals of a workload, with the ratio, its interval and what can be said of it; void arms have none."""
    speeds = {cell.arm: cell.speeds for cell in cells if cell.speeds and not cell.void}
    noisy = {cell.arm for cell in cells if cell.noisy}
    rows = []
    for goal in workload.goals:
        if {goal.arm, goal.other} <= speeds.keys():
            ratio = stats.ratio(speeds[goal.arm], speeds[goal.other])
            found = {"arm": goal.arm, "other": goal.other, **dataclasses.asdict(ratio)}
            unfit = bool({goal.arm, goal.other} & noisy)
            found["verdict"] = "too noisy to say" if unfit else stats.verdict(ratio)
            rows.append(found | {"goal": None if unfit else goal.at_least(platform)})
    return rows


def _warm(cell: Cell, worker: Worker, window: float | None) -> int:
    """The number of epochs that fill a window; 0 when the arm cannot run."""
    started = time.perf_counter()
    try:
        loss, seconds = worker.ask("warm")
        cell.facts = worker.ask("facts")
    except ArmError as error:
        cell.skipped = str(error)
        return 0
    cell.loss = loss if math.isfinite(loss) else None
    cell.warm = time.perf_counter() - started
    wanted = cell.facts.pop("window", WINDOW)
    return max(1, math.ceil((wanted if window is None else window) / seconds))


def _race(cells: Mapping[str, Cell], workers: Mapping[str, tuple[Worker, int]], rounds: int) -> None:
    for arm in workers:
        cells[arm].speeds, cells[arm].with_evaluation = [], []
    for _ in range(rounds):
        for arm, (worker, epochs) in workers.items():
            found = worker.ask("run", epochs)
            cells[arm].speeds.append(found["steps"] / (found["seconds"] - found.get("evaluation", 0)))
            if "evaluation" in found:
                cells[arm].with_evaluation.append(found["steps"] / found["seconds"])
