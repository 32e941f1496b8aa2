"""Pooling over the height and width of (B, H, W, C) with torch's defaults, edges and gradients."""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.nn.windows import Pair, check_fits, pair, windows
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
    return _max_pool(x, *_geometry(x, kernel_size, stride, padding))


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


def adaptive_avg_pool2d(x: Array, output_size: Pair) -> Array:
    """The mean of each of ``output_size`` windows that together cover the image, whatever its size.

    Window ``i`` of ``n`` along an axis reaches from ``floor(i * size / n)`` to ``ceil((i + 1) * size / n)``.

    Args:
      x: (B, H, W, C), floating-point.
      output_size: how many windows, one number, or one each for height and width.

    Returns:
      (B, H', W', C) with ``output_size`` as (H', W').

    Raises:
      ValueError: an input of other axes, no pixels.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.adaptive_avg_pool2d.html
    """
    counts = pair("output_size", output_size, 1)
    check_fits(x, (1, 1), ((0, 0), (0, 0)))
    for axis, count in zip((1, 2), counts, strict=True):
        size = x.shape[axis]
        ends = [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]
        means = [lax.slice_in_dim(x, *end, axis=axis).mean(axis, keepdims=True) for end in ends]
        x = jnp.concatenate(means, axis)
    return x


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _max_pool(
    x: Array, kernel: tuple[int, int], strides: tuple[int, int], pads: tuple[tuple[int, int], tuple[int, int]]
) -> Array:
    def axes(x: Array) -> Array:
        # Columns before rows: the first row that holds the maximum, and in it the first column.
        for axis in (1, 0):
            places = windows(x, axis + 1, kernel[axis], strides[axis], pads[axis], fill=-math.inf)
            x = functools.reduce(_first_largest, places)
        return x

    def xla(x: Array) -> Array:
        pad = ((0, 0), *pads, (0, 0))
        return lax.reduce_window(x, -math.inf, lax.max, (1, *kernel, 1), (1, *strides, 1), pad)

    # Decided when the program is compiled. The default is one operation that exporters know as pooling.
    return lax.platform_dependent(x, cpu=axes, cuda=axes, default=xla)


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
