"""The document's network: 784-128-10."""

import math

from flax import nnx

from jaxdl.nn.activations import ACTIVATIONS
from jaxdl.nn.dropout import Dropout
from jaxdl.nn.layout import LINEAR, flattened
from jaxdl.nn.linear import Linear
from jaxdl.typing import Array


class Net(nnx.Module):
    """Flatten, Linear, ReLU, Linear: images (B, H, W, C) -> logits (B, classes).

    Args:
      image_shape: (H, W, C).
      classes: the number of classes.
      hidden: width of the hidden layers.
      depth: how many there are; the document has one.
      activation: behind each of them, a name of `ACTIVATIONS`.
      dropout: rate behind each activation.

    Its names are the keys of torch's state_dict: ``fc1.weight``, ``fc1.bias``, ``fc2.weight``, ``fc2.bias``, and
    so on where it is deeper.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (28, 28, 1),
        classes: int = 10,
        *,
        hidden: int = 128,
        depth: int = 1,
        activation: str = "relu",
        dropout: float = 0.0,
        rngs: nnx.Rngs,
    ) -> None:
        self.depth, self.activation = depth, ACTIVATIONS[activation]
        widths = [math.prod(image_shape), *[hidden] * depth, classes]
        for number in range(1, depth + 2):
            before, width = widths[number - 1 : number + 1]
            layout = flattened(*image_shape, width) if number == 1 else LINEAR
            setattr(self, f"fc{number}", Linear(before, width, layout=layout, rngs=rngs))
        self.dropout = Dropout(dropout)

    def __call__(self, x: Array, rngs: nnx.Rngs | None = None) -> Array:
        x = x.reshape(x.shape[0], -1)  # (B, 784)
        for number in range(1, self.depth + 1):
            x = self.dropout(self.activation(self.layer(number)(x)), rngs)  # (B, 128)
        return self.layer(self.depth + 1)(x)  # (B, 10)

    def layer(self, number: int) -> Linear:
        """``fc1``, ``fc2``, ..."""
        return getattr(self, f"fc{number}")
