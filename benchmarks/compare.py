"""``python -m benchmarks compare OLD NEW``: which cells have changed, as far as that can be said."""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import markdown, results, stats
from benchmarks.claims import Measure
from benchmarks.tasks import TASKS

SUMMARY = "what has changed between two results, or two folders of them"
CHANGE = 0.07
CONDITIONS = ("cpu", "device", "threads", "versions", "flags", "data")


@dataclasses.dataclass(frozen=True)
class Change:
    """A cell that is in both.

    Attributes:
      name: of result and cell.
      old, new: its samples.
    """

    name: str
    old: Measure
    new: Measure

    @property
    def ratio(self) -> stats.Estimate:
        """New over old."""
        return stats.ratio(self.new.samples, self.old.samples)

    @property
    def verdict(self) -> str:
        """ "better", "worse", "noisy" where a change cannot be told from the spread, or "same"."""
        found = self.ratio
        if abs(found.value - 1) <= CHANGE:
            return "same"
        spread = any(stats.summary(side.samples).noisy for side in (self.old, self.new))
        if spread or found.low <= 1 <= found.high:
            return "noisy"
        return "better" if (found.value > 1) == self.new.larger_is_better else "worse"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The two sides."""
    for side in ("old", "new"):
        parser.add_argument(side, type=Path, help="a result file, or a folder of them")


def run(options: argparse.Namespace) -> int:
    """Prints what has changed; 1 where something got worse.

    Raises:
      FileNotFoundError: a side has no results.
      ValueError: a file is no result, or the sides have no cell in common.
    """
    old, new = ({results.name(one): one for one in results.load(side)} for side in (options.old, options.new))
    before, after = _cells(old), _cells(new)
    changes = [Change(name, before[name], after[name]) for name in before if name in after]
    if not changes:
        raise ValueError(f"{options.old} and {options.new} have no cell in common")
    print("\n\n".join(filter(None, [table(changes), conditions(old, new), missing(before, after)])))
    return int(any(change.verdict == "worse" for change in changes))


def table(changes: Sequence[Change]) -> str:
    """The cells that are not the same, and how many are."""
    rows = [_row(change) for change in changes if change.verdict != "same"]
    same = f"{len(changes) - len(rows)} of {len(changes)} cells changed by {CHANGE:.0%} or less."
    head = ("changed by more", "old", "new", "new / old", "95 % interval", "")
    return "\n\n".join([*([markdown.table(head, rows)] if rows else []), same])


def conditions(old: Mapping[str, Mapping[str, Any]], new: Mapping[str, Mapping[str, Any]]) -> str:
    """What else is different between results of one name."""
    found = {
        f"{key}: {old[name].get(key)} -> {new[name].get(key)}"
        for name in old.keys() & new.keys()
        for key in CONDITIONS
        if old[name].get(key) != new[name].get(key)
    }
    return "\n".join(["Not measured under the same conditions:", *sorted(found)]) if found else ""


def missing(old: Mapping[str, Measure], new: Mapping[str, Measure]) -> str:
    """Cells of one side."""
    lines = [f"Only {word}: {', '.join(names)}" for word, names in _lone(old, new).items() if names]
    return "\n".join(lines)


def _lone(old: Mapping[str, Measure], new: Mapping[str, Measure]) -> dict[str, list[str]]:
    return {"old": [name for name in old if name not in new], "new": [name for name in new if name not in old]}


def _cells(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Measure]:
    return {
        f"{name}: {cell}": measure
        for name, result in found.items()
        for cell, measure in TASKS[result["task"]].measures(result).items()
    }


def _row(change: Change) -> tuple[str, ...]:
    sides = [
        f"{markdown.figures(stats.summary(side.samples).median)} {side.unit}" for side in (change.old, change.new)
    ]
    found = change.ratio
    return change.name, *sides, f"{found.value:.2f}", f"{found.low:.2f} to {found.high:.2f}", change.verdict
