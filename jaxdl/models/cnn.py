"""A small convolutional network for small images."""

from flax import nnx

from jaxdl.nn.activations import ACTIVATIONS
from jaxdl.nn.conv import Conv2d
from jaxdl.nn.dropout import Dropout
from jaxdl.nn.flatten import flatten
from jaxdl.nn.layout import flattened
from jaxdl.nn.linear import Linear
from jaxdl.nn.pooling import max_pool2d
from jaxdl.typing import Array


class CNN(nnx.Module):
    """Two 3x3 convolutions with ReLU and 2x2 max-pooling, two linear layers: images (B, H, W, C) -> logits.

    Args:
      image_shape: (H, W, C), at least 4x4.
      classes: the number of classes.
      channels: of the two convolutions.
      hidden: width of the hidden linear layer.
      activation: in place of ReLU, a name of `ACTIVATIONS`.
      dropout: rate in front of each linear layer.

    Raises:
      ValueError: images that are smaller than two poolings need.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (28, 28, 1),
        classes: int = 10,
        *,
        channels: tuple[int, int] = (32, 64),
        hidden: int = 128,
        activation: str = "relu",
        dropout: float = 0.0,
        rngs: nnx.Rngs,
    ) -> None:
        (height, width, colours), (first, second) = image_shape, channels
        if min(height, width) < 4:
            raise ValueError(f"the CNN takes images of at least 4x4 pixels, got {height}x{width}")
        height, width = height // 4, width // 4  # behind two poolings
        self.activation = ACTIVATIONS[activation]
        self.conv1 = Conv2d(colours, first, 3, padding=1, rngs=rngs)
        self.conv2 = Conv2d(first, second, 3, padding=1, rngs=rngs)
        self.dropout = Dropout(dropout)
        layout = flattened(height, width, second, hidden)
        self.fc1 = Linear(height * width * second, hidden, layout=layout, rngs=rngs)
        self.fc2 = Linear(hidden, classes, rngs=rngs)

    def __call__(self, x: Array, rngs: nnx.Rngs | None = None) -> Array:
        x = max_pool2d(self.activation(self.conv1(x)), 2)  # (B, 14, 14, 32)
        x = max_pool2d(self.activation(self.conv2(x)), 2)  # (B, 7, 7, 64)
        x = self.dropout(flatten(x), rngs)  # (B, 3136)
        x = self.dropout(self.activation(self.fc1(x)), rngs)  # (B, 128)
        return self.fc2(x)  # (B, 10)
