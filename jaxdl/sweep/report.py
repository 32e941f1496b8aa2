"""What a sweep found: a table, ``sweep.json`` and ``sweep.png``."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxdl import files
from jaxdl.config import to_dict
from jaxdl.engine import bands
from jaxdl.engine.metrics import Spread, spread
from jaxdl.engine.table import lines
from jaxdl.sweep import settings
from jaxdl.sweep.plan import Member

EVERYTHING = "all members"  # the name of the one setting of a sweep over seeds


def report(plan: Sequence[Member], programs: Sequence[Mapping[str, Any]], seconds: float, out: Path) -> str:
    """Writes both files and returns the table with a line on the time.

    Args:
      plan: the members, trained.
      programs: how each program was run.
      seconds: of all of it.
      out: the sweep's folder.
    """
    by_setting = grouped(plan)
    steps = sum(member.records[-1]["step"] for member in plan)
    result = {
        "settings": [_setting(own) for own in by_setting.values()],
        "members": [_member(member) for member in plan],
        "programs": list(programs),
        "seconds": seconds,
        "steps_per_second": steps / seconds,  # of all members, compilation and evaluation included
    }
    files.write_json(out / "sweep.json", result)
    bands.draw([_line(name, own) for name, own in by_setting.items()], out / "sweep.png")
    return f"{table(by_setting)}\n{steps} steps in {seconds:.1f} s: {steps / seconds:.0f} steps/s of all members"


def grouped(plan: Sequence[Member]) -> dict[str, list[Member]]:
    """The members by setting, in their order."""
    found: dict[str, list[Member]] = {}
    for member in plan:
        found.setdefault(settings.label(member.setting) or EVERYTHING, []).append(member)
    return found


def table(by_setting: Mapping[str, Sequence[Member]]) -> str:
    """One line a setting: mean and spread of the test accuracy, and the 95% confidence interval of the mean."""
    rows: list[tuple[str, ...]] = [
        ("setting", "members", "accuracy", "95% interval", "std", "lowest", "highest", "")
    ]
    for name, own in by_setting.items():
        failed = [member for member in own if member.failed]
        remark = f"{len(failed)} failed: no number as loss" if failed else ""
        rows.append((name, str(len(own)), *_shown(_spread(own)), remark))
    if all(len(own) == 1 for own in by_setting.values()):  # nothing to spread
        rows = [(row[0], row[2], row[-1]) for row in rows]
    return "\n".join(lines(rows[0], rows[1:]))


def _spread(own: Sequence[Member]) -> Spread | None:
    found = [member.records[-1]["accuracy"] for member in own if not member.failed]
    return spread(found) if found else None


def _shown(found: Spread | None) -> tuple[str, ...]:
    if found is None:
        return ("",) * 5
    several = found.n > 1
    interval = f"{found.low:.2%} to {found.high:.2%}" if several else ""
    std = f"{100 * found.std:.3f}" if several else ""
    return f"{found.mean:.2%}", interval, std, f"{found.smallest:.2%}", f"{found.largest:.2%}"


def _setting(own: Sequence[Member]) -> dict[str, Any]:
    found = _spread(own)
    accuracy = found.known() if found else None
    return {"setting": own[0].setting, "members": [member.number for member in own], "accuracy": accuracy}


def _member(member: Member) -> dict[str, Any]:
    options = {name: value for name, value in to_dict(member.config).items() if name not in ("out", "resume")}
    last = {name: member.records[-1][name] for name in ("accuracy", "loss", "train_accuracy", "train_loss")}
    return {
        "number": member.number,
        "setting": member.setting,
        "seed": member.config.run.seed,
        "failed": member.failed,
        **({} if member.failed else last),
        "accuracies": [record["accuracy"] for record in member.records],
        "options": options,
    }


def _line(name: str, own: Sequence[Member]) -> bands.Line:
    epochs = max((member.records for member in own), key=len)
    accuracies = np.full((len(own), len(epochs)), np.nan)
    for row, member in zip(accuracies, own, strict=True):
        row[: len(member.records)] = [record["accuracy"] for record in member.records]
        if member.failed:
            row[len(member.records) - 1 :] = np.nan
    return bands.Line(name, np.asarray([record["epoch"] for record in epochs]), accuracies)
