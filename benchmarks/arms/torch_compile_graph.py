"""``torch.compile`` of model and loss inside CUDA graphs of many steps: the least that PyTorch can do on a GPU."""

from benchmarks.arms.torch_compile import Compiled
from benchmarks.arms.torch_graphs import Graphs
from benchmarks.process import serve


class CompiledGraphs(Graphs, Compiled):
    """`Compiled` makes the loss, `Graphs` captures it."""


if __name__ == "__main__":
    serve(CompiledGraphs)
