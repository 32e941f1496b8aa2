"""``python -m benchmarks seeds``: 64 trainings of Net that differ in their seed, at once and one after another."""

import argparse
import contextlib
import functools
import math
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import markdown, members, stats
from benchmarks.choices import among
from benchmarks.claims import Claim, Measure, compared
from benchmarks.process import ArmError, Worker, prepare
from benchmarks.turns import Entrant, as_json, take_turns

SUMMARY = "trainings of Net with different seeds, at once"
MEMBERS, STEPS = 64, 256
ROUNDS, WINDOW = 5, 2.0  # of each arm, and the seconds of a window or more
# Rounding (of TF32 on a GPU) changes a loss by less; with a wrong seed or a lost batch it is further off.
TOLERANCE = {"cpu": 1e-4, "gpu": 2e-3}


class Arm(NamedTuple):
    """A module, which of its ways, and that in words."""

    module: str
    way: str
    about: str


JAX, TORCH = "benchmarks.arms.jax_members", "benchmarks.arms.torch_members"
SOLO = "jaxdl-solo"
ARMS = {
    SOLO: Arm(JAX, "solo", "the program of jaxdl.train, one member after another"),
    "jaxdl-map": Arm(JAX, "map", "one program, one member after another on each core"),
    "jaxdl-vmap": Arm(JAX, "vmap", "one program, all members at once"),
    "torch-eager": Arm(TORCH, "eager", "one member after another"),
    "torch-processes": Arm(TORCH, "processes", "eager, a process a core"),
    "torch-vmap": Arm(TORCH, "vmap", "eager, all members at once"),
    "torch-compile": Arm(TORCH, "compile", "one member after another"),
    "torch-graph": Arm(TORCH, "graph", "one member after another"),
    "torch-compile-graph": Arm(TORCH, "compile-graph", "one member after another"),
}
BEST = {"cpu": "jaxdl-map", "gpu": "jaxdl-vmap"}
GOALS = {"cpu": {"torch-eager": 3.0}, "gpu": {"torch-eager": 500.0, "torch-compile-graph": 40.0}}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which arms."""
    help_ = f"{SOLO} is always there: the others are held against it"
    parser.add_argument("--arms", nargs="+", type=among("arm", ARMS), default=list(ARMS), help=help_)


def run(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields what is known after each round."""
    count, steps, rounds, window = (2, 4, 1, 0.0) if options.quick else (MEMBERS, STEPS, ROUNDS, WINDOW)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        facts = prepare(options, "net", folder) | {"members": count, "steps": steps}
        members.write(folder, count, steps)
        arms = {name: arm for name, arm in ARMS.items() if name in {SOLO, *options.arms}}
        for found in race(arms, folder, rounds=rounds, window=window):
            yield {"task": "seeds", **facts, **found}


def race(arms: Mapping[str, Arm], folder: Path, *, rounds: int, window: float) -> Iterator[dict[str, Any]]:
    """Windows take turns; each trains all members from their start, as often as fills it.

    Yields:
      ``arms``, as `benchmarks.turns` has them, and ``furthest``: the largest relative difference between the loss
      of a member and of the same trained alone, by the program of ``jaxdl.train``; None where it is no number.

    Raises:
      ArmError: the members could not be trained alone.
    """
    with contextlib.ExitStack() as stack:
        contenders, losses, out = {}, {}, {}
        for name, arm in arms.items():
            worker = Worker(arm.module, arm.way, folder)
            stack.callback(worker.close)
            try:
                losses[name], seconds = worker.ask("warm")
            except ArmError as error:
                out[name] = Entrant(failed=str(error))
                continue
            contenders[name] = functools.partial(_window, worker, max(1, math.ceil(window / seconds)))
        if SOLO in out:
            raise ArmError(f"{SOLO}: {out[SOLO].failed}")
        furthest = {name: _furthest(found, losses[SOLO]) for name, found in losses.items()}
        for entrants in take_turns(contenders, rounds):
            yield {"arms": as_json(entrants | out), "furthest": furthest}


def _window(worker: Worker, times: int) -> dict[str, float]:
    found = worker.ask("run", times)
    return {"steps/s": found["steps"] / found["seconds"]}


def _furthest(losses: list[float], solo: list[float]) -> float | None:
    worst = float(np.max(np.abs(np.divide(losses, solo) - 1)))
    return worst if math.isfinite(worst) else None


def tables(result: Mapping[str, Any]) -> str:
    """The speed of every arm, and how far its members' losses are from those of members trained alone."""
    title = f"{result['members']} seeds of Net, {result['steps']} steps each"
    head = (title, "steps/s of all", "IQR", "n", "furthest loss from alone", "")
    return markdown.table(head, [_row(name, entrant, result) for name, entrant in _entrants(result).items()])


def claims(result: Mapping[str, Any]) -> list[Claim]:
    """The arm that is meant for the platform beside every other; void ones have none."""
    cells, best, goals = measures(result), BEST[result["platform"]], GOALS[result["platform"]]
    if best not in cells:
        return []
    title = f"{result['members']} seeds of Net"
    return [
        compared(f"{title}: {best} / {other}", cells[best], cell, goals.get(other))
        for other, cell in cells.items()
        if other != best
    ]


def measures(result: Mapping[str, Any]) -> dict[str, Measure]:
    """Steps a second of all members together, of the arms that trained what they should."""
    ran = {name: entrant for name, entrant in _entrants(result).items() if not entrant.failed}
    fit = [name for name in ran if not _void(result, name)]
    return {name: Measure(ran[name].samples["steps/s"], "steps/s") for name in fit}


def _entrants(result: Mapping[str, Any]) -> dict[str, Entrant]:
    return {name: Entrant(**found) for name, found in result["arms"].items()}


def _void(result: Mapping[str, Any], name: str) -> bool:
    furthest = result["furthest"][name]
    return furthest is None or furthest > TOLERANCE[result["platform"]]


def _row(name: str, entrant: Entrant, result: Mapping[str, Any]) -> tuple[str, ...]:
    if entrant.failed:
        return name, "", "", "", "", f"skipped: {entrant.failed}"
    found = stats.summary(entrant.samples["steps/s"])
    remarks = [ARMS[name].about] + (["noisy"] if entrant.noisy else [])
    remarks += ["void: its members are not those trained alone"] if _void(result, name) else []
    furthest = result["furthest"][name]
    apart = "no number" if furthest is None else f"{furthest:.1e}"
    numbers = markdown.figures(found.median), markdown.figures(found.iqr), str(found.n)
    return name, *numbers, apart, "; ".join(remarks)
