"""One phase of one workload: every arm in windows that take turns, and whether they did the same work."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks import stats
from benchmarks.process import ArmError, Worker
from benchmarks.turns import Measured, take_turns
from benchmarks.workloads.workload import Workload

WINDOW = 2.0  # seconds of a window, unless the arm asks for more
# Relative difference between the arms' checks in the phases that do not train: rounding (TF32 on a GPU) is less.
SAME = {"forward": (5e-3,), "backward": (5e-3,), "evaluation": (1e-3,)}


@dataclasses.dataclass
class Cell:
    """One arm in one phase.

    Attributes:
      speeds: steps a second of each window; the time of evaluations is not counted, as only one arm evaluates.
      with_evaluation: the same with that time, where the arm evaluates.
      checks: see `benchmarks.arms.contender`; None for what is no number.
      first: seconds of the first pass, with all that is compiled on the way.
      facts: what the arm says of itself.
      void: its check is not that of the others.
      skipped: why there are no speeds.
    """

    arm: str
    phase: str
    speeds: list[float] = dataclasses.field(default_factory=list)
    with_evaluation: list[float] = dataclasses.field(default_factory=list)
    checks: list[float | None] = dataclasses.field(default_factory=list)
    first: float | None = None
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    void: bool = False
    skipped: str = ""

    @property
    def counts(self) -> bool:
        """Whether its speeds can be held against others."""
        return bool(self.speeds) and not self.void


def measure(
    workload: Workload,
    phase: str,
    workers: Mapping[str, Worker],
    *,
    rounds: int,
    window: float | None = None,
) -> list[Cell]:
    """Warms the arms up and lets them take turns; once more when a cell is noisy.

    Args:
      workload, phase: what is done.
      workers: of the arms that take part, by name.
      rounds: windows of each.
      window: seconds of each, instead of what the arms ask for.
    """
    cells = {arm: Cell(arm, phase) for arm in workers}
    contenders = {}
    for arm, worker in workers.items():
        if passes := _warm(cells[arm], worker, window):
            contenders[arm] = functools.partial(_window, worker, phase, passes)
    for entrants in take_turns(contenders, rounds):
        for arm, entrant in entrants.items():
            cells[arm].skipped = entrant.failed
            cells[arm].speeds = entrant.samples.get("speed", [])
            cells[arm].with_evaluation = entrant.samples.get("with_evaluation", [])
    judge(list(cells.values()), SAME.get(phase, workload.tolerances))
    return list(cells.values())


def judge(cells: list[Cell], tolerances: Sequence[float]) -> None:
    """Marks the cells one of whose checks is not that of the others."""
    ran = [cell for cell in cells if cell.speeds]
    for place, tolerance in enumerate(tolerances):
        found = {cell.arm: cell.checks[place] for cell in ran}
        numbers = {arm: math.nan if check is None else check for arm, check in found.items()}
        wrong = stats.disagreeing(numbers, tolerance)
        for cell in ran:
            cell.void |= cell.arm in wrong


def _warm(cell: Cell, worker: Worker, window: float | None) -> int:
    """The number of passes that fill a window; 0 when the arm cannot run."""
    try:
        found = worker.ask("warm", cell.phase)
        facts = worker.ask("facts")
    except ArmError as error:
        cell.skipped = str(error)
        return 0
    wanted = facts.pop("window", WINDOW) if window is None else window
    cell.facts = {name: value for name, value in facts.items() if name != "window"}
    cell.checks = [check if math.isfinite(check) else None for check in found["checks"]]
    cell.first = found["first"]
    return max(1, math.ceil(wanted / found["seconds"]))


def _window(worker: Worker, phase: str, passes: int) -> Measured:
    found = worker.ask("run", phase, passes)
    speeds = {"speed": found["steps"] / (found["seconds"] - found.get("evaluation", 0))}
    if "evaluation" in found:
        speeds["with_evaluation"] = found["steps"] / found["seconds"]
    return speeds
