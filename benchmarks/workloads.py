"""What the arms race on: model, optimizer, data, and what jaxdl should reach."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

DATA, ORDERS, WEIGHTS = "data.npz", "orders.npy", "weights.safetensors"
EPOCHS = 8  # orders that are prepared; a longer race goes round
SEED = 0
LOG_EVERY = 100  # the default of jaxdl.train


@dataclasses.dataclass(frozen=True)
class Goal:
    """``arm`` should run at ``cpu`` or ``gpu`` times the speed of ``other``, or more; None: stated only."""

    arm: str
    other: str
    cpu: float | None = None
    gpu: float | None = None

    def at_least(self, platform: str) -> float | None:
        """The factor on a platform, as JAX names it."""
        return self.cpu if platform == "cpu" else self.gpu


@dataclasses.dataclass(frozen=True)
class Workload:
    """A training job that every arm does with the same initial weights, batches and order.

    Attributes:
      title: for the table.
      model: a name of `jaxdl.models.MODELS` and of the torch arms' `NETS`.
      batch_size, lr, momentum: of SGD.
      tolerance: relative difference between the arms' losses at the end of the first epoch. Rounding alone
        grows to less than this; a missing momentum or a lost batch to more.
      rounds: windows of each arm.
      goals: what is compared.
    """

    title: str
    model: str
    batch_size: int
    lr: float
    momentum: float
    tolerance: float
    rounds: int
    goals: tuple[Goal, ...]

    def options(self, folder: Path) -> list[str]:
        """The command line of ``jaxdl.train`` for it, with the data that `benchmarks.prepare` put in a folder."""
        options = {
            "dataset": "npz",
            "data-dir": folder / DATA,
            "model": self.model,
            "batch-size": self.batch_size,
            "optimizer": "sgd",
            "lr": self.lr,
            "momentum": self.momentum,
            "seed": SEED,
        }
        return [f"--{name}={value}" for name, value in options.items()]


WORKLOADS: Mapping[str, Workload] = {
    "net": Workload(
        title="Net 784-128-10, batch 64, SGD",
        model="net",
        batch_size=64,
        lr=0.01,
        momentum=0.0,
        tolerance=1e-3,
        rounds=4,
        goals=(
            Goal("scan", "torch-eager", cpu=2.5, gpu=30),
            Goal("scan", "torch-dataloader", cpu=4.0, gpu=60),
            Goal("jaxdl", "torch-eager"),
            Goal("jaxdl", "torch-dataloader"),
            Goal("jaxdl", "scan", cpu=0.9, gpu=0.9),
        ),
    ),
    "cnn": Workload(
        title="CNN, batch 128, SGD with momentum",
        model="cnn",
        batch_size=128,
        lr=0.05,
        momentum=0.9,
        tolerance=2e-2,
        rounds=5,
        goals=(
            Goal("scan", "torch-eager"),
            Goal("jaxdl", "torch-eager", cpu=1.0, gpu=1.15),
            Goal("jaxdl", "torch-dataloader"),
            Goal("jaxdl", "scan", cpu=0.9, gpu=0.9),
        ),
    ),
}


def tail(steps_per_epoch: int) -> int:
    """How many steps the last record of an epoch covers: those since the one before, every `LOG_EVERY` steps."""
    return (steps_per_epoch - 1) % LOG_EVERY + 1
