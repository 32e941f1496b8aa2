"""``python -m benchmarks checkpoint``: seconds to save and to restore a run."""

import argparse
import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks import markdown, stats
from benchmarks.claims import Claim, Measure, compared
from benchmarks.process import ArmError, Worker
from benchmarks.turns import Entrant, as_json, take_turns

SUMMARY = "seconds to save and to restore a run"
ROUNDS = 9
CASES = {  # model:hidden, with Adam's state
    "Net": "net:128",
    "CNN": "cnn:128",
    "Net, 11,000 hidden": "net:11000",
}
ARMS = {"jaxdl": "benchmarks.arms.jaxdl_checkpoint", "torch": "benchmarks.arms.torch_checkpoint"}
# What each part is. Files are flushed to the disk and moved into place in both; jaxdl writes a checkpoint in the
# background, and its digests are made when it is saved and compared when it is read.
PARTS = {
    "training waits": "Checkpoints.save / torch.save",
    "safe on disk": "from the start of it",
    "restored": "Checkpoints.restore / torch.load, load_state_dict",
    "weights safe on disk": "weights.safetensors / torch.save",
    "weights loaded": "weights.load / torch.load, load_state_dict",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """How often."""
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of each; both take turns")


def run(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yields after each round of each size."""
    if options.rounds < 1:
        raise ValueError(f"--rounds: expected 1 or more, got {options.rounds}")
    cases = {"Net": CASES["Net"]} if options.quick else CASES
    result: dict[str, Any] = {"task": "checkpoint", "data": "random weights", "cases": {}}
    for name, case in cases.items():
        for facts, found in race(ARMS, case, 1 if options.quick else options.rounds):
            result |= {key: facts[key] for key in ("platform", "device")}
            result["cases"][name] = {"bytes": facts["bytes"], "arms": found}
            yield result


def race(arms: Mapping[str, str], case: str, rounds: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What jaxdl says of the case, and the entrants of `benchmarks.turns` after each round.

    Raises:
      ArmError: jaxdl's process could not start.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        workers = {arm: Worker(module, case, Path(folder)) for arm, module in arms.items()}
        for worker in workers.values():
            stack.callback(worker.close)
        facts = workers["jaxdl"].ask("facts")
        for worker in workers.values():  # once before: what is imported and opened for the first time
            with contextlib.suppress(ArmError):  # which comes again, and is recorded
                worker.ask("run")
        contenders = {arm: lambda worker=worker: worker.ask("run") for arm, worker in workers.items()}
        for entrants in take_turns(contenders, rounds):
            yield facts, as_json(entrants)


def tables(result: Mapping[str, Any]) -> str:
    """Milliseconds of each part, both side by side."""
    arms = [f"{arm}, ms" for arm in ARMS]
    head = ("size and part", arms[0], "IQR", arms[1], "IQR", "n", "")
    rows = [row for name, case in result["cases"].items() for row in _rows(name, case)]
    return markdown.table(head, rows)


def claims(result: Mapping[str, Any]) -> list[Claim]:
    """How long training stands still, and how long it takes until it can go on."""
    found = measures(result)
    parts = [f"{name}, {part}" for name in result["cases"] for part in ("training waits", "restored")]
    return [
        compared(f"Checkpoint, {part}: jaxdl / torch", found[f"{part}, jaxdl"], found[f"{part}, torch"])
        for part in parts
        if {f"{part}, jaxdl", f"{part}, torch"} <= found.keys()
    ]


def measures(result: Mapping[str, Any]) -> dict[str, Measure]:
    """Every part of every size."""
    return {
        f"{name}, {part}, {arm}": Measure(samples, "s", False)
        for name, case in result["cases"].items()
        for arm, entrant in _entrants(case).items()
        for part, samples in entrant.samples.items()
    }


def _entrants(case: Mapping[str, Any]) -> dict[str, Entrant]:
    return {arm: Entrant(**found) for arm, found in case["arms"].items()}


def _rows(name: str, case: Mapping[str, Any]) -> list[tuple[str, ...]]:
    entrants = _entrants(case)
    remarks = "; ".join(f"{arm} failed: {entrant.failed}" for arm, entrant in entrants.items() if entrant.failed)
    rows = [(f"**{name}**, {case['bytes'] / 1e6:,.1f} MB with Adam's state", *[""] * 5, remarks)]
    for part, about in PARTS.items():
        found = {arm: stats.summary(entrant.samples[part]) for arm, entrant in entrants.items() if entrant.samples}
        noisy = ", ".join(arm for arm, summary in found.items() if summary.noisy)
        rows.append((f"{part} ({about})", *_columns(found), f"noisy: {noisy}" if noisy else ""))
    return rows


def _columns(found: Mapping[str, stats.Summary]) -> list[str]:
    """Median and IQR of each arm in ms, and the number of samples; nothing of an arm that failed."""
    columns = []
    for arm in ARMS:
        one = found.get(arm)
        columns += [markdown.figures(1000 * one.median), markdown.figures(1000 * one.iqr)] if one else ["", ""]
    return [*columns, str(max((one.n for one in found.values()), default=0))]
