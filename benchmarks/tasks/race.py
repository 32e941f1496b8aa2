"""``python -m benchmarks race``: steps a second of every arm, phase by phase, side by side."""

import argparse
import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import cells, limits, markdown, plots, stats
from benchmarks.arms import ARMS
from benchmarks.cells import Cell
from benchmarks.choices import among
from benchmarks.claims import STRONGEST, Claim, Measure, compared
from benchmarks.process import ArmError, Worker, prepare
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.workload import PHASES

SUMMARY = "steps a second of every arm, phase by phase"
TRIAL = {"rounds": 2, "window": 0.05}
CHECKS = {
    "forward": "mean distance of probabilities from 1/classes",
    "backward": "norm of the mean gradient",
    "step": "loss over the first 100 steps and at the end of a first pass",
    "epoch": "loss over the first 100 steps and at the end of the first epoch",
    "evaluation": "test loss",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which cells."""
    for kind, known in {"workload": WORKLOADS, "arm": ARMS, "phase": PHASES}.items():
        parser.add_argument(
            f"--{kind}s",
            nargs="+",
            type=among(kind, known),
            default=list(known),
            metavar="NAME",
            help=f"instead of all: {', '.join(known)}",
        )
    parser.add_argument("--rounds", type=int, help="windows of each arm, instead of what the workload asks for")


def run(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Workload by workload; yields after each phase."""
    if options.rounds is not None and options.rounds < 1:
        raise ValueError(f"--rounds: expected 1 or more, got {options.rounds}")
    arms = {name: ARMS[name] for name in options.arms}
    for name in options.workloads:
        with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
            folder, workload = Path(place), WORKLOADS[name]
            result = {"task": "race", "case": name, **prepare(options, name, folder)}
            result |= {"limits": limits.measure(name, folder), "cells": []}  # before others warm the processor
            workers, offers, result["skipped"] = start(arms, name, folder, stack)
            how = {"rounds": options.rounds or workload.rounds} | (TRIAL if options.quick else {})
            for phase in options.phases:
                part = {arm: worker for arm, worker in workers.items() if phase in offers[arm]}
                found = cells.measure(workload, phase, part, **how)
                result["cells"] += [dataclasses.asdict(cell) for cell in found]
                yield result


def start(
    arms: Mapping[str, str], workload: str, folder: Path, stack: contextlib.ExitStack
) -> tuple[dict[str, Worker], dict[str, Sequence[str]], dict[str, str]]:
    """A process for each arm, which ends with the stack.

    Returns:
      The processes, the phases of each, and why the arms that cannot run here cannot.
    """
    workers, offers, skipped = {}, {}, {}
    for arm, module in arms.items():
        worker = Worker(module, workload, folder)
        stack.callback(worker.close)
        try:
            offers[arm] = worker.ask("offers")
            workers[arm] = worker
        except ArmError as error:
            skipped[arm] = str(error)
    return workers, offers, skipped


def claims(result: Mapping[str, Any]) -> list[Claim]:
    """The goals of the workload, as far as both sides ran; void arms have none."""
    workload, rows = WORKLOADS[result["case"]], []
    for goal in workload.goals:
        speeds = {cell.arm: Measure(cell.speeds, "steps/s") for cell in _cells(result, goal.phase) if cell.counts}
        other = strongest(speeds) if goal.other == STRONGEST else goal.other
        if {goal.arm, other} <= speeds.keys():
            title = f"{other}, the strongest" if goal.other == STRONGEST else other
            what = f"{workload.name}, {goal.phase}: {goal.arm} / {title}"
            rows.append(compared(what, speeds[goal.arm], speeds[str(other)], goal.at_least(result["platform"])))
    return rows


def strongest(speeds: Mapping[str, Measure]) -> str | None:
    """The fastest of torch's arms."""
    torch = [arm for arm in speeds if arm.startswith("torch-")]
    return max(torch, key=lambda arm: stats.summary(speeds[arm].samples).median, default=None)


def measures(result: Mapping[str, Any]) -> dict[str, Measure]:
    """The speeds of every cell that counts."""
    found = [cell for cell in _cells(result) if cell.counts]
    return {f"{cell.phase}, {cell.arm}": Measure(cell.speeds, "steps/s") for cell in found}


def tables(result: Mapping[str, Any]) -> str:
    """A table a phase, the limits, and what did not run."""
    workload, parts = WORKLOADS[result["case"]], []
    for phase in PHASES:
        if found := _cells(result, phase):
            least = limits.of(result["limits"], workload, phase) if "limits" in result else None
            head = (f"{workload.name}, {phase}", "steps/s", "IQR", "n", "ms/step", "GFLOP/s", "of the limit")
            head += ("check", "first pass, s", "")
            parts.append(f"{phase}; check: {CHECKS[phase]}")
            parts.append(markdown.table(head, [_row(cell, least) for cell in found]))
    parts += [_limits(result["limits"])] if "limits" in result else []
    parts += [f"Not run: {arm} ({reason})." for arm, reason in result.get("skipped", {}).items()]
    return "\n\n".join([f"### {workload.title}", *parts])


def plot(result: Mapping[str, Any], path: Path) -> None:
    """Every comparison of the workload."""
    plots.ratios(claims(result), path)


def _cells(result: Mapping[str, Any], phase: str | None = None) -> list[Cell]:
    found = [Cell(**cell) for cell in result["cells"]]
    return [cell for cell in found if phase in (None, cell.phase)]


def _row(cell: Cell, least: Mapping[str, float] | None) -> tuple[str, ...]:
    if cell.skipped:
        return cell.arm, *[""] * 8, f"skipped: {cell.skipped}"
    found = stats.summary(cell.speeds)
    speed = found.median
    work = (
        (markdown.figures(least["flops"] * speed / 1e9), f"{least['seconds'] * speed:.0%}") if least else ("", "")
    )
    check = ", ".join("no number" if one is None else f"{one:.5g}" for one in cell.checks)
    first = "" if cell.first is None else f"{cell.first:.1f}"
    numbers = markdown.figures(speed), markdown.figures(found.iqr), str(found.n), f"{1000 / speed:.3f}"
    return cell.arm, *numbers, *work, check, first, "; ".join(_remarks(cell, found.noisy))


def _remarks(cell: Cell, noisy: bool) -> list[str]:
    remarks = ["noisy"] if noisy else []
    remarks += ["void: the check is not that of the others"] if cell.void else []
    if cell.with_evaluation:
        remarks.append(f"{markdown.figures(stats.summary(cell.with_evaluation).median)} with evaluation")
    return remarks + [f"{name} {value}" for name, value in cell.facts.items() if name != "setup"]


def _limits(found: Mapping[str, Any]) -> str:
    """A sentence on what 100 % is."""
    alone = ", ".join(f"{phase} {_speed(found[phase])}" for phase in ("forward", "backward"))
    return (
        "The limit, measured in this run: the matrix products of a batch alone, by the faster framework "
        f"({alone}); in a step also the optimizer's reading and writing at the speed of a copy "
        f"({1000 * found['update']:.3f} ms). A large copy moves {found['bandwidth'] / 1e9:.1f} GB/s."
    )


def _speed(least: Mapping[str, float]) -> str:
    return f"{1000 * least['seconds']:.3f} ms, {least['flops'] / least['seconds'] / 1e9:,.0f} GFLOP/s"
