"""The C runner: written, compiled with the system's compiler, and run."""

import re
import shutil
import subprocess
import tempfile
import weakref
from pathlib import Path

import numpy as np

from jaxdl.methods.export.c_source import source
from jaxdl.methods.export.evaluate import ranges
from jaxdl.methods.export.graph import LINEAR, Graph
from jaxdl.methods.export.program import Loaded

FLAGS = ("-std=c11", "-O3", "-march=native", "-s")
REPEATS = 200  # calls for a latency, after as many that warm up


def save(graph: Graph, classes: tuple[str, ...], path: Path) -> None:
    """Writes the float32 runner of a graph for one image.

    Raises:
      UnsupportedError: an operation that is not in the table.
    """
    path.write_text(source(graph, {}, classes, "model.c"))


def save_int8(graph: Graph, classes: tuple[str, ...], path: Path, images: np.ndarray) -> None:
    """Writes the runner whose layers multiply int8 numbers; ``images`` give the ranges of their inputs."""
    nodes = [node for node in graph.nodes if node.op in LINEAR and node.params.get("groups", 1) == 1]
    path.write_text(source(graph, ranges(graph, images, nodes), classes, "model-int8.c"))


def compiler() -> str | None:
    """The system's C compiler, where there is one."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


def build(path: Path, program: Path) -> None:
    """Compiles a runner.

    Raises:
      ValueError: the compiler does not take it, with its first complaint.
    """
    command = [compiler() or "cc", *FLAGS, "-o", str(program), str(path), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{' '.join(command)} failed: {(done.stderr.strip().splitlines() or ['no message'])[0]}")


def load(path: Path) -> Loaded:
    """The runner, compiled; its latency is what it measures itself."""
    runner = _Runner(path)
    return Loaded(runner.run, runner.latency, runner.program.stat().st_size)


class _Runner:
    """A compiled program in a folder that goes when nobody holds it any more."""

    def __init__(self, path: Path) -> None:
        folder = Path(tempfile.mkdtemp(prefix="jaxdl-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.program, self._raw = folder / "model", folder / "images.raw"
        build(path, self.program)

    def run(self, images: np.ndarray) -> np.ndarray:
        return np.array(self._output(images).split(), np.float32).reshape(len(images), -1)

    def latency(self, image: np.ndarray) -> float:
        # The first image warms up.
        text = self._output(np.stack([image, image]), "--repeat", str(REPEATS))
        return float(re.findall(r"([\d.]+) microseconds", text)[-1]) / 1e6

    def _output(self, images: np.ndarray, *options: str) -> str:
        self._raw.write_bytes(np.ascontiguousarray(images).tobytes())
        command = [self.program, "--logits", *options, self._raw]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
