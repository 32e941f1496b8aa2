"""PyTorch with many training steps in one CUDA graph."""

from collections.abc import Sequence

from benchmarks.arms.torch_graph import Graph
from benchmarks.process import serve

LEAST, MOST = 32, 100  # steps; a longer graph is no faster


class Graphs(Graph):
    """As many steps as leave the fewest over; those are graphs of one."""

    def lengths(self) -> Sequence[int]:
        steps = self.steps("step")
        lengths = range(min(LEAST, steps), min(MOST, steps) + 1)
        return (min(lengths, key=lambda length: (steps % length, -length)), 1)


if __name__ == "__main__":
    serve(Graphs)
