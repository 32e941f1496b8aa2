"""Writes what the arms of a workload share: the data, the initial weights, the order of the rows.

A process of its own (``python -m benchmarks.prepare TASK [DATA_DIR]``), so that the harness never loads a framework.
"""

import sys
from pathlib import Path

import numpy as np

from benchmarks.workloads import Task
from jaxdl.data import mnist, npz, sources

SYNTHETIC = "synthetic images: MNIST is not here"


def data(data_dir: Path | None, *, synthetic: bool) -> tuple[dict[str, np.ndarray], str]:
    """MNIST, and where it came from.

    Args:
      data_dir: as ``jaxdl.train --data-dir``; None: the cache or the network.
      synthetic: where MNIST is not at hand, take noise of its shape. That changes no speed, but every accuracy.

    Raises:
      FileNotFoundError, ValueError: as `jaxdl.data.sources.load`.
    """
    try:
        source = sources.load("mnist", data_dir)
    except FileNotFoundError:
        if data_dir is not None or not synthetic:
            raise
        return _noise(), SYNTHETIC
    splits = (source.train, source.test)
    arrays = [np.asarray(split[name]) for split in splits for name in ("image", "label")]
    return dict(zip(mnist.KEYS, arrays, strict=True)), source.origin


def cut(arrays: dict[str, np.ndarray], examples: int) -> dict[str, np.ndarray]:
    """The first training images, and test images in the old proportion.

    Raises:
      ValueError: there are fewer.
    """
    have, tests = len(arrays["y_train"]), len(arrays["y_test"])
    if examples > have:
        raise ValueError(f"the workload takes {examples} training images; there are {have}")
    keep = {"train": examples, "test": max(tests * examples // have, 1)}
    return {name: rows[: keep[name.split("_")[1]]] for name, rows in arrays.items()}


def write(task: Task, arrays: dict[str, np.ndarray]) -> None:
    """Fills the folder of a task."""
    from jaxdl import build, train
    from jaxdl.engine import weights

    npz.write(task.data, cut(arrays, task.workload.examples))
    job = build.job(train.read_options(task.options()), sources.load("npz", task.data))
    weights.save(task.weights, job.model, job.state.params, job.state.stats)
    np.save(task.orders, np.stack([job.loader.order(epoch) for epoch in range(task.workload.epochs)]))


def _noise() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = {"train": 60_000, "test": 10_000}
    images = {f"x_{name}": rng.integers(0, 256, (n, 28, 28), np.uint8) for name, n in sizes.items()}
    # Every class occurs, so that the model has the ten outputs of MNIST's.
    labels = {f"y_{name}": rng.permutation(np.arange(n) % 10).astype(np.int32) for name, n in sizes.items()}
    return images | labels


def main(argv: list[str]) -> int:
    """Prints where the data came from."""
    task, folder = Task.from_json(argv[0]), Path(argv[1]) if argv[1:] else None
    try:
        arrays, origin = data(folder, synthetic=True)
        write(task, arrays)
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    print(origin)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
