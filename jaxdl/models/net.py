"""The document's network: 784-128-10."""

import math

import jax
from flax import nnx

from jaxdl.nn.dropout import Dropout
from jaxdl.nn.layout import flattened
from jaxdl.nn.linear import Linear
from jaxdl.typing import Array


class Net(nnx.Module):
    """Flatten, Linear, ReLU, Linear: images (B, H, W, C) -> logits (B, classes).

    Args:
      image_shape: (H, W, C).
      classes: the number of classes.
      hidden: width of the hidden layer.
      dropout: rate behind the ReLU.

    Its names are the keys of torch's state_dict: ``fc1.weight``, ``fc1.bias``, ``fc2.weight``, ``fc2.bias``.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (28, 28, 1),
        classes: int = 10,
        *,
        hidden: int = 128,
        dropout: float = 0.0,
        rngs: nnx.Rngs,
    ) -> None:
        self.fc1 = Linear(math.prod(image_shape), hidden, layout=flattened(*image_shape, hidden), rngs=rngs)
        self.dropout = Dropout(dropout)
        self.fc2 = Linear(hidden, classes, rngs=rngs)

    def __call__(self, x: Array, rngs: nnx.Rngs | None = None) -> Array:
        x = x.reshape(len(x), -1)  # (B, 784)
        x = jax.nn.relu(self.fc1(x))  # (B, 128)
        return self.fc2(self.dropout(x, rngs))  # (B, 10)
