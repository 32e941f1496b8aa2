"""PyTorch with the whole training step in a CUDA graph: the CPU starts one thing a step.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#whole-network-capture
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.arms.torch_parts import Torch
from benchmarks.process import serve

WARM = 3  # steps on a side stream before a capture


class Graph(Torch):
    """The graph reads its row numbers from a fixed place; a ragged last batch is trained on eagerly."""

    phases = ("step", "epoch")

    def __init__(self, workload: str, folder: Path) -> None:
        if not torch.cuda.is_available():
            sys.exit("no CUDA device")
        super().__init__(workload, folder)
        self.net.train()
        self._warm_up()
        self.graphs = [self._captured(length) for length in self.lengths()]

    def lengths(self) -> Sequence[int]:
        """Steps in each graph, the longest first; 1 is the last."""
        return (1,)

    def step(self) -> list[tuple[Tensor, int]]:
        return self._replay(self.order(full=True))

    def epoch(self) -> list[tuple[Tensor, int]]:
        order, full = self.order(), self.steps("step") * self.workload.batch_size
        return self._replay(order[:full]) + self.train(self.batches(order[full:]) if full < len(order) else ())

    def checks(self, phase: str, produced: Any) -> list[float]:
        steps = [(loss, count) for losses, count in produced for loss in losses.view(-1)]
        return super().checks(phase, steps)

    def _replay(self, order: Tensor) -> list[tuple[Tensor, int]]:
        """The losses of each graph's steps, with the size of their batches."""
        batches, losses, start = order.view(-1, self.workload.batch_size), [], 0
        for graph, rows, found in self.graphs:
            while len(batches) - start >= len(rows):
                rows.copy_(batches[start : start + len(rows)])
                graph.replay()
                losses.append((found.clone(), self.workload.batch_size))
                start += len(rows)
        return losses

    def _warm_up(self) -> None:
        side, here = torch.cuda.Stream(), torch.cuda.current_stream()
        side.wait_stream(here)
        with torch.cuda.stream(side):
            self.train(list(self.batches(self.orders[0][: WARM * self.workload.batch_size])))
        here.wait_stream(side)

    def _captured(self, length: int) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        """A graph, where it reads the row numbers (length, batch), and where it leaves the losses (length,)."""
        rows = self.orders[0][: length * self.workload.batch_size].view(length, -1).clone()
        graph = torch.cuda.CUDAGraph()
        self.optimizer.zero_grad(set_to_none=True)  # or the graph would add to gradients outside of its memory
        with torch.cuda.graph(graph):
            losses = torch.stack([self.update(*self.batch(row)) for row in rows.unbind()])
        return graph, rows, losses


if __name__ == "__main__":
    serve(Graph)
