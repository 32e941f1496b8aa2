"""What every member of a sweep over seeds starts with: its own weights and its own order of batches."""

from pathlib import Path

import numpy as np
import safetensors.numpy

from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.workload import DATA

ROWS = "rows.npy"  # (members, steps, batch) row numbers, int32
TAIL = 64  # the last steps, over which a member's loss is averaged
LAYERS = {"fc1": (128, 784), "fc2": (10, 128)}  # of Net, in torch's shapes


def write(folder: Path, members: int, steps: int) -> None:
    """Puts both beside what `benchmarks.prepare` wrote: weights drawn as torch draws them, under its names.

    Args:
      folder: of the workload ``net``.
      members: how many; member i has the order of batches of ``jaxdl.train --seed i``.
      steps: of each.

    Raises:
      ValueError: more steps than an epoch has full batches.
    """
    batch, examples = WORKLOADS["net"].batch_size, len(np.load(folder / DATA)["y_train"])
    if steps * batch > examples:
        raise ValueError(f"expected at most {examples // batch} steps, the full batches of an epoch; got {steps}")
    rows = np.empty((members, steps, batch), np.int32)
    for seed in range(members):
        rng = np.random.default_rng(seed)
        safetensors.numpy.save_file(_weights(rng), folder / f"member-{seed:03}.safetensors", {"format": "pt"})
        rows[seed] = np.random.default_rng([seed, 0]).permutation(examples)[: steps * batch].reshape(steps, batch)
    np.save(folder / ROWS, rows)


def starts(folder: Path) -> list[Path]:
    """The files of the initial weights, in the order of the members."""
    return sorted(folder.glob("member-*.safetensors"))


def _weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """U(-1/sqrt(fan in), 1/sqrt(fan in)) for weight and bias, as `jaxdl.nn.init.torch_uniform`."""
    found = {}
    for name, (features, fan_in) in LAYERS.items():
        for part, shape in {"weight": (features, fan_in), "bias": (features,)}.items():
            found[f"{name}.{part}"] = (rng.uniform(-1, 1, shape) / np.sqrt(fan_in)).astype(np.float32)
    return found
