"""PyTorch in eager mode on resident data: a batch is an index into tensors that lie on the device."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.arms.torch_parts import Torch
from benchmarks.process import serve


class Eager(Torch):
    """Convolutions in channels_last, which is the faster layout."""

    def __init__(self, workload: str, folder: Path) -> None:
        super().__init__(workload, folder)
        self.images, self.labels = self.images.to(self.device), self.labels.to(self.device)
        self.orders = self.orders.to(self.device)
        if self.workload.model == "cnn":
            self.net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
            self.images = self.images.to(memory_format=torch.channels_last)

    def batches(self, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in order.split(self.workload.batch_size):
            yield self.images[rows], self.labels[rows]


if __name__ == "__main__":
    serve(Eager)
