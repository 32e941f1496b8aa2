"""PyTorch as the document trains: Dataset and DataLoader, each image fetched by its number."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Sampler, TensorDataset

from benchmarks.arms.torch_parts import Torch
from benchmarks.process import serve


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

    def __init__(self, workload: str, folder: Path) -> None:
        super().__init__(workload, folder)
        self.sampler, self.workers = Order(self.orders[0]), 0
        self.loaders = {workers: self._loader(workers) for workers in (0, 2)}

    def facts(self) -> dict[str, Any]:
        return {"num_workers": self.workers}

    def warm(self) -> tuple[float, float]:
        loss, seconds = super().warm()
        self.workers = 2
        self.run(1)  # starts the processes
        with_workers = self.run(1)["seconds"]
        if with_workers > seconds:
            self.workers = 0
            del self.loaders[2]  # ends them
        return loss, min(seconds, with_workers)

    def batches(self, order: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        self.sampler.rows = order
        for image, label in self.loaders[self.workers]:
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
