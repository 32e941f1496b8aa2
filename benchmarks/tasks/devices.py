"""``python -m benchmarks devices``: what it costs to split a batch, or a model, over several devices.

On a CPU the devices are virtual and share its cores, so nothing gets faster: what is seen is the overhead of
splitting, of adding the gradients up, and of one program for each device. Scaling is not measured here.
"""

import argparse
import contextlib
import functools
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import markdown, stats
from benchmarks.choices import among
from benchmarks.claims import Claim, Measure, compared
from benchmarks.process import ArmError, Worker, prepare
from benchmarks.turns import Entrant, as_json, take_turns
from benchmarks.workloads import WORKLOADS

SUMMARY = "ms a step on 1, 2 and 4 devices, by jit and by pmap, in stages and in parts of layers"
ROUNDS = 9
PROGRAMS = {"net": 50, "cnn": 1}  # of 20 steps each in a sample: some tenths of a second, or more
WAYS = (
    *("jit:1", "pmap:1", "jit:2", "pmap:2", "jit:4", "pmap:4"),
    *("stages:2", "tensor:2", "tensor:4"),  # the model is split, not the batch
)
ALONE = WAYS[0]


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which workloads."""
    chosen = among("workload", {name: WORKLOADS[name] for name in PROGRAMS})
    parser.add_argument("--workloads", nargs="+", type=chosen, default=list(PROGRAMS))


def run(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Workload by workload, a process for each way takes turns with the others; yields after each round."""
    for name in options.workloads:
        programs, rounds = (1, 1) if options.quick else (PROGRAMS[name], ROUNDS)
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            result = {"task": "devices", "case": name, **prepare(options, name, Path(folder))}
            workers = {way: Worker("benchmarks.arms.jaxdl_devices", f"{name}:{way}", Path(folder)) for way in WAYS}
            for worker in workers.values():
                stack.callback(worker.close)
                with contextlib.suppress(ArmError):  # which comes again, and is recorded
                    worker.ask("measure", 1)  # compiles
            contenders = {
                way: functools.partial(worker.ask, "measure", programs) for way, worker in workers.items()
            }
            for entrants in take_turns(contenders, rounds):
                yield result | {"arms": as_json(entrants)}


def tables(result: Mapping[str, Any]) -> str:
    """ms a step of each way, and times what one device takes by jit."""
    title = f"{WORKLOADS[result['case']].title}: {_about(result)}"
    return markdown.table((title, "ms a step", "IQR", "n", "times jit on one"), [*_rows(result)])


def claims(result: Mapping[str, Any]) -> list[Claim]:
    """The overhead of four devices, and there jit beside pmap."""
    found, name = measures(result), WORKLOADS[result["case"]].name
    pairs = [("jit:4", ALONE), ("pmap:4", ALONE), ("pmap:4", "jit:4"), ("stages:2", ALONE), ("tensor:4", ALONE)]
    return [
        compared(f"{name}, a step over {_about(result)}: {left} / {right}", found[left], found[right])
        for left, right in pairs
        if {left, right} <= found.keys()
    ]


def measures(result: Mapping[str, Any]) -> dict[str, Measure]:
    """ms a step of each way."""
    return {
        way: Measure(entrant.samples["ms"], "ms", False)
        for way, entrant in _entrants(result).items()
        if entrant.samples
    }


def _about(result: Mapping[str, Any]) -> str:
    return "virtual devices on shared cores" if result["platform"] == "cpu" else "devices"


def _entrants(result: Mapping[str, Any]) -> dict[str, Entrant]:
    return {way: Entrant(**found) for way, found in result["arms"].items()}


def _rows(result: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    found = measures(result)
    for way, entrant in _entrants(result).items():
        name = "{} on {}".format(*way.split(":"))
        if entrant.failed:
            yield name, "", "", "", f"failed: {entrant.failed}"
            continue
        one = stats.summary(entrant.samples["ms"])
        ratio = f"{stats.ratio(found[way].samples, found[ALONE].samples).value:.2f}" if ALONE in found else ""
        noisy = " (noisy)" if one.noisy else ""
        yield name, markdown.figures(one.median), markdown.figures(one.iqr), str(one.n), ratio + noisy
