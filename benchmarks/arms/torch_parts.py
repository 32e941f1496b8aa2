"""What the PyTorch arms share: the models, the prepared data, the phases in eager mode."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.arms.contender import Contender
from benchmarks.process import threads
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.workload import DATA, EVAL_BATCH, ORDERS, PROBE, WEIGHTS, Workload, records
from parity.twins.cnn import TorchCNN
from parity.twins.net import TorchNet
from parity.twins.resnet import torch_resnet18
from parity.twins.vit import TorchVisionTransformer

TWINS: Mapping[str, Callable[[], nn.Module]] = {
    "net": TorchNet,
    "cnn": TorchCNN,
    "resnet18": torch_resnet18,
    "vit": TorchVisionTransformer,
}


def device() -> torch.device:
    """Where to train, with the same threads and the same precision as JAX takes there."""
    torch.set_num_threads(threads())
    if not torch.cuda.is_available():
        return torch.device("cpu")
    torch.set_float32_matmul_precision("high")  # TF32, as XLA's default on a GPU
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    return torch.device("cuda")


def images(array: np.ndarray) -> Tensor:
    """(N, H, W, C) uint8 -> (N, C, H, W) float32 in [0, 1], as torchvision's ToTensor."""
    return torch.tensor(array).permute(0, 3, 1, 2).contiguous().float() / 255


def layout(net: nn.Module) -> torch.memory_format:
    """What is faster for a network: channels_last where it has convolutions."""
    convolutional = any(isinstance(module, nn.Conv2d) for module in net.modules())
    return torch.channels_last if convolutional else torch.contiguous_format


def twin(workload: Workload, folder: Path, place: torch.device) -> nn.Module:
    """The network with the weights that jaxdl starts with, on its device and in its layout."""
    net = TWINS[workload.model]()
    net.load_state_dict(safetensors.torch.load_file(folder / WEIGHTS))
    return net.to(place).to(memory_format=layout(net))  # pyright: ignore[reportCallIssue]


def sgd(workload: Workload, net: nn.Module) -> torch.optim.Optimizer:
    """One kernel for all parameters."""
    return torch.optim.SGD(net.parameters(), workload.lr, momentum=workload.momentum, fused=True)


class Torch(Contender):
    """Eager mode on resident data.

    Attributes:
      images, labels, test_images, test_labels: on the device, in channels_last.
      orders: rows of each prepared epoch, (epochs, examples), on the device.
      predict, loss, judge: what is done with a batch; a subclass may compile them.
    """

    def __init__(self, workload: str, folder: Path) -> None:
        self.workload, self.device = WORKLOADS[workload], device()
        self.starts = {name: safetensors.torch.load_file(folder / name) for name in (WEIGHTS, PROBE)}
        self.net = twin(self.workload, folder, self.device)
        self.optimizer = sgd(self.workload, self.net)
        self.place(np.load(folder / DATA), np.load(folder / ORDERS))
        self.predict, self.loss, self.judge = self._predict, self._loss, self._judge

    def place(self, data: Mapping[str, np.ndarray], orders: np.ndarray) -> None:
        """Puts the data where the arm wants them."""
        form = torch.channels_last
        self.images, self.test_images = (
            images(data[key]).to(self.device, memory_format=form) for key in ("x_train", "x_test")
        )
        self.labels, self.test_labels = (
            torch.tensor(data[key], dtype=torch.int64, device=self.device) for key in ("y_train", "y_test")
        )
        self.orders = torch.tensor(orders, dtype=torch.int64, device=self.device)

    def facts(self) -> dict[str, Any]:
        kind = torch.cuda.get_device_name() if self.device.type == "cuda" else "cpu"
        precision = torch.get_float32_matmul_precision()
        return {"setup": {"device": kind, "threads": torch.get_num_threads(), "matmul_precision": precision}}

    def reset(self, phase: str) -> None:
        # In place: a captured graph goes on with the same memory. Zero momentum is what a first step makes.
        self.net.load_state_dict(self.starts[WEIGHTS if phase in ("step", "epoch") else PROBE])
        for state in self.optimizer.state.values():
            if state.get("momentum_buffer") is not None:
                state["momentum_buffer"].zero_()
        self.passes = 0

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def steps(self, phase: str) -> int:
        if phase == "evaluation":
            return -(-len(self.test_labels) // EVAL_BATCH)
        full = len(self.labels) // self.workload.batch_size
        return -(-len(self.labels) // self.workload.batch_size) if phase == "epoch" else full

    def batches(self, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The training batches of some rows, on the device."""
        return map(self.batch, order.split(self.workload.batch_size))

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Images and labels of some rows."""
        # Three times as fast as images[rows] on a CPU, and the result is in channels_last again.
        image = self.images.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
        return image, self.labels.index_select(0, rows)

    def forward(self) -> list[Tensor]:
        self.net.eval()
        with torch.inference_mode():
            return [self.predict(image) for image, _ in self.batches(self.order(full=True))]

    def backward(self) -> list[Tensor]:
        self.net.train()
        for parameter in self.net.parameters():
            parameter.grad = torch.zeros_like(parameter)
        for image, label in self.batches(self.order(full=True)):
            self.loss(image, label).backward()
        return [parameter.grad for parameter in self.net.parameters() if parameter.grad is not None]

    def step(self) -> list[tuple[Tensor, int]]:
        return self.train(self.batches(self.order(full=True)))

    def epoch(self) -> list[tuple[Tensor, int]]:
        return self.train(self.batches(self.order()))

    def evaluation(self) -> list[tuple[Tensor, Tensor, int]]:
        self.net.eval()
        pairs = zip(self.test_images.split(EVAL_BATCH), self.test_labels.split(EVAL_BATCH), strict=True)
        with torch.inference_mode():
            return [(*self.judge(image, label), len(label)) for image, label in pairs]

    def train(self, batches: Iterable[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, int]]:
        """A step for each batch: its loss, still on the device, and its number of examples."""
        self.net.train()
        return [(self.update(image, label), len(label)) for image, label in batches]

    def update(self, image: Tensor, label: Tensor) -> Tensor:
        """One step."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(image, label)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def order(self, *, full: bool = False) -> Tensor:
        """The rows of the next epoch; ``full``: without those of the ragged last batch."""
        order, self.passes = self.orders[self.passes % len(self.orders)], self.passes + 1
        return order[: self.steps("step") * self.workload.batch_size] if full else order

    def checks(self, phase: str, produced: Any) -> list[float]:
        if phase == "forward":
            found = torch.cat(produced).double()
            return [float((found - 1 / found.shape[1]).abs().mean())]
        if phase == "backward":
            squares = torch.stack([part.double().square().sum() for part in produced])
            return [float(squares.sum().sqrt()) / self.steps(phase)]
        parts = [slice(None)] if phase == "evaluation" else records(self.steps(phase))
        return [_mean_loss(produced[part]) for part in parts]

    def _predict(self, image: Tensor) -> Tensor:
        return self.net(image).softmax(1)

    def _loss(self, image: Tensor, label: Tensor) -> Tensor:
        return functional.cross_entropy(self.net(image), label)

    def _judge(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """The mean loss and the number of right answers."""
        logits = self.net(image)
        return functional.cross_entropy(logits, label), (logits.argmax(1) == label).sum()


def _mean_loss(steps: Sequence[tuple[Any, ...]]) -> float:
    """Of (mean loss, ..., number of examples) of each."""
    return sum(float(loss) * count for loss, *_, count in steps) / sum(count for *_, count in steps)
