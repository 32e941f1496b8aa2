"""``python -m benchmarks proof``: seconds that the proof of a shipped pair takes."""

import argparse
import time
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks import markdown, stats
from benchmarks.claims import Claim, Measure
from benchmarks.process import ArmError, timed
from benchmarks.turns import Entrant, as_json, take_turns

SUMMARY = "seconds that parity takes for a proof"
ROUNDS = 5
GOALS = {"cnn": 60.0}  # seconds, or less


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which pairs."""
    help_ = "shipped pairs (python -m parity list), module:function or file.py:function"
    parser.add_argument("--pairs", nargs="+", default=["net", "cnn"], metavar="TARGET", help=help_)


def run(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Proofs take turns; yields what is known after each round."""
    contenders = {_title(pair): lambda pair=pair: {"seconds": prove(pair)} for pair in options.pairs}
    # A proof is made in float64 on the CPU, whatever else the machine has.
    where = {"data": "made-up batches", "platform": "cpu", "device": "cpu"}
    for entrants in take_turns(contenders, 1 if options.quick else ROUNDS):
        yield {"task": "proof", **where, "pairs": as_json(entrants)}


def prove(pair: str) -> float:
    """Seconds from the start of ``python -m parity prove`` to its end.

    Raises:
      ArmError: the verdict is not PASS.
    """
    started, line = time.perf_counter(), ""
    try:
        with timed(["-m", "parity", "prove", pair]) as lines:
            for _, line in lines:  # noqa: B007 - the last line has the verdict
                pass
    except ArmError as error:
        raise ArmError(" ".join(line.split()) or str(error)) from error
    return time.perf_counter() - started


def tables(result: Mapping[str, Any]) -> str:
    """A row a pair."""
    head = ("python -m parity prove", "s", "IQR", "n", "")
    return markdown.table(head, [_row(pair, entrant) for pair, entrant in _entrants(result).items()])


def claims(result: Mapping[str, Any]) -> list[Claim]:
    """None: nothing is compared."""
    del result
    return []


def measures(result: Mapping[str, Any]) -> dict[str, Measure]:
    """Seconds of each proof."""
    found = {pair: entrant.samples.get("seconds") for pair, entrant in _entrants(result).items()}
    return {f"proof of {pair}": Measure(samples, "s", False) for pair, samples in found.items() if samples}


def _title(pair: str) -> str:
    """A file of one's own without its folder."""
    return pair.rsplit("/", 1)[-1]


def _entrants(result: Mapping[str, Any]) -> dict[str, Entrant]:
    return {pair: Entrant(**found) for pair, found in result["pairs"].items()}


def _row(pair: str, entrant: Entrant) -> tuple[str, ...]:
    if entrant.failed:
        return pair, "", "", "", f"no proof: {entrant.failed}"
    found, goal = stats.summary(entrant.samples["seconds"]), GOALS.get(pair)
    remarks = ["noisy"] if entrant.noisy else []
    if goal and not entrant.noisy:
        remarks.append(f"<= {goal:g}: {'reached' if found.median <= goal else 'missed'}")
    return pair, f"{found.median:.1f}", f"{found.iqr:.1f}", str(found.n), "; ".join(remarks)
