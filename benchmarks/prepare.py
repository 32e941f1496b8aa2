"""Puts a workload's data, initial weights and order of batches where every arm finds them.

A process of its own (``python -m benchmarks.prepare``), so that the one that measures holds no device.
"""

import argparse
import gzip
import json
import sys
from pathlib import Path

import jax
import numpy as np

from benchmarks.workloads import DATA, EPOCHS, ORDERS, WEIGHTS, WORKLOADS, Workload
from jaxdl import build, files
from jaxdl.data import idx, mnist, npz, sources, tfds
from jaxdl.engine import weights
from jaxdl.train import read_options

SYNTHETIC = 60_000, 10_000


def main() -> None:
    """Prints what was prepared, as a line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prepare")
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--examples", type=int, help="training images to keep")
    parser.add_argument("--need-mnist", action="store_true")
    given = parser.parse_args()
    try:
        arrays, name = load(given.data_dir, given.need_mnist)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
    workload = WORKLOADS[given.workload]
    share = given.examples / len(arrays["y_train"]) if given.examples else 1
    write(workload, {key: array[: round(len(array) * share)] for key, array in arrays.items()}, given.folder)
    device = jax.devices()[0]
    print(json.dumps({"data": name, "platform": device.platform, "device": device.device_kind}))


def load(data_dir: Path | None, need_mnist: bool) -> tuple[dict[str, np.ndarray], str]:
    """MNIST, or something of its shape where it is not at hand and will do; and what it is.

    Raises:
      FileNotFoundError, ValueError: as `jaxdl.data.sources.load`.
    """
    if data_dir is None and not need_mnist and not (files.cache() / "mnist.npz").exists():
        return synthetic(*SYNTHETIC), "synthetic images of MNIST's shape"
    source = sources.load("mnist", data_dir)
    parts = [split[key] for split in (source.train, source.test) for key in ("image", "label")]
    return dict(zip(mnist.KEYS, parts, strict=True)), "MNIST"


def synthetic(train: int, test: int) -> dict[str, np.ndarray]:
    """Noisy copies of ten random images: learnable, so that the losses of the arms can be compared."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 160, (10, 28, 28, 1), np.uint8)
    labels = [np.arange(count, dtype=np.int32) % 10 for count in (train, test)]
    images = [patterns[label] + rng.integers(0, 96, (len(label), 28, 28, 1), np.uint8) for label in labels]
    parts = [part for pair in zip(images, labels, strict=True) for part in pair]
    return dict(zip(mnist.KEYS, parts, strict=True))


def write(workload: Workload, arrays: dict[str, np.ndarray], folder: Path) -> None:
    """Images as npz and as gzipped idx files, the order of the first epochs, the initial weights."""
    npz.write(folder / DATA, arrays)
    for name, array in zip(tfds.FILES, arrays.values(), strict=True):
        plain = array.squeeze(-1) if array.ndim == 4 else array.astype(np.uint8)
        (folder / name).write_bytes(gzip.compress(idx.encode(plain), 6))
    config = read_options(workload.options(folder))
    job = build.job(config, sources.load("npz", folder / DATA))
    np.save(folder / ORDERS, np.stack([job.loader.order(epoch) for epoch in range(EPOCHS)]))
    start = jax.device_get(job.state)
    weights.save(folder / WEIGHTS, job.model, start.params, start.stats)


if __name__ == "__main__":
    main()
