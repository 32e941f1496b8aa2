"""Tasks that were trained together beside the same tasks trained alone: a table, a picture, JSON."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxdl import files
from jaxdl.engine import figure, parallel, table, weights
from jaxdl.methods.multitask.tasks import LABEL, Task, with_targets
from jaxdl.restored import Restored

TOGETHER, ALONE = "#0b62a4", "#7d8894"
UNITS = {"slant": "degrees", "ink": "of white"}


@dataclasses.dataclass(frozen=True)
class Row:
    """A training, and for each of its tasks the error on the test images.

    ``errors``: the share of images that are wrong, or of a number the root of the mean squared error, in its unit.
    """

    name: str
    errors: dict[str, float]


def report(out: Path, runs: Mapping[str, Restored]) -> list[str]:
    """Measures, writes ``multitask.json``, ``multitask.png`` and all parameters; returns what is to be printed.

    Args:
      out: the folder of the first run, where they go.
      runs: by name; the first has all tasks.
    """
    rows, tasks = [], []
    for name, found in runs.items():
        own, errors = measure(found, None if tasks else out / "multitask.safetensors")
        tasks, rows = tasks or own, [*rows, Row(name, errors)]
    files.write_json(out / "multitask.json", [dataclasses.asdict(row) for row in rows])
    draw(rows, tasks, out / "multitask.png")
    cells = [[row.name, *(_shown(task, row.errors.get(task.name)) for task in tasks)] for row in rows]
    titles = ["", *(f"{task.name}, {_measure(task)}" for task in tasks)]
    return [*table.lines(titles, cells), f"{out / 'multitask.json'}, {out / 'multitask.png'}"]


def measure(found: Restored, path: Path | None) -> tuple[list[Task], dict[str, float]]:
    """The tasks of a run and their errors on the test images; writes all its parameters, given a path."""
    job, state = found.job, found.state
    _, tasks = with_targets(found.source, found.config.multitask.tasks)
    module = found.changes.model(job.model)
    view = nnx.view(module, deterministic=True, use_running_average=True, raise_if_not_found=False)
    if path:
        weights.save(path, view, *jax.device_get((state.params, state.stats)))
    graph, inputs = nnx.graphdef(view), job.seen.inputs()

    def answer(state: Any, batch: Any) -> Any:
        model: Any = nnx.merge(graph, state.params, state.stats)
        return model(inputs(jax.random.key(0), batch)["image"], None)

    parts = jax.device_get(parallel.evaluator(answer, job.tests, job.mesh)(state))
    said = {
        name: np.concatenate([part[name].reshape(-1, *part[name].shape[2:]) for part in parts])
        for name in parts[0]
    }
    return tasks, {
        task.name: error(task, said[task.name], np.asarray(found.source.test[task.entry])) for task in tasks
    }


def error(task: Task, said: np.ndarray, target: np.ndarray) -> float:
    """The error of a task, see `Row`."""
    if task.name == LABEL:
        return float((said.argmax(1) != target).mean())
    if task.kind == "binary":
        return float(((said > 0) != (target > 0.5)).mean())
    return float(task.std * np.sqrt(np.square(said - target, dtype=np.float64).mean()))


def _measure(task: Task) -> str:
    return f"{UNITS.get(task.name, 'units')} off" if task.kind == "number" else "accuracy"


def _shown(task: Task, error: float | None) -> str:
    if error is None:
        return ""
    return f"{error:.3g}" if task.kind == "number" else f"{1 - error:.2%}"


def draw(rows: Sequence[Row], tasks: Sequence[Task], path: Path) -> None:
    """A panel for each task with the errors of the trainings that had it."""
    drawing = figure.new(3.4 * len(tasks), 2.6)
    panels = np.ravel(drawing.subplots(1, len(tasks)))
    for axes, task in zip(panels, tasks, strict=True):
        own = [row for row in rows if task.name in row.errors]
        scale = 1 if task.kind == "number" else 100
        values = [scale * row.errors[task.name] for row in own]
        names = ["together" if row.name == "together" else "alone" for row in own]
        bars = axes.barh(names, values, color=[TOGETHER if name == "together" else ALONE for name in names])
        axes.bar_label(bars, [f" {value:.3g}" for value in values])
        axes.invert_yaxis()
        axes.set_xlim(0, 1.25 * max(values, default=1) or 1)
        figure.title(axes, task.name)
        figure.frame(axes, f"error, {UNITS.get(task.name, 'units') if task.kind == 'number' else '%'}")
    figure.save(drawing, path)
