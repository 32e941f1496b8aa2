"""DCGAN for small images: one network makes images of noise, the other tells them from real ones."""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdl.nn.conv import Conv2d
from jaxdl.nn.conv_transpose import ConvTranspose2d
from jaxdl.nn.init import normal
from jaxdl.nn.norm import BatchNorm
from jaxdl.typing import Array

INIT = functools.partial(normal, std=0.02)  # of all convolutions


class Generator(nnx.Module):
    """Noise (B, latent) -> images (B, H, W, C) in [-1, 1].

    Args:
      image_shape: (H, W, C), H and W multiples of 4.
      latent: numbers of noise for an image.
      width: channels of the second layer; the first has twice as many.
      rngs: draws the weights from its ``params`` stream.

    Raises:
      ValueError: sides that are no multiples of 4.

    Source: Radford et al. 2015; https://docs.pytorch.org/tutorials/beginner/dcgan_faces_tutorial.html
    """

    def __init__(
        self, image_shape: tuple[int, int, int], *, latent: int = 64, width: int = 32, rngs: nnx.Rngs
    ) -> None:
        side = quarter(image_shape)
        make = functools.partial(ConvTranspose2d, bias=False, weight_init=INIT, rngs=rngs)
        self.conv1, self.bn1 = make(latent, 2 * width, side), _batch_norm(2 * width, rngs)
        self.conv2, self.bn2 = make(2 * width, width, 4, stride=2, padding=1), _batch_norm(width, rngs)
        self.conv3 = make(width, image_shape[2], 4, stride=2, padding=1)

    def __call__(self, noise: Array) -> Array:
        x = nnx.relu(self.bn1(self.conv1(noise[:, None, None])))  # (B, 7, 7, 64)
        x = nnx.relu(self.bn2(self.conv2(x)))  # (B, 14, 14, 32)
        return jnp.tanh(self.conv3(x))  # (B, 28, 28, 1)


class Discriminator(nnx.Module):
    """Images (B, H, W, C) in [-1, 1] -> logits (B,) of being real. Arguments as those of `Generator`."""

    def __init__(self, image_shape: tuple[int, int, int], *, width: int = 32, rngs: nnx.Rngs) -> None:
        side = quarter(image_shape)
        make = functools.partial(Conv2d, bias=False, weight_init=INIT, rngs=rngs)
        self.conv1 = make(image_shape[2], width, 4, stride=2, padding=1)
        self.conv2, self.bn2 = make(width, 2 * width, 4, stride=2, padding=1), _batch_norm(2 * width, rngs)
        self.conv3 = make(2 * width, 1, side)

    def __call__(self, image: Array) -> Array:
        x = jax.nn.leaky_relu(self.conv1(image), 0.2)  # (B, 14, 14, 32)
        x = jax.nn.leaky_relu(self.bn2(self.conv2(x)), 0.2)  # (B, 7, 7, 64)
        return self.conv3(x)[:, 0, 0, 0]


def quarter(image_shape: tuple[int, int, int]) -> tuple[int, int]:
    """A quarter of the image's height and width.

    Raises:
      ValueError: they are no multiples of 4.
    """
    height, width = image_shape[:2]
    if height % 4 or width % 4:
        raise ValueError(f"a DCGAN makes images whose sides are multiples of 4; got {height}x{width}")
    return height // 4, width // 4


def _batch_norm(features: int, rngs: nnx.Rngs) -> BatchNorm:
    norm = BatchNorm(features)
    norm.weight[...] = 1 + normal(rngs.params(), (features,), 0.02)
    return norm
