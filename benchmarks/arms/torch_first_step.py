"""The shortest PyTorch script that trains: import, read the idx files, one step, a line."""

import gzip
import os
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn


def read(path: Path, header: int) -> torch.Tensor:
    """The bytes of a gzipped idx file behind its header."""
    with gzip.open(path) as file:
        return torch.tensor(np.frombuffer(file.read(), np.uint8, offset=header))


def main() -> None:
    """Takes the folder of the files, and ``--compile``."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = Path(sys.argv[1])
    images = read(folder / "train-images-idx3-ubyte.gz", 16).to(device).view(-1, 784).float() / 255
    labels = read(folder / "train-labels-idx1-ubyte.gz", 8).to(device).long()
    net = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)).to(device)
    model = torch.compile(net) if "--compile" in sys.argv else net
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    rows = torch.randperm(len(labels), device=device)[:64]
    loss = nn.functional.cross_entropy(model(images[rows]), labels[rows])
    loss.backward()
    optimizer.step()
    print(f"Epoch [1/10], Step [1/938], Loss: {loss.item():.4f}", flush=True)


if __name__ == "__main__":
    main()
