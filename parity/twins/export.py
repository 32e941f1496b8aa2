"""The exported program in torch's own words: images as they are stored in, logits out, by `torch.export`."""

from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch


class Stored(torch.nn.Module):
    """A module behind ``ToTensor`` and ``Normalize``: (B, H, W, C) uint8 -> logits.

    Args:
      module: takes (B, C, H, W) float32.
      mean, std: per channel, of images in [0, 1].
    """

    def __init__(self, module: torch.nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.module = module
        self.register_buffer("mean", torch.tensor(mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).reshape(-1, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images.permute(0, 3, 1, 2).to(torch.float32) / 255
        return self.module((x - self.mean) / self.std)  # pyright: ignore[reportOperatorIssue]


def exported(
    module: torch.nn.Module, weights: Path, mean: Sequence[float], std: Sequence[float], example: torch.Tensor
) -> torch.nn.Module:
    """The module with the weights of a run, exported for any number of images."""
    module.load_state_dict(safetensors.torch.load_file(weights))
    batch = {"images": {0: torch.export.Dim("batch", max=100_000)}}
    program = torch.export.export(Stored(module, mean, std).eval(), (example,), dynamic_shapes=batch)
    return program.module()
