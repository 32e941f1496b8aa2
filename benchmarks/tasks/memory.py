"""``python -m benchmarks memory``: peak memory of training."""

import argparse
import functools
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import markdown, stats
from benchmarks.choices import among
from benchmarks.claims import Claim, Measure, compared
from benchmarks.process import output, prepare
from benchmarks.turns import Entrant, as_json, take_turns
from benchmarks.workloads import WORKLOADS

SUMMARY = "peak memory of training"
STEPS = 50  # the first ones reach the peak
ROUNDS = 3  # processes of each
GOALS = {"cpu": 1.25, "gpu": 1.0}  # times what the leanest torch arm takes, or less
ARMS = {  # the process that trains; its workload, folder and steps go before the rest
    "jaxdl": ("benchmarks.arms.jaxdl_memory",),
    "torch-eager": ("benchmarks.arms.torch_memory", "floats"),
    "torch-eager, images as bytes": ("benchmarks.arms.torch_memory", "bytes"),
}
# The arms of torch take their models from `parity.twins`, which import JAX. What torch alone takes after its
# imports is asked for in a process of its own, and counts in place of theirs.
TORCH = "import numpy, safetensors.torch, torch; from benchmarks.memory import resident; print(resident())"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which workloads."""
    parser.add_argument("--workloads", nargs="+", type=among("workload", WORKLOADS), default=list(WORKLOADS))


def run(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Workload by workload, processes take turns; yields after each round."""
    steps, rounds = (2, 1) if options.quick else (STEPS, ROUNDS)
    for name in options.workloads:
        with tempfile.TemporaryDirectory() as folder:
            result = {"task": "memory", "case": name, "steps": steps, **prepare(options, name, Path(folder))}
            contenders = {
                arm: functools.partial(measure, [module, name, folder, str(steps), *way])
                for arm, (module, *way) in ARMS.items()
            }
            for entrants in take_turns(contenders, rounds):
                yield result | {"arms": as_json(entrants)}


def measure(argv: Sequence[str]) -> dict[str, float]:
    """MB that ``python -m argv`` took.

    Returns:
      ``imports``, ``training``, both ``together``, and ``GPU`` where there is one.

    Raises:
      ArmError: it failed.
    """
    found = json.loads(output(["-m", *argv])[1][-1])
    if "torch" in argv[0]:
        found["imports"] = float(output(["-c", TORCH])[1][-1])
    return found | {"together": found["imports"] + found["training"]}


def tables(result: Mapping[str, Any]) -> str:
    """MB of each arm."""
    title = f"{WORKLOADS[result['case']].title}: MB at the most"
    head = (title, "after the imports", "training", "together", "IQR", "n", "on the GPU", "")
    return markdown.table(head, [_row(arm, entrant) for arm, entrant in _entrants(result).items()])


def claims(result: Mapping[str, Any]) -> list[Claim]:
    """jaxdl beside each arm of torch; the goal is held against the leanest."""
    what, found = _quantity(result), measures(result)
    jaxdl = found.pop("jaxdl", None)
    if not jaxdl or not found:
        return []
    leanest = min(found, key=lambda arm: stats.summary(found[arm].samples).median)
    name, goal = WORKLOADS[result["case"]].name, GOALS[result["platform"]]
    return [
        compared(f"{name}, peak memory ({what}): jaxdl / {arm}", jaxdl, measure, goal if arm == leanest else None)
        for arm, measure in found.items()
    ]


def measures(result: Mapping[str, Any]) -> dict[str, Measure]:
    """Of the process where there is no GPU, otherwise on it."""
    found = {arm: entrant.samples.get(_quantity(result)) for arm, entrant in _entrants(result).items()}
    return {arm: Measure(samples, "MB", False) for arm, samples in found.items() if samples}


def _quantity(result: Mapping[str, Any]) -> str:
    return "together" if result["platform"] == "cpu" else "GPU"


def _entrants(result: Mapping[str, Any]) -> dict[str, Entrant]:
    return {arm: Entrant(**found) for arm, found in result["arms"].items()}


def _row(arm: str, entrant: Entrant) -> tuple[str, ...]:
    if entrant.failed:
        return arm, *[""] * 6, f"failed: {entrant.failed}"
    found = {name: stats.summary(samples) for name, samples in entrant.samples.items()}
    columns = [f"{found[name].median:,.0f}" for name in ("imports", "training", "together")]
    together, gpu = found["together"], f"{found['GPU'].median:,.0f}" if "GPU" in found else ""
    return arm, *columns, f"{together.iqr:,.0f}", str(together.n), gpu, "noisy" if entrant.noisy else ""
