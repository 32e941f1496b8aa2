"""Result files: one a task, case and platform, as JSON."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.tasks import TASKS
from benchmarks.workloads import WORKLOADS

FOLDER = Path(__file__).parent / "results"


def name(result: Mapping[str, Any]) -> str:
    """What a later result of the same name replaces."""
    return "-".join(filter(None, (result["task"], result.get("case"), result["platform"])))


def save(result: Mapping[str, Any], folder: Path) -> Path:
    """Writes a result under its name; an older one of that name is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name(result)}.json"
    path.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n")
    return path


def load(place: Path) -> list[dict[str, Any]]:
    """The results of a folder, or of one file, in the order of the page.

    Raises:
      FileNotFoundError: there is none.
      ValueError: a file is no result.
    """
    if not place.exists():
        raise FileNotFoundError(f"{place}: expected a result, or a folder of them; there is no such file")
    paths = sorted(place.glob("*.json")) if place.is_dir() else [place]
    if not paths:
        raise FileNotFoundError(f"{place}: expected results, *.json; there are none")
    return sorted(map(_read, paths), key=_rank)


def _read(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: expected a result as JSON, got {error}") from None
    if not isinstance(result, dict) or result.get("task") not in TASKS:
        raise ValueError(f"{path}: expected a result of one of {', '.join(TASKS)}")
    return result


def _rank(result: Mapping[str, Any]) -> tuple[Any, ...]:
    """Tasks and workloads as they are registered; the CPU first."""
    case, workloads = result.get("case", ""), list(WORKLOADS)
    place = workloads.index(case) if case in workloads else len(workloads)
    return list(TASKS).index(result["task"]), result["platform"] != "cpu", place, case
