"""3x3 convolution with 16 multiplications where the sum over the window has 36: Winograd's minimal filtering.

Source: F(2x2, 3x3) of Lavin and Gray, https://arxiv.org/abs/1509.09308
"""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.nn.windows import windows
from jaxdl.typing import Array

FEWEST_CHANNELS = 16  # with fewer, the sums that make the tiles take longer than the products they save
PAYS = 2 / 3  # of the multiplications of a direct convolution; small odd images fill their tiles badly


def pays(image: Sequence[int], kernel: Sequence[int], channels: int) -> bool:
    """Whether it is faster on a CPU than one product over patches.

    Args:
      image: (H', W') of the output.
      kernel: (kh, kw); the stride is 1 and there is no dilation.
      channels: of the input.
    """
    multiplications = 16 * math.prod(-(-size // 2) for size in image)
    return (
        tuple(kernel) == (3, 3) and channels >= FEWEST_CHANNELS and multiplications <= PAYS * 9 * math.prod(image)
    )


def conv3x3(x: Array, weight: Array, pads: Sequence[tuple[int, int]]) -> Array:
    """The convolution of stride 1, by products of 16 matrices: one for each place in tiles of 4x4 that overlap.

    In float32 its errors are about twice those of a sum over the window; 16 bits would lose too much in the tiles.

    Args:
      x: (B, H, W, Cin).
      weight: (3, 3, Cin, Cout).
      pads: what is put before and behind the rows and the columns.

    Returns:
      (B, H', W', Cout) with ``H' = H + sum(pads[0]) - 2``.
    """
    # For the gradient x is kept, not its tiles: they are four times as large and cheap to make again.
    return jax.checkpoint(functools.partial(_by_tiles, pads=pads))(x, weight)


def _by_tiles(x: Array, weight: Array, pads: Sequence[tuple[int, int]]) -> Array:
    (batch, *image, channels), features = x.shape, weight.shape[-1]
    height, width = (size + sum(pad) - 2 for size, pad in zip(image, pads, strict=True))
    down, across = -(-height // 2), -(-width // 2)  # tiles, each with 2x2 of the output
    (top, _), (left, _) = pads
    filled = (top, 2 * down + 2 - image[0] - top, 0), (left, 2 * across + 2 - image[1] - left, 0)
    x = lax.pad(x, jnp.zeros((), x.dtype), ((0, 0, 0), *filled, (0, 0, 0)))
    inputs = [_of_input(row, 2) for row in _of_input(x, 1)]
    kernels = [_of_kernel(row, 0) for row in _of_kernel(weight, 0)]
    # A product a place: on a CPU one batch of all sixteen takes longer than the convolution did without tiles.
    products = [
        [tile.reshape(-1, channels) @ kernel for tile, kernel in zip(*rows, strict=True)]
        for rows in zip(inputs, kernels, strict=True)
    ]
    columns = [_of_output(column) for column in zip(*products, strict=True)]
    rows = [_of_output(row) for row in zip(*columns, strict=True)]
    y = jnp.stack([y for row in rows for y in row]).reshape(2, 2, batch, down, across, features)
    y = y.transpose(2, 3, 0, 4, 1, 5).reshape(batch, 2 * down, 2 * across, features)
    return y[:, :height, :width]


def _of_input(x: Array, axis: int) -> list[Array]:
    """The four places of each tile along ``axis``, where tiles begin at every second place."""
    even, odd = windows(x, axis, 2, 2, (0, 0))
    first = (lax.slice_in_dim(half, 0, -1, axis=axis) for half in (even, odd))
    last = (lax.slice_in_dim(half, 1, None, axis=axis) for half in (even, odd))
    (a, b), (c, d) = first, last
    return [a - c, b + c, c - b, b - d]


def _of_kernel(weight: Array, axis: int) -> list[Array]:
    a, b, c = (lax.index_in_dim(weight, place, axis, keepdims=False) for place in range(3))
    half = (a + c) / 2
    return [a, half + b / 2, half - b / 2, c]


def _of_output(products: Sequence[Array]) -> tuple[Array, Array]:
    a, b, c, d = products
    return a + b + c, b - c - d
