"""Many seeds of Net in PyTorch: one after another by an arm of the race, a process a core, or all at once."""

import copy
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from benchmarks.arms.torch_compile import Compiled
from benchmarks.arms.torch_compile_graph import CompiledGraphs
from benchmarks.arms.torch_graph import Graph
from benchmarks.arms.torch_parts import Torch
from benchmarks.members import ROWS, TAIL, starts
from benchmarks.process import serve, threads


class OneAfterAnother:
    """Every member is trained from its start by an arm of the race, which does not know of the others.

    Attributes:
      arm: has the data, the network and the step.
      rows: (members, steps * batch), on the device.
      starts: each member's initial weights, on the device.
    """

    def __init__(self, arm: type[Torch], folder: Path) -> None:
        self.arm = arm("net", folder)
        place = self.arm.device
        rows = torch.tensor(np.load(folder / ROWS), dtype=torch.int64, device=place)
        self.rows, self.steps = rows.flatten(1), rows.shape[0] * rows.shape[1]
        self.starts = [safetensors.torch.load_file(path, str(place)) for path in starts(folder)]

    def facts(self) -> dict[str, Any]:
        return self.arm.facts()

    def warm(self) -> tuple[list[float], float]:
        """Every member's mean loss over its last `TAIL` steps, and the seconds of a second time."""
        return self.train().double().mean(1).tolist(), self.run(1)["seconds"]

    def run(self, times: int) -> dict[str, float]:
        """Trains all members from their start, ``times`` times."""
        started = time.perf_counter()
        for _ in range(times):
            self.train()
        self.arm.wait()
        return {"steps": times * self.steps, "seconds": time.perf_counter() - started}

    def train(self) -> Tensor:
        """The losses of every member's last `TAIL` steps, (members, steps)."""
        return torch.stack([self.member(number) for number in range(len(self.starts))])

    def member(self, number: int) -> Tensor:
        """Those of one."""
        self.arm.net.load_state_dict(self.starts[number])
        self.arm.orders, self.arm.passes = self.rows[number, None], 0
        return torch.cat([losses.view(-1) for losses, _ in self.arm.step()])[-TAIL:]  # a graph leaves several


class ProcessACore(OneAfterAnother):
    """As many processes as there are cores, with one thread each: no core waits for another."""

    def __init__(self, arm: type[Torch], folder: Path) -> None:
        super().__init__(arm, folder)
        if self.arm.device.type == "cuda":
            sys.exit("processes that share a GPU take turns on it")
        self.pool = ProcessPoolExecutor(threads(), get_context("spawn"), _enter, (arm, folder))

    def train(self) -> Tensor:
        return torch.tensor(list(self.pool.map(_member, range(len(self.starts)))))


class Batched(OneAfterAnother):
    """Stacked parameters: one operation for all members.

    Source: https://docs.pytorch.org/tutorials/intermediate/ensembling.html
    """

    def __init__(self, arm: type[Torch], folder: Path) -> None:
        super().__init__(arm, folder)
        nets = [copy.deepcopy(self.arm.net) for _ in self.starts]
        for net, start in zip(nets, self.starts, strict=True):
            net.load_state_dict(start)
        self.params = stack_module_state(nets)[0]  # pyright: ignore[reportArgumentType]
        self.stacked = [value.detach().clone() for value in self.params.values()]
        self.optimizer = torch.optim.SGD(self.params.values(), self.arm.workload.lr, fused=True)

    def train(self) -> Tensor:
        with torch.no_grad():
            for value, start in zip(self.params.values(), self.stacked, strict=True):
                value.copy_(start)
        batches = self.rows.view(len(self.starts), -1, self.arm.workload.batch_size).unbind(1)
        return torch.stack([self.update(rows) for rows in batches][-TAIL:], 1)

    def update(self, rows: Tensor) -> Tensor:
        """A step of every member on its own rows, (members, batch)."""
        self.optimizer.zero_grad(set_to_none=True)
        image, label = self.arm.batch(rows.flatten())
        loss = vmap(self.loss)(self.params, image.unflatten(0, rows.shape), label.view(rows.shape))
        loss.sum().backward()  # members have no parameter in common
        self.optimizer.step()
        return loss.detach()

    def loss(self, params: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return cross_entropy(functional_call(self.arm.net, params, (image,)), label)


WAYS: Mapping[str, Callable[[Path], OneAfterAnother]] = {
    "eager": lambda folder: OneAfterAnother(Torch, folder),
    "processes": lambda folder: ProcessACore(Torch, folder),
    "vmap": lambda folder: Batched(Torch, folder),
    "compile": lambda folder: OneAfterAnother(Compiled, folder),
    "graph": lambda folder: OneAfterAnother(Graph, folder),
    "compile-graph": lambda folder: OneAfterAnother(CompiledGraphs, folder),
}


def _enter(arm: type[Torch], folder: Path) -> None:
    global _own
    _own = OneAfterAnother(arm, folder)
    torch.set_num_threads(1)


def _member(number: int) -> list[float]:
    return _own.member(number).tolist()


_own: OneAfterAnother  # of a process of the pool


if __name__ == "__main__":
    serve(lambda way, folder: WAYS[way](folder))
