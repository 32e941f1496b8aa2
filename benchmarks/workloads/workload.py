"""A training job that every arm does, from the same weights, with the same batches in the same order."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from benchmarks.claims import Goal

DATA, ORDERS = "data.npz", "orders.npy"
# Where training starts; and where phases start that do not train: no parameter of it is nought.
WEIGHTS, PROBE = "weights.safetensors", "probe.safetensors"
EPOCHS = 8  # orders that are prepared; a longer race goes round
SEED = 0
LOG_EVERY = 100  # the default of jaxdl.train
EVAL_BATCH = 500  # that of jaxdl.data.loader
PHASES = ("forward", "backward", "step", "epoch", "evaluation")


@dataclasses.dataclass(frozen=True)
class Workload:
    """What is trained on what, and what jaxdl should reach.

    Attributes:
      title: for the tables.
      name: short, for the charts.
      model: a name of `jaxdl.models.MODELS` and of the torch arms' `TWINS`.
      data: "mnist", or "cifar": made-up images of CIFAR's shape and number.
      batch_size, lr, momentum: of SGD.
      tolerances: relative differences allowed between the arms' losses, over the first `LOG_EVERY` steps and at
        the end of the first pass. Rounding alone stays below; a missing momentum or a wrong batch does not.
      rounds: windows of each arm.
      goals: what is compared.
      examples: for training and for the test, where they are made up.
      few: the same on a CPU, where an epoch of all would take minutes.
    """

    title: str
    name: str
    model: str
    data: Literal["mnist", "cifar"]
    batch_size: int
    lr: float
    momentum: float
    tolerances: tuple[float, float]
    rounds: int
    goals: Sequence[Goal]
    examples: tuple[int, int] = (60_000, 10_000)
    few: tuple[int, int] | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return (28, 28, 1) if self.data == "mnist" else (32, 32, 3)

    def counts(self, platform: str) -> tuple[int, int]:
        """How many images are made up for training and for the test."""
        return self.few if self.few and platform == "cpu" else self.examples

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


def records(steps: int) -> tuple[slice, slice]:
    """The steps that the first and the last record of an epoch cover; there is one every `LOG_EVERY` steps."""
    return slice(0, LOG_EVERY), slice((steps - 1) // LOG_EVERY * LOG_EVERY, None)
