"""The work that all arms share. A new workload is one more entry of `WORKLOADS`."""

import dataclasses
import json
from pathlib import Path

TAIL = 100  # steps whose mean loss is compared between arms


@dataclasses.dataclass(frozen=True)
class Workload:
    """Training a classifier of images of MNIST's size.

    Attributes:
      name: on the command line and in the results.
      title: in the table.
      model: its name in `jaxdl.models.MODELS` and in `benchmarks.arms.torch_models.MODELS`.
      batch_size: examples per step.
      lr, momentum: of SGD.
      examples: training images in an epoch; test images in MNIST's proportion belong to them.
      epochs: what a window times.
      rounds: windows of each arm.
    """

    name: str
    title: str
    model: str
    batch_size: int
    lr: float
    momentum: float
    examples: int
    epochs: int
    rounds: int

    @property
    def steps_per_epoch(self) -> int:
        """The last batch of an epoch may be smaller."""
        return -(-self.examples // self.batch_size)

    @property
    def steps(self) -> int:
        """In a window."""
        return self.epochs * self.steps_per_epoch


@dataclasses.dataclass(frozen=True)
class Task:
    """A workload and the folder with what all its arms start from; `benchmarks.prepare` fills it."""

    workload: Workload
    folder: Path

    @property
    def data(self) -> Path:
        """Images and labels, a ``.npz`` as ``jaxdl.train --dataset npz`` takes it."""
        return self.folder / "data.npz"

    @property
    def weights(self) -> Path:
        """The initial weights under torch's names and in torch's layouts."""
        return self.folder / "initial.safetensors"

    @property
    def orders(self) -> Path:
        """(epochs, examples) int32: which rows make the batches, in order."""
        return self.folder / "orders.npy"

    def options(self) -> list[str]:
        """The command line of ``jaxdl.train`` for this work, but for its length and its folder."""
        work = self.workload
        data = ["--dataset", "npz", "--data-dir", str(self.data), "--batch-size", str(work.batch_size)]
        rate = ["--optimizer", "sgd", "--lr", str(work.lr), "--momentum", str(work.momentum)]
        return [*data, "--model", work.model, *rate, "--seed", "0"]

    def to_json(self) -> str:
        return json.dumps({"workload": dataclasses.asdict(self.workload), "folder": str(self.folder)})

    @classmethod
    def from_json(cls, text: str) -> "Task":
        fields = json.loads(text)
        return cls(Workload(**fields["workload"]), Path(fields["folder"]))


NET = Workload(
    name="net",
    title="Net 784-128-10, batch 64, SGD",
    model="net",
    batch_size=64,
    lr=0.01,
    momentum=0.0,
    examples=60_000,
    epochs=4,
    rounds=10,
)
# A fifth of MNIST: an epoch, with its evaluation and its checkpoint, then takes seconds on two cores, not a quarter
# of a minute. What jaxdl does once an epoch so weighs more than on the whole set, never less.
CNN = Workload(
    name="cnn",
    title="CNN 32-64-128, batch 128, SGD with momentum",
    model="cnn",
    batch_size=128,
    lr=0.05,
    momentum=0.9,
    examples=12_800,
    epochs=1,
    rounds=6,
)
WORKLOADS = {work.name: work for work in (NET, CNN)}
