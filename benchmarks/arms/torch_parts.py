"""What the PyTorch arms share: the models, the prepared data, one step."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.process import threads
from benchmarks.workloads import DATA, ORDERS, WEIGHTS, WORKLOADS, tail


class Net(nn.Module):
    """784-128-10, as the document has it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(28 * 28, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.relu(self.fc1(x.flatten(1))))


class CNN(nn.Module):
    """Two convolutions and two linear layers: `jaxdl.models.cnn`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1)
        self.conv2 = nn.Conv2d(32, 64, 3, padding=1)
        self.fc1 = nn.Linear(7 * 7 * 64, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        return self.fc2(functional.relu(self.fc1(x.flatten(1))))


NETS: dict[str, type[nn.Module]] = {"net": Net, "cnn": CNN}


def device() -> torch.device:
    """Where to train, with the same threads and the same precision as JAX takes there."""
    torch.set_num_threads(threads())
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.set_float32_matmul_precision("high")  # TF32, as XLA's default on a GPU
    torch.backends.cudnn.allow_tf32 = True
    return torch.device("cuda")


def images(array: np.ndarray) -> Tensor:
    """(N, H, W, C) uint8 -> (N, C, H, W) float32 in [0, 1], as torchvision's ToTensor."""
    return torch.tensor(array).permute(0, 3, 1, 2).contiguous().float() / 255


def train(net: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable[tuple[Tensor, Tensor]]) -> list:
    """A step for each batch. Returns each step's loss, still on the device, and number of examples."""
    losses = []
    for image, label in batches:
        optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(net(image), label)
        loss.backward()
        optimizer.step()
        losses.append((loss.detach(), len(label)))
    return losses


class Torch:
    """An arm that trains in eager mode; a subclass says where its batches come from.

    Attributes:
      images, labels: of the training split, on the device they are prepared for.
      orders: rows of each prepared epoch, (epochs, examples).
      net, optimizer: as jaxdl starts.
    """

    def __init__(self, workload: str, folder: Path) -> None:
        self.workload, self.device = WORKLOADS[workload], device()
        data = np.load(folder / DATA)
        self.images, self.labels = images(data["x_train"]), torch.tensor(data["y_train"], dtype=torch.int64)
        self.orders = torch.tensor(np.load(folder / ORDERS), dtype=torch.int64)
        self.net = NETS[self.workload.model]()
        self.net.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
        self.net.to(self.device)
        self.optimizer = torch.optim.SGD(self.net.parameters(), self.workload.lr, momentum=self.workload.momentum)
        self.epoch = 0

    @property
    def steps_per_epoch(self) -> int:
        """Ragged last batch included."""
        return -(-len(self.labels) // self.workload.batch_size)

    def batches(self, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch, on the device."""
        raise NotImplementedError

    def facts(self) -> dict[str, Any]:
        return {}

    def warm(self) -> tuple[float, float]:
        losses = self._epoch()[-tail(self.steps_per_epoch) :]
        mean = sum(float(loss) * count for loss, count in losses) / sum(count for _, count in losses)
        return mean, self.run(1)["seconds"]

    def run(self, epochs: int) -> dict[str, float]:
        started = time.perf_counter()
        for _ in range(epochs):
            self._epoch()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return {"steps": epochs * self.steps_per_epoch, "seconds": time.perf_counter() - started}

    def _epoch(self) -> list:
        order, self.epoch = self.orders[self.epoch % len(self.orders)], self.epoch + 1
        return train(self.net, self.optimizer, self.batches(order))
