"""``python -m benchmarks startup``: seconds from the start of the process to its first finished step."""

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.process import ArmError, timed
from benchmarks.workloads import DATA

FIRST = re.compile(r"Epoch \[1/\d+\], Step \[1/\d+\]")
ROUNDS = 7
GOAL = 1.5  # times what the torch script takes
# The line of a step comes when the next one has been started: two steps, each a program's run, show the first.
TRAIN = ["-m", "jaxdl.train", "--steps=2", "--chunk-steps=1", "--log-every=1"]


def run(folder: Path, data_dir: Path | None, *, rounds: int) -> dict[str, Any]:
    """Processes take turns: jaxdl with its programs compiled before, torch, jaxdl compiling anew.

    Args:
      folder: what `benchmarks.prepare` wrote.
      data_dir: the original files, which both then read; otherwise torch reads the same images as idx files, and
        jaxdl as npz.
      rounds: processes of each.
    """
    seconds: dict[str, list[float]] = {"jaxdl, warm cache": [], "torch": [], "jaxdl, cold cache": []}
    files = data_dir if data_dir and any(data_dir.glob("*.gz")) else folder
    torch = ["-m", "benchmarks.arms.torch_first_step", str(files)]
    with tempfile.TemporaryDirectory() as cache:
        jaxdl = {"XDG_CACHE_HOME": cache}
        first_step(_train(folder, data_dir), jaxdl)
        first_step(torch)  # both once before, so that all files have been read from the disk
        for _ in range(rounds):
            seconds["jaxdl, warm cache"].append(first_step(_train(folder, data_dir), jaxdl))
            seconds["torch"].append(first_step(torch))
            shutil.rmtree(Path(cache) / "jaxdl" / "programs")
            seconds["jaxdl, cold cache"].append(first_step(_train(folder, data_dir), jaxdl))
    return {"kind": "startup", "seconds": seconds, "goal": GOAL}


def first_step(argv: Sequence[str], env: dict[str, str] | None = None) -> float:
    """Seconds from the start of ``python argv`` to the line of its first step; it is ended there.

    Raises:
      ArmError: there is no such line.
    """
    with tempfile.TemporaryDirectory() as out:
        place = [f"--out={out}"] if "jaxdl.train" in argv else []
        with timed([*argv, *place], env) as lines:
            for second, line in lines:
                if FIRST.match(line):
                    return second
    raise ArmError(f"{argv[1]} ended without a step")


def _train(folder: Path, data_dir: Path | None) -> list[str]:
    dataset, place = ("mnist", data_dir) if data_dir else ("npz", folder / DATA)
    return [*TRAIN, f"--dataset={dataset}", f"--data-dir={os.fspath(place)}"]
