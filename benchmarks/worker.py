"""One process an arm: what runs inside it (`serve`), and the handle the harness holds (`Worker`).

The harness sends a line for each window it wants; the arm answers each with one line of JSON. Before the first it
reports once that it is ready, which comes after imports, compilation and warm-up.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.workloads import Task

ROOT = Path(__file__).parents[1]
LIMIT = 300  # seconds until an arm that does not answer is killed

# What a window reports: "steps" and "seconds" of it, and "loss", the mean over the last `TAIL` of its steps.
Window = dict[str, Any]
Build = Callable[[Task], tuple[Callable[[], Window], dict[str, Any]]]


class ArmError(RuntimeError):
    """An arm that cannot run; the message is the last line it left."""


def serve(build: Build) -> None:
    """The main program of an arm.

    Args:
      build: ``task -> (window, info)``: makes everything ready. Each call of ``window`` starts from the initial
        weights, takes the same steps, and times them; ``info`` is what a reader has to know of versions, threads
        and devices.
    """
    # The arm may print what it likes: the line to the harness is kept apart.
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    window, info = build(Task.from_json(sys.argv[1]))
    print(json.dumps(info), file=channel)
    for _ in sys.stdin:
        print(json.dumps(window()), file=channel)


class Worker:
    """An arm, running.

    Args:
      module: what ``python -m`` starts.
      task: what it is to do.
      environment: variables to set beside those of this process.

    Raises:
      ArmError: it ended before it was ready.
    """

    def __init__(self, module: str, task: Task, environment: Mapping[str, str]) -> None:
        self._log = (task.folder / f"{module}.log").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, task.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
            env={**os.environ, **environment},
        )
        try:
            self.info = self._answer()
        except ArmError:
            self.close()
            raise

    def window(self) -> Window:
        """Runs a window.

        Raises:
          ArmError: the arm ended, or took too long.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("window\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; what it left is read below
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        watch = threading.Timer(LIMIT, self._process.kill)
        watch.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watch.cancel()
        if not line:
            raise ArmError(self._last_words())
        return json.loads(line)

    def _last_words(self) -> str:
        status = self._process.wait()
        self._log.seek(0)
        lines = self._log.read().strip().splitlines()
        return lines[-1] if lines else f"ended with status {status}"
