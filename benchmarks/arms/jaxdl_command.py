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
WINDOW = 26.0  # seconds or more: checkpoints and histograms come every 10, and the first histogram is compiled


class Command:
    """Each window is a run of its own, timed by the lines it prints."""

    def __init__(self, workload: str, folder: Path) -> None:
        self.options = WORKLOADS[workload].options(folder)

    def facts(self) -> dict[str, Any]:
        return {"window": WINDOW}

    def warm(self) -> tuple[float, float]:
        with tempfile.TemporaryDirectory() as folder:
            window = self._run(2, Path(folder) / "run")
            lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        return next(record["loss"] for record in records if record["epoch"] == 1), window["seconds"]

    def run(self, epochs: int) -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            return self._run(epochs + 1, Path(folder) / "run")

    def _run(self, epochs: int, out: Path) -> dict[str, float]:
        argv = ["-m", "jaxdl.train", *self.options, f"--epochs={epochs}", f"--out={out}"]
        with timed(argv) as lines:
            return window(list(lines))


def window(lines: list[tuple[float, str]]) -> dict[str, float]:
    """From the first epoch's evaluation to the last's: what is compiled has been by then.

    Args:
      lines: of a run of two epochs or more, with the second at which each appeared.

    Returns:
      ``steps``, ``seconds``, and ``evaluation``: the part of the seconds between the last step of an epoch and
      the result of its evaluation.
    """
    ends = [second for second, line in lines if EVALUATION.match(line)]
    per_epoch = next(int(match[2]) for _, line in lines if (match := STEP.match(line)))
    waits = [after - before for (before, _), (after, line) in itertools.pairwise(lines) if EVALUATION.match(line)]
    return {
        "steps": per_epoch * (len(ends) - 1),
        "seconds": ends[-1] - ends[0],
        "evaluation": sum(waits[1:]),
    }


if __name__ == "__main__":
    serve(Command)
