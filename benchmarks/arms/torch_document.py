"""The document's training in PyTorch, with weights and order of its own seed: prints the test accuracy as JSON."""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks.arms.torch_parts import NETS, device, images, train
from benchmarks.workloads import DATA, WORKLOADS


def main() -> None:
    """Takes the prepared folder, the seed and the number of epochs."""
    folder, seed, epochs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    place, workload = device(), WORKLOADS["net"]
    data = np.load(folder / DATA)
    split = {key: images(data[key]) if key[0] == "x" else torch.tensor(data[key]).long() for key in data}
    split = {key: tensor.to(place) for key, tensor in split.items()}
    torch.manual_seed(seed)
    net = NETS[workload.model]().to(place)
    optimizer = torch.optim.SGD(net.parameters(), workload.lr, momentum=workload.momentum)
    for _ in range(epochs):
        order = torch.randperm(len(split["y_train"])).to(place)
        rows = order.split(workload.batch_size)
        train(net, optimizer, ((split["x_train"][row], split["y_train"][row]) for row in rows))
    with torch.no_grad():
        right = net(split["x_test"]).argmax(1) == split["y_test"]
    print(json.dumps({"accuracy": right.double().mean().item()}))


if __name__ == "__main__":
    main()
