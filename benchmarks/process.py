"""Processes of a benchmark: workers that speak JSON a line at a time, and commands whose output is timed."""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxdl.engine.memory import keep_freed_memory

ROOT = Path(__file__).parents[1]
GRACE = 10.0  # seconds a process has to end by itself
QUICK = 1000  # training images of a trial
# Several processes share a GPU, so none takes most of its memory at the start.
SHARED = {"XLA_PYTHON_CLIENT_MEM_FRACTION": ".2"}
# On a GPU the default is TF32, said aloud as the torch arms say it; a CPU has no such thing.
TF32 = {"JAX_DEFAULT_MATMUL_PRECISION": "default"}


class ArmError(RuntimeError):
    """A process of an arm failed; the message is the last line of what it said."""


class Worker:
    """The parent's side of an arm: a process of its own, which lives until `close`.

    Args:
      module: run as ``python -m module workload folder``.
      workload, folder: which work, and where `prepare` put its data.

    Raises:
      ArmError: by `ask`, when the process has ended.
    """

    def __init__(self, module: str, workload: str, folder: Path) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, workload, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=ROOT,
            env=environment(),
        )

    def ask(self, method: str, *arguments: Any) -> Any:
        """The result of a method of the arm."""
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps([method, *arguments]) + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            self._process.wait()
            raise ArmError(_last_line(self._errors))
        return json.loads(answer)

    def close(self) -> None:
        """Lets the process end, or ends it."""
        try:
            with contextlib.suppress(BrokenPipeError):
                self._process.communicate(timeout=GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._errors.close()


def serve(make: Callable[[str, Path], Any]) -> None:
    """The arm's side: makes it of the command line's workload and folder, and answers until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    keep_freed_memory()  # as jaxdl's commands do: PyTorch gains by it as well
    arm = make(sys.argv[1], Path(sys.argv[2]))
    for line in sys.stdin:
        method, *arguments = json.loads(line)
        print(json.dumps(getattr(arm, method)(*arguments)), file=answers, flush=True)


@contextlib.contextmanager
def timed(argv: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[Iterator[tuple[float, str]]]:
    """Starts ``python argv`` and gives its lines with the seconds since the start.

    Leaving early ends the process.

    Raises:
      ArmError: by the iterator, at the end of a command that failed.
    """
    started = time.perf_counter()
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [sys.executable, *argv],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env=environment() | dict(env or {}),
        ) as process,
    ):

        def lines() -> Iterator[tuple[float, str]]:
            for line in process.stdout or ():
                yield time.perf_counter() - started, line.rstrip("\n")
            if process.wait():
                raise ArmError(_last_line(errors))

        try:
            yield lines()
        finally:
            process.kill()


def output(argv: Sequence[str], env: Mapping[str, str] | None = None) -> tuple[float, list[str]]:
    """Seconds from the start to the end of ``python argv``, and its lines.

    Raises:
      ArmError: it failed.
    """
    started = time.perf_counter()
    with timed(argv, env) as lines:
        found = [line for _, line in lines]
    return time.perf_counter() - started, found


def prepare(
    options: argparse.Namespace, workload: str, folder: Path, *, need_mnist: bool = False
) -> dict[str, Any]:
    """Runs `benchmarks.prepare`, which fills the folder, and returns what it says of data and device.

    Args:
      options: ``data_dir`` and ``quick`` count; a trial takes the first images only.
      workload: its name.
      folder: an empty one.
      need_mnist: something of its shape will not do.

    Raises:
      ArmError: there are no data.
    """
    argv = ["-m", "benchmarks.prepare", workload, str(folder)]
    argv += [f"--data-dir={options.data_dir}"] if options.data_dir else []
    argv += [f"--examples={QUICK}"] if options.quick and not need_mnist else []
    argv += ["--need-mnist"] if need_mnist else []
    return json.loads(output(argv)[1][-1])


def environment() -> dict[str, str]:
    """That of every process; what the user has set comes first."""
    return SHARED | (TF32 if Path("/dev/nvidiactl").exists() else {}) | dict(os.environ)


def threads() -> int:
    """The cores of this process: what XLA takes, and what torch is told to take."""
    return len(os.sched_getaffinity(0))


def _last_line(errors: Any) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it ended without a word"
