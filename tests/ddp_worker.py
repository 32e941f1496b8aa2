"""A process of torch's DistributedDataParallel: ``python ddp_worker.py RANK FOLDER``; two of them make a run.

Reads ``start.npz`` (weights in torch's layout, images NCHW, labels), trains on its half of every batch in float64,
and writes what rank 0 has to ``ddp.npz``: the first gradients, and weights and buffers after all updates.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

LR, MOMENTUM, RANKS = 0.1, 0.9, 2


class Small(nn.Module):
    """A convolution, BatchNorm, a mean over the image, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(F.relu(self.norm(self.conv(x))).mean((2, 3)))


def load(net: nn.Module, start: dict) -> None:
    """The weights that a run starts with."""
    net.load_state_dict({name: torch.tensor(start[name]) for name in net.state_dict()})


def updates(net: nn.Module, batches: list) -> dict[str, np.ndarray]:
    """Trains on batches of images and labels; returns first gradients, and weights and buffers at the end."""
    optimizer, first = torch.optim.SGD(net.parameters(), LR, momentum=MOMENTUM), {}
    for images, labels in batches:
        optimizer.zero_grad()
        F.cross_entropy(net(torch.tensor(images)), torch.tensor(labels)).backward()
        first = first or {f"grad.{name}": p.grad.numpy().copy() for name, p in net.named_parameters()}
        optimizer.step()
    return {name.removeprefix("module."): v for name, v in first.items()} | {
        name.removeprefix("module."): value.numpy() for name, value in net.state_dict().items()
    }


def main() -> None:
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=RANKS)
    start = dict(np.load(folder / "start.npz"))
    net = Small().double()
    load(net, start)
    halves = [
        tuple(np.array_split(part, RANKS)[rank] for part in pair)
        for pair in zip(start["images"], start["labels"], strict=True)
    ]
    result = updates(DistributedDataParallel(net), halves)
    if rank == 0:
        found = {name.replace("grad.module.", "grad."): value for name, value in result.items()}
        np.savez(folder / "ddp.npz", **found)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
