"""``python -m jaxdl.train`` as a user runs it: records, progress, TensorBoard, checkpoints, evaluation."""

import itertools
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.process import serve, timed
from benchmarks.workloads import WORKLOADS

EVALUATION = re.compile(r"Epoch \[(\d+)/\d+\], Test ")
STEP = re.compile(r"Epoch \[\d+/\d+\], Step \[(\d+)/(\d+)\]")
WINDOW = 13.0  # seconds or more: checkpoints and histograms come every 10


class Command:
    """The phase ``epoch``; each window is a run of its own, timed by the lines it prints."""

    phases = ("epoch",)

    def __init__(self, workload: str, folder: Path) -> None:
        self.options = WORKLOADS[workload].options(folder)

    def offers(self) -> tuple[str, ...]:
        return self.phases

    def facts(self) -> dict[str, Any]:
        return {"window": WINDOW}

    def warm(self, _: str) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            window = self._run(2, Path(folder) / "run")
            lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
        records = [
            record for record in map(json.loads, lines) if record["kind"] == "train" and record["epoch"] <= 1
        ]
        checks = [records[0]["loss"], records[-1]["loss"]]
        return {"checks": checks, "first": window["first"], "seconds": window["seconds"]}

    def run(self, _: str, passes: int) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            return self._run(passes + 1, Path(folder) / "run")

    def _run(self, epochs: int, out: Path) -> dict[str, float]:
        argv = ["-m", "jaxdl.train", *self.options, f"--epochs={epochs}", f"--out={out}"]
        with timed(argv) as lines:
            return window(list(lines))


def window(lines: list[tuple[float, str]]) -> dict[str, float]:
    """From the first epoch's evaluation to the last's: what is compiled has been by then.

    Args:
      lines: of a run of two epochs or more, with the second at which each appeared.

    Returns:
      ``steps``, ``seconds``; ``evaluation``, the part of the seconds between the last step of an epoch and the
      result of its evaluation; ``first``, the seconds from the start to where the window begins.
    """
    ends = [second for second, line in lines if EVALUATION.match(line)]
    per_epoch = next(int(match[2]) for _, line in lines if (match := STEP.match(line)))
    waits = [after - before for (before, _), (after, line) in itertools.pairwise(lines) if EVALUATION.match(line)]
    return {
        "steps": per_epoch * (len(ends) - 1),
        "seconds": ends[-1] - ends[0],
        "evaluation": sum(waits[1:]),
        "first": ends[0],
    }


if __name__ == "__main__":
    serve(Command)
