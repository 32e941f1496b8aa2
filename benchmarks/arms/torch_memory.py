"""Peak memory of training and evaluation in PyTorch, eagerly and on resident data: a line of JSON."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.arms.torch_parts import Torch
from benchmarks.memory import measured, resident


class Floats(Torch):
    """The eager arm of the race, whose images become float32 in place: its loading would be the peak otherwise."""

    def place(self, data: Mapping[str, np.ndarray], orders: np.ndarray) -> None:
        self.images, self.test_images = (
            self.stored(torch.from_numpy(data[key]).to(self.device).permute(0, 3, 1, 2))
            for key in ("x_train", "x_test")
        )
        self.labels, self.test_labels = (
            torch.tensor(data[key], dtype=torch.int64, device=self.device) for key in ("y_train", "y_test")
        )
        self.orders = torch.tensor(orders, dtype=torch.int64, device=self.device)

    def stored(self, image: Tensor) -> Tensor:
        """All images (N, C, H, W) uint8, in channels_last, as they are kept."""
        return self.floats(image)

    def floats(self, image: Tensor) -> Tensor:
        """uint8 -> float32 in [0, 1]."""
        return image.to(torch.float32).div_(255)


class Bytes(Floats):
    """Images stay bytes, as in jaxdl, and a batch is converted when it is used."""

    def stored(self, image: Tensor) -> Tensor:
        return image

    def _loss(self, image: Tensor, label: Tensor) -> Tensor:
        return super()._loss(self.floats(image), label)

    def _judge(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        return super()._judge(self.floats(image), label)


WAYS = {"floats": Floats, "bytes": Bytes}


def main() -> None:
    """Takes the workload, the prepared folder, the number of steps and a name of `WAYS`."""
    imports, (workload, folder, steps, way) = resident(), sys.argv[1:]
    arm = WAYS[way](workload, Path(folder))
    arm.train(arm.batches(arm.orders[0][: int(steps) * arm.workload.batch_size]))
    arm.evaluation()
    device = torch.cuda.max_memory_allocated() if arm.device.type == "cuda" else None
    print(json.dumps(measured(imports, device)))


if __name__ == "__main__":
    main()
