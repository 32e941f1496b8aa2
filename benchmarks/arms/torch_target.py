"""A recipe of jaxdl in PyTorch, eagerly and on resident data, trained until the test accuracy is reached."""

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from benchmarks.arms.torch_parts import device, images, layout
from benchmarks.process import serve
from benchmarks.workloads.workload import DATA, EVAL_BATCH
from jaxdl.recipes import RECIPES
from parity.twins.cnn import TorchCNN
from parity.twins.net import TorchNet

Curve = list[tuple[float, float]]  # seconds since the start, accuracy
NETS: Mapping[str, Callable[..., nn.Module]] = {"net": TorchNet, "cnn": TorchCNN}
# What is translated below; a recipe with another option would be another one here.
KNOWN = {
    "dataset", "model", "normalize", "augment", "batch_size", "epochs", "dropout", "optimizer", "lr", "momentum",
    "nesterov", "schedule", "label_smoothing",
}  # fmt: skip


class Recipe:
    """The same model, optimizer, schedule, loss, augmentation and evaluation.

    Args:
      recipe: its name.
      folder: what `benchmarks.prepare` wrote.

    Raises:
      ValueError: the recipe has an option that is not translated.
    """

    def __init__(self, recipe: str, folder: Path) -> None:
        self.options, self.device = RECIPES[recipe], device()
        if unknown := self.options.keys() - KNOWN:
            raise ValueError(f"recipe {recipe} has options that are not translated: {', '.join(sorted(unknown))}")
        data = np.load(folder / DATA)
        train, tests = (images(data[key]) for key in ("x_train", "x_test"))
        self.mean, self.std = train.double().mean().item(), train.double().std(correction=0).item()
        self.labels, self.test_labels = (
            torch.tensor(data[key], dtype=torch.int64, device=self.device) for key in ("y_train", "y_test")
        )
        self.tests = ((tests - self.mean) / self.std).to(self.device)
        self.padding = _padding(self.options.get("augment", ""))
        # Shifted by a choice among views of the padded images, which are made once; black is not zero any more.
        train, black = (train - self.mean) / self.std, -self.mean / self.std
        padded = functional.pad(train, [self.padding] * 4, value=black).to(self.device)
        size = train.shape[-1]
        self.images, self.crops = (
            padded,
            padded.unfold(2, size, 1).unfold(3, size, 1),
        )  # (N, C, shift, shift, H, W)

    def warm(self) -> int:
        """A few steps and an evaluation; returns the epochs of the recipe."""
        net, optimizer, schedule = self.start(0)
        size = self.options["batch_size"]
        self.train(net, optimizer, schedule, torch.arange(len(self.labels), device=self.device)[: 5 * size])
        self.accuracy(net)
        return self.options["epochs"]

    def run(self, seed: int, target: float) -> Curve:
        """Trains with weights, order and augmentation of a seed, until an evaluation reaches the target."""
        curve, (net, optimizer, schedule) = Curve(), self.start(seed)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(self.options["epochs"]):
            self.train(net, optimizer, schedule, torch.randperm(len(self.labels), device=self.device))
            accuracy = self.accuracy(net)
            curve.append((time.perf_counter() - started, accuracy))
            if accuracy >= target:
                break
        return curve

    def start(self, seed: int) -> tuple[nn.Module, torch.optim.Optimizer, LRScheduler]:
        """A network with torch's initial distribution, and what trains it."""
        torch.manual_seed(seed)
        options = self.options
        net = NETS[options.get("model", "net")](**_given(options, "dropout"))
        net = net.to(self.device).to(memory_format=layout(net))  # pyright: ignore[reportCallIssue]
        make = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[options["optimizer"]]
        own = _given(options, "momentum", "nesterov")
        optimizer = make(net.parameters(), options["lr"], fused=True, **own)
        if options["schedule"] != "one_cycle":
            raise ValueError(f"expected the schedule one_cycle, got {options['schedule']!r}")
        steps = options["epochs"] * -(-len(self.labels) // options["batch_size"])
        # jaxdl's one_cycle moves the rate alone.
        return net, optimizer, OneCycleLR(optimizer, options["lr"], total_steps=steps, cycle_momentum=False)

    def train(
        self, net: nn.Module, optimizer: torch.optim.Optimizer, schedule: LRScheduler, order: Tensor
    ) -> None:
        """A step for each batch of some rows."""
        net.train()
        for rows in order.split(self.options["batch_size"]):
            optimizer.zero_grad(set_to_none=True)
            logits, label = net(self.batch(rows)), self.labels.index_select(0, rows)
            functional.cross_entropy(logits, label, **_given(self.options, "label_smoothing")).backward()
            optimizer.step()
            schedule.step()

    def batch(self, rows: Tensor) -> Tensor:
        """Images, each at a shift of its own."""
        if not self.padding:
            return self.images.index_select(0, rows)  # faster than indexing
        down, right = torch.randint(2 * self.padding + 1, (2, len(rows)), device=self.device)
        return self.crops[rows, :, down, right]

    def accuracy(self, net: nn.Module) -> float:
        """On the test images."""
        net.eval()
        with torch.inference_mode():
            pairs = zip(self.tests.split(EVAL_BATCH), self.test_labels.split(EVAL_BATCH), strict=True)
            right = torch.stack([(net(image).argmax(1) == label).sum() for image, label in pairs])
        return right.sum().item() / len(self.test_labels)


def _given(options: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}


def _padding(augment: str) -> int:
    """Of ``crop:N``; 0 where there is no augmentation.

    Raises:
      ValueError: another one.
    """
    if not (found := re.fullmatch(r"(?:crop:(\d+))?", augment)):
        raise ValueError(f"expected the augmentation crop:N or none, got {augment!r}")
    return int(found[1] or 0)


if __name__ == "__main__":
    serve(Recipe)
