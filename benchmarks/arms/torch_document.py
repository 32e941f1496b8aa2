"""The document's training in PyTorch, with weights and order of its own seed: prints the test accuracy as JSON."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from benchmarks.arms.torch_parts import TWINS, device, images, sgd
from benchmarks.workloads import WORKLOADS
from benchmarks.workloads.workload import DATA


def main() -> None:
    """Takes the prepared folder, the seed and the number of epochs."""
    folder, seed, epochs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    place, workload = device(), WORKLOADS["net"]
    data = np.load(folder / DATA)
    split = {key: images(data[key]) if key[0] == "x" else torch.tensor(data[key]).long() for key in data}
    split = {key: tensor.to(place) for key, tensor in split.items()}
    torch.manual_seed(seed)
    net = TWINS[workload.model]().to(place)
    optimizer = sgd(workload, net)
    for _ in range(epochs):
        for rows in torch.randperm(len(split["y_train"])).to(place).split(workload.batch_size):
            optimizer.zero_grad(set_to_none=True)
            cross_entropy(net(split["x_train"][rows]), split["y_train"][rows]).backward()
            optimizer.step()
    with torch.no_grad():
        right = net(split["x_test"]).argmax(1) == split["y_test"]
    print(json.dumps({"accuracy": right.double().mean().item()}))


if __name__ == "__main__":
    main()
