"""Pooling over the height and width of (B, H, W, C) with torch's defaults, edges and gradients."""

import functools
import math

import jax.numpy as jnp

from jaxdl.nn.conv import Pair, check_fits, pair, windows
from jaxdl.typing import Array


def max_pool2d(x: Array, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Array:
    """The largest value of every window.

    As in torch the gradient of a tie goes to one place, the first in reading order, and a NaN is the largest.
    One axis is reduced after the other, with elementwise operations alone: on the CPU XLA's gradient of
    `lax.reduce_window` took most of a training step.

    Args:
      x: (B, H, W, C), floating-point.
      kernel_size: the window, one number, or one each for height and width.
      stride: the distance between windows; the window's size by default.
      padding: minus infinity on both sides, at most half the window.

    Returns:
      (B, H', W', C) with ``H' = (H + 2 * padding - kernel) // stride + 1``.

    Raises:
      ValueError: a window that does not fit, too much padding.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_pool2d.html
    """
    kernel, strides, pads = _geometry(x, kernel_size, stride, padding)
    # Columns before rows: the first row that holds the maximum, and in it the first column.
    for axis in (1, 0):
        places = windows(x, axis + 1, kernel[axis], strides[axis], pads[axis], fill=-math.inf)
        x = functools.reduce(_first_largest, places)
    return x


def avg_pool2d(
    x: Array,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    count_include_pad: bool = True,
) -> Array:
    """The mean of every window.

    Args:
      x: (B, H, W, C), floating-point.
      kernel_size: the window, one number, or one each for height and width.
      stride: the distance between windows; the window's size by default.
      padding: zeros on both sides, at most half the window.
      count_include_pad: divide by the size of the window; else by how much of it lies inside the image.

    Returns:
      (B, H', W', C) with ``H' = (H + 2 * padding - kernel) // stride + 1``.

    Raises:
      ValueError: a window that does not fit, too much padding.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.avg_pool2d.html
    """
    kernel, strides, pads = _geometry(x, kernel_size, stride, padding)
    for axis in (1, 0):
        window = (axis + 1, kernel[axis], strides[axis], pads[axis])
        if count_include_pad:
            count = kernel[axis]
        else:
            inside = jnp.ones_like(x, shape=[x.shape[a] if a == axis + 1 else 1 for a in range(4)])
            count = sum(windows(inside, *window))
        x = sum(windows(x, *window), start=jnp.zeros((), x.dtype)) / count
    return x


def _first_largest(a: Array, b: Array) -> Array:
    # Not jnp.maximum, which shares the gradient of a tie.
    return jnp.where((b > a) | jnp.isnan(b), b, a)


def _geometry(
    x: Array, kernel_size: Pair, stride: Pair | None, padding: Pair
) -> tuple[tuple[int, int], tuple[int, int], tuple[tuple[int, int], tuple[int, int]]]:
    kernel, (rows, columns) = pair("kernel_size", kernel_size, 1), pair("padding", padding, 0)
    if 2 * rows > kernel[0] or 2 * columns > kernel[1]:
        raise ValueError(f"expected a padding of at most half the kernel size {kernel}, got {padding}")
    pads = ((rows, rows), (columns, columns))
    check_fits(x, kernel, pads)
    return kernel, kernel if stride is None else pair("stride", stride, 1), pads
