"""What the pairs of this package are made of: a torch module and a port of a function and its layers."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax
import torch
from flax import nnx
from torch import nn

Array = jax.Array


class Original(nn.Module):
    """A torch module of a function and its layers, which it gets as first argument."""

    def __init__(self, run: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.run(self, *inputs)


class Port(nnx.Module):
    """The same for Flax."""

    def __init__(self, run: Callable[..., Any], **layers: Any) -> None:
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def __call__(self, *inputs: Array) -> Any:
        return self.run(self, *inputs)


def drawn(*shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    """``rng -> array`` of normal numbers whose mean is not zero."""
    return lambda rng: rng.normal(0.3, 1.0, shape)


def tokens(count: int, *shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    """``rng -> integers`` below ``count``."""
    return lambda rng: rng.integers(0, count, shape)


TRAINED: Mapping[str, Any] = {
    "torch_optimizer": lambda module: torch.optim.AdamW(module.parameters(), 1e-2, weight_decay=0.1),
    "tx": optax.adamw(1e-2, weight_decay=0.1),
}
