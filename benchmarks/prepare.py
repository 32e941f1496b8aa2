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
import safetensors.numpy

from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.workload import DATA, EPOCHS, ORDERS, PROBE, WEIGHTS, Workload
from jaxdl import build, files
from jaxdl.config import TrainConfig
from jaxdl.data import idx, mnist, npz, sources, tfds
from jaxdl.engine import weights
from jaxdl.train import PROG, read_options

CLASSES = 10
AWAKE = 0.02  # standard deviation of the parameters of `PROBE` that training starts with at zero


def main() -> None:
    """Prints what was prepared, as a line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prepare")
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--examples", type=int, help="training images to keep, at most")
    parser.add_argument("--need-mnist", action="store_true")
    given = parser.parse_args()
    workload = WORKLOADS[given.workload]
    try:
        arrays, name = load(workload, given.data_dir, given.need_mnist)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
    share = min(1, given.examples / len(arrays["y_train"])) if given.examples else 1
    write(workload, {key: array[: round(len(array) * share)] for key, array in arrays.items()}, given.folder)
    device = jax.devices()[0]
    print(json.dumps({"data": name, "platform": device.platform, "device": device.device_kind}))


def load(workload: Workload, data_dir: Path | None, need_mnist: bool = False) -> tuple[dict[str, np.ndarray], str]:
    """The data, or something of their shape where they are not at hand and that will do; and what it is.

    Raises:
      FileNotFoundError, ValueError: as `jaxdl.data.sources.load`.
    """
    at_hand = data_dir is not None or (files.cache() / "mnist.npz").exists()
    if workload.data == "mnist" and (need_mnist or at_hand):
        source = sources.load("mnist", data_dir)
        parts = [split[key] for split in (source.train, source.test) for key in ("image", "label")]
        return dict(zip(mnist.KEYS, parts, strict=True)), "MNIST"
    names = {"mnist": "MNIST", "cifar": "CIFAR"}
    return synthetic(workload), f"synthetic images of {names[workload.data]}'s shape"


def synthetic(workload: Workload) -> dict[str, np.ndarray]:
    """Noisy copies of ten random images: learnable, so that the losses of the arms can be compared."""
    rng, shape = np.random.default_rng(0), workload.image_shape
    patterns = rng.integers(0, 160, (CLASSES, *shape), np.uint8)
    counts = workload.counts(jax.devices()[0].platform)
    labels = [np.arange(count, dtype=np.int32) % CLASSES for count in counts]
    images = [patterns[label] + rng.integers(0, 96, (len(label), *shape), np.uint8) for label in labels]
    parts = [part for pair in zip(images, labels, strict=True) for part in pair]
    return dict(zip(mnist.KEYS, parts, strict=True))


def write(workload: Workload, arrays: dict[str, np.ndarray], folder: Path) -> None:
    """Images as npz (and MNIST's as gzipped idx files), the order of the first epochs, the weights."""
    npz.write(folder / DATA, arrays)
    if workload.data == "mnist":
        for name, array in zip(tfds.FILES, arrays.values(), strict=True):
            plain = array.squeeze(-1) if array.ndim == 4 else array.astype(np.uint8)
            (folder / name).write_bytes(gzip.compress(idx.encode(plain), 6))
    config = read_options(workload.options(folder), TrainConfig(), PROG)
    job = build.job(config, sources.load("npz", folder / DATA))
    np.save(folder / ORDERS, np.stack([job.loader.order(epoch) for epoch in range(EPOCHS)]))
    start = jax.device_get(job.state)
    weights.save(folder / WEIGHTS, job.model, start.params, start.stats)
    awake = awakened(safetensors.numpy.load_file(folder / WEIGHTS))
    safetensors.numpy.save_file(awake, folder / PROBE, {"format": "pt"})


def awakened(start: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights with small random numbers where there were zeros only.

    A last layer of zeros, as the ViT's, makes all outputs alike and all gradients behind it zero: a pass over
    the data would show nothing of the arm that made it.
    """
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(0, AWAKE, array.shape).astype(array.dtype) if array.shape and not array.any() else array
        for name, array in start.items()
    }


if __name__ == "__main__":
    main()
