"""The average of the weights beside the last ones: a table, and JSON."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax

from jaxdl import build, files, inference
from jaxdl.engine import metrics as averages
from jaxdl.engine import parallel, table, weights
from jaxdl.methods.fuse import averaging
from jaxdl.parts import DTYPES
from jaxdl.restored import Restored
from jaxdl.typing import PyTree


@dataclasses.dataclass(frozen=True)
class Row:
    """Weights, and what they are worth on the test images."""

    name: str
    accuracy: float
    loss: float


def report(found: Restored, run: Path) -> list[str]:
    """Measures the run in a folder, writes ``average.json``, and returns what is to be printed.

    Where the model has BatchNorm and its statistics were not averaged, the run's weights are written again with
    those that belong to the average, as torch's ``update_bn`` finds them.
    """
    params, stats = found.state.params, found.state.stats
    rows = [_row(found, "last weights", params["model"], stats.get("model", {}))]
    mean, own = averaging.average_of((params, stats))
    rows.append(_row(found, f"average ({found.config.average.kind})", mean, own))
    if jax.tree.leaves(own) and not found.config.average.use_buffers:
        own = averaging.update_bn(found.job.model, mean, own, found.job.loader, prepare(found.job))
        rows.append(_row(found, "average, its statistics measured anew", mean, own))
        weights.save(run / "weights.safetensors", found.job.model, *jax.device_get((mean, own)))
    files.write_json(run / "average.json", [dataclasses.asdict(row) for row in rows])
    cells = [(row.name, f"{row.accuracy:.2%}", f"{row.loss:.4f}") for row in rows]
    return [*table.lines(("", "accuracy", "loss"), cells), str(run / "average.json")]


def prepare(job: build.Job) -> Any:
    """What makes stored images the model's input, without augmentation."""
    return functools.partial(job.seen.inputs(), jax.random.key(0))


def _row(found: Restored, name: str, params: PyTree, stats: PyTree) -> Row:
    job = found.job
    eval_step, _ = inference.steps(job.model, job.seen, DTYPES[found.config.run.precision])
    state = dataclasses.replace(found.state, params=params, stats=stats)
    parts = parallel.evaluator(eval_step, job.tests, job.mesh)(state)
    means = averages.means(averages.host_total(jax.device_get(parts)))
    return Row(name, means["accuracy"], means["loss"])
