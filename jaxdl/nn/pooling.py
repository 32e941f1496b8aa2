"""Pooling over the height and width of (B, H, W, C) with torch's defaults, edges and gradients."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.nn.conv import Pair, check_fits, pair, windows
from jaxdl.typing import Array


def max_pool2d(x: Array, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0) -> Array:
    """The largest value of every window.

    As in torch the gradient of a tie goes to one place, the first in reading order, and a NaN is the largest.
    Elementwise operations alone: on the CPU XLA's gradient of `lax.reduce_window` took most of a training step.
    Windows that do not overlap remember which of their values it was, which makes the gradient one pass over them.

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
    if kernel == strides and pads == ((0, 0), (0, 0)):
        return _max_of_blocks(x, kernel, x.shape[1:3])
    return _max_pool(x, kernel, strides, pads)


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

    # Decided when the program is compiled. The default is one operation that exporters know as pooling.
    return lax.platform_dependent(x, cpu=axes, cuda=axes, default=lambda x: _window_max(x, kernel, strides, pads))


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
@functools.partial(jax.jit, static_argnums=(1, 2))
def _max_of_blocks(x: Array, kernel: tuple[int, int], size: tuple[int, int]) -> Array:
    """`max_pool2d` with windows side by side; its gradient needs the input's height and width, ``size``."""
    del size

    def elementwise(x: Array) -> Array:
        return functools.reduce(_first_largest, _places(x, kernel))

    def xla(x: Array) -> Array:
        return _window_max(x, kernel, kernel, ((0, 0), (0, 0)))

    return lax.platform_dependent(x, cpu=elementwise, cuda=elementwise, default=xla)


def _max_and_place(x: Array, kernel: tuple[int, int], size: tuple[int, int]) -> tuple[Array, Array]:
    """The maximum of each block, and its place in reading order."""
    del size
    x = lax.optimization_barrier(x)  # else XLA computes it once for the maximum and once more for the place
    largest, *others = _places(x, kernel)
    number = jnp.zeros(largest.shape, jnp.int16)
    for place, value in enumerate(others, 1):
        number = jnp.where(_is_larger(value, largest), jnp.asarray(place, jnp.int16), number)
        largest = _first_largest(largest, value)
    return largest, number


def _to_place(kernel: tuple[int, int], size: tuple[int, int], number: Array, gradient: Array) -> tuple[Array]:
    (rows, columns), (batch, height, width, channels) = kernel, gradient.shape
    numbers = jnp.arange(rows * columns, dtype=number.dtype).reshape(1, 1, rows, 1, columns, 1)
    x = jnp.where(number[:, :, None, :, None] == numbers, gradient[:, :, None, :, None], 0)
    x = x.reshape(batch, height * rows, width * columns, channels)
    rest = [(0, whole - covered) for whole, covered in zip(size, x.shape[1:3], strict=True)]
    return (jnp.pad(x, ((0, 0), *rest, (0, 0))),)


_max_of_blocks.defvjp(_max_and_place, _to_place)


def _places(x: Array, kernel: tuple[int, int]) -> list[Array]:
    """What stands at each place of all blocks, in reading order; what no block covers is left out."""
    (rows, columns), (height, width) = kernel, (size // k for size, k in zip(x.shape[1:3], kernel, strict=True))
    x = x[:, : height * rows, : width * columns].reshape(x.shape[0], height, rows, width, columns, -1)
    return [x[:, :, row, :, column] for row in range(rows) for column in range(columns)]


def _window_max(x: Array, kernel: tuple[int, int], strides: tuple[int, int], pads: Any) -> Array:
    return lax.reduce_window(x, -math.inf, lax.max, (1, *kernel, 1), (1, *strides, 1), ((0, 0), *pads, (0, 0)))


def _first_largest(a: Array, b: Array) -> Array:
    # Not jnp.maximum, which shares the gradient of a tie.
    return jnp.where(_is_larger(b, a), b, a)


def _is_larger(b: Array, a: Array) -> Array:
    return (b > a) | jnp.isnan(b)


def _geometry(
    x: Array, kernel_size: Pair, stride: Pair | None, padding: Pair
) -> tuple[tuple[int, int], tuple[int, int], tuple[tuple[int, int], tuple[int, int]]]:
    kernel, (rows, columns) = pair("kernel_size", kernel_size, 1), pair("padding", padding, 0)
    if 2 * rows > kernel[0] or 2 * columns > kernel[1]:
        raise ValueError(f"expected a padding of at most half the kernel size {kernel}, got {padding}")
    pads = ((rows, rows), (columns, columns))
    check_fits(x, kernel, pads)
    return kernel, kernel if stride is None else pair("stride", stride, 1), pads
