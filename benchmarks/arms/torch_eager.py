"""PyTorch in eager mode: resident data, fused optimizer, convolutions in channels_last."""

from benchmarks.arms.torch_parts import Torch
from benchmarks.process import serve

if __name__ == "__main__":
    serve(Torch)
