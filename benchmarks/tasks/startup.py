"""``python -m benchmarks startup``: seconds from the start of the process to its first finished step."""

import argparse
import contextlib
import functools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import markdown, stats
from benchmarks.claims import Claim, Measure, compared
from benchmarks.process import ArmError, prepare, timed
from benchmarks.turns import take_turns
from benchmarks.workloads.workload import DATA

SUMMARY = "seconds to the first finished step"
FIRST = re.compile(r"Epoch \[1/\d+\], Step \[1/\d+\]")
ROUNDS = 7
# The line of a step comes when the next one has been started: two steps, each a program's run, show the first.
TRAIN = ["-m", "jaxdl.train", "--steps=2", "--chunk-steps=1", "--log-every=1"]
SCRIPT = ["-m", "benchmarks.arms.torch_first_step"]
GOALS = (
    ("jaxdl, warm cache", "torch", 1.5),
    ("jaxdl, warm cache", "torch.compile, warm cache", 0.7),
    ("jaxdl, cold cache", "torch", None),
    ("jaxdl, cold cache", "torch.compile, cold cache", 0.7),
)


class Start(NamedTuple):
    """A command, the variable that names the folder of its compiled programs, whether that is emptied before."""

    argv: Sequence[str]
    variable: str = ""
    cold: bool = False


def arguments(parser: argparse.ArgumentParser) -> None:
    """How often."""
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="processes of each")


def run(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Processes take turns; yields after each round."""
    if options.rounds < 1:
        raise ValueError(f"--rounds: expected 1 or more, got {options.rounds}")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as cache:
        facts = prepare(options, "net", Path(folder))
        contenders = {
            name: functools.partial(started, start, Path(cache))
            for name, start in starts(Path(folder), options.data_dir).items()
        }
        for contender in contenders.values():  # once before, so that all files have been read and compiled
            with contextlib.suppress(ArmError):
                contender()
        for entrants in take_turns(contenders, 1 if options.quick else options.rounds):
            seconds = {name: entrant.samples.get("seconds", []) for name, entrant in entrants.items()}
            skipped = {name: entrant.failed for name, entrant in entrants.items() if entrant.failed}
            yield {"task": "startup", **facts, "seconds": seconds, "skipped": skipped}


def starts(folder: Path, data_dir: Path | None) -> dict[str, Start]:
    """The contenders, warm before cold, so that what is cold in one round warms the next.

    Args:
      folder: what `benchmarks.prepare` wrote.
      data_dir: the original files, which both then read; otherwise torch reads the same images as idx files, and
        jaxdl as npz.
    """
    dataset, place = ("mnist", data_dir) if data_dir else ("npz", folder / DATA)
    files = data_dir if data_dir and any(data_dir.glob("*.gz")) else folder
    jaxdl = Start([*TRAIN, f"--dataset={dataset}", f"--data-dir={os.fspath(place)}"], "XDG_CACHE_HOME")
    torch = Start([*SCRIPT, str(files)])
    compiled = Start([*SCRIPT, str(files), "--compile"], "TORCHINDUCTOR_CACHE_DIR")
    return {
        "jaxdl, warm cache": jaxdl,
        "torch": torch,
        "torch.compile, warm cache": compiled,
        "jaxdl, cold cache": jaxdl._replace(cold=True),
        "torch.compile, cold cache": compiled._replace(cold=True),
    }


def started(start: Start, cache: Path) -> dict[str, float]:
    """Seconds to the first step of a contender, whose compiled programs lie below ``cache``."""
    own = cache / start.variable
    if start.cold and own.exists():
        shutil.rmtree(own)
    own.mkdir(exist_ok=True)
    return {"seconds": first_step(start.argv, {start.variable: str(own)} if start.variable else None)}


def first_step(argv: Sequence[str], env: Mapping[str, str] | None = None) -> float:
    """Seconds from the start of ``python argv`` to the line of its first step; it is ended there.

    Raises:
      ArmError: there is no such line.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as out:
        place = [f"--out={out}"] if "jaxdl.train" in argv else []
        with timed([*argv, *place], env) as lines:
            for second, line in lines:
                if FIRST.match(line):
                    return second
    raise ArmError(f"{argv[1]} ended without a step")


def claims(result: Mapping[str, Any]) -> list[Claim]:
    """The goals, as far as both sides ran."""
    found = measures(result)
    return [
        compared(f"Start-up to the first step: {left} / {right}", found[left], found[right], goal)
        for left, right, goal in GOALS
        if {left, right} <= found.keys()
    ]


def measures(result: Mapping[str, Any]) -> dict[str, Measure]:
    """The seconds of each contender."""
    return {name: Measure(samples, "s", False) for name, samples in result["seconds"].items() if samples}


def tables(result: Mapping[str, Any]) -> str:
    """Seconds of each contender."""
    rows = []
    for name, measure in measures(result).items():
        found = stats.summary(measure.samples)
        remark = "noisy" if found.noisy else ""
        rows.append((name, f"{found.median:.2f}", f"{found.iqr:.2f}", str(found.n), remark))
    rows += [(name, "", "", "", f"skipped: {why}") for name, why in result.get("skipped", {}).items()]
    return markdown.table(("to the first finished step", "s", "IQR", "n", ""), rows)
