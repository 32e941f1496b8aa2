"""The C runner: written, compiled with the system's compiler, and run."""

import re
import subprocess
import tempfile
from pathlib import Path
from shutil import which

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
    return which("cc") or which("gcc") or which("clang")


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
    folder = tempfile.TemporaryDirectory(prefix="jaxdl-")
    program, raw = Path(folder.name) / "model", Path(folder.name) / "images.raw"
    build(path, program)

    def output(images: np.ndarray, *options: str) -> str:
        raw.write_bytes(np.ascontiguousarray(images).tobytes())
        done = subprocess.run([program, "--logits", *options, raw], capture_output=True, text=True, check=True)
        return done.stdout

    def run(images: np.ndarray) -> np.ndarray:
        return np.array(output(images).split(), np.float32).reshape(len(images), -1)

    def latency(image: np.ndarray) -> float:
        # The first image warms up.
        found = re.findall(r"([\d.]+) microseconds", output(np.stack([image, image]), "--repeat", str(REPEATS)))
        return float(found[-1]) / 1e6

    return Loaded(run, latency, program.stat().st_size, folder)
