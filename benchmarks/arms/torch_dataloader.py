"""PyTorch as the document trains: Dataset and DataLoader, each image fetched by its number."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, TensorDataset

from benchmarks.arms.torch_parts import Torch, images
from benchmarks.process import serve
from benchmarks.workloads.workload import EVAL_BATCH


class Order(Sampler[int]):
    """What ``shuffle=True`` does, in an order that is given."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[int]:
        yield from self.rows.tolist()


class Loaded(Torch):
    """The images are converted beforehand, and the number of worker processes is the faster of 0 and 2."""

    phases = ("epoch", "evaluation")

    def __init__(self, workload: str, folder: Path) -> None:
        super().__init__(workload, folder)
        self.sampler, self.workers = Order(self.orders[0]), 0
        self.loaders = {workers: self._loader(workers) for workers in (0, 2)}
        self.tests = DataLoader(TensorDataset(self.test_images, self.test_labels), EVAL_BATCH)

    def place(self, data: Mapping[str, np.ndarray], orders: np.ndarray) -> None:
        self.images, self.test_images = images(data["x_train"]), images(data["x_test"])
        self.labels, self.test_labels = (torch.tensor(data[key]).long() for key in ("y_train", "y_test"))
        self.orders = torch.tensor(orders, dtype=torch.int64)

    def facts(self) -> dict[str, Any]:
        return super().facts() | {"num_workers": self.workers}

    def warm(self, phase: str) -> dict[str, float]:
        found = super().warm(phase)
        if phase == "epoch":
            self.workers = 2
            self.run(phase, 1)  # starts the processes
            with_workers = self.run(phase, 1)["seconds"]
            if with_workers > found["seconds"]:
                self.workers = 0
                del self.loaders[2]  # ends them
            found["seconds"] = min(found["seconds"], with_workers)
        return found

    def batches(self, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        self.sampler.rows = order
        return self._sent(self.loaders[self.workers])

    def evaluation(self) -> list[tuple[Tensor, Tensor, int]]:
        self.net.eval()
        with torch.inference_mode():
            return [(*self.judge(image, label), len(label)) for image, label in self._sent(self.tests)]

    def _sent(self, loader: DataLoader) -> Iterator[tuple[Tensor, Tensor]]:
        for image, label in loader:
            yield image.to(self.device, non_blocking=True), label.to(self.device, non_blocking=True)

    def _loader(self, workers: int) -> DataLoader:
        return DataLoader(
            TensorDataset(self.images, self.labels),
            self.workload.batch_size,
            sampler=self.sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.device.type == "cuda",
        )


if __name__ == "__main__":
    serve(Loaded)
