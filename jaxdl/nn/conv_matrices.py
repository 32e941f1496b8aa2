"""An ungrouped convolution as matrix products, which XLA divides over the cores of a CPU.

XLA computes the gradients of its own convolution on the CPU with plain loops: the CNN of this project trained 30
times slower inside `lax.scan` than with matrix products.
"""

import functools
from typing import Any

import jax.numpy as jnp
from jax import lax

from jaxdl.nn import winograd
from jaxdl.nn.windows import windows
from jaxdl.typing import Array

Pads = tuple[tuple[int, int], tuple[int, int]]


def by_matrices(
    x: Array, weight: Array, *, strides: tuple[int, int], pads: Pads, dilations: tuple[int, int]
) -> Array:
    """The convolution in whichever way is the fastest for its shapes.

    What is kept for the gradient is ``x`` where `winograd.conv3x3` computes it; otherwise ``kw`` times its memory,
    or ``kh * kw`` times with a stride or few input channels.

    Args:
      x: (B, H, W, Cin).
      weight: (kh, kw, Cin, Cout).
      strides, pads, dilations: for height and width.

    Returns:
      (B, H', W', Cout).
    """
    for axis in (0, 1):
        weight, pads = _without_unseen(weight, x.shape[1 + axis], axis, strides, pads, dilations)
    rows, columns, channels, features = weight.shape
    image = [size + sum(pad) - k + 1 for size, pad, k in zip(x.shape[1:3], pads, weight.shape[:2], strict=True)]
    wide = jnp.finfo(x.dtype).bits >= 32  # what adds up products rounds a narrow type more than once
    if wide and strides == dilations == (1, 1) and winograd.pays(image, (rows, columns), channels):
        return winograd.conv3x3(x, weight, pads)
    by_rows = wide and rows > 1 and strides[0] == 1 and features <= columns * channels
    return (_sum_of_rows if by_rows else _patches)(x, weight, strides, pads, dilations)


def _without_unseen(
    weight: Array, size: int, axis: int, strides: Any, pads: Pads, dilations: Any
) -> tuple[Array, Pads]:
    """The kernel without its outer rows (or columns) that lie in the padding wherever it stands, and the new pads.

    Of the 3x3 kernels over the images of 1x1 in a ResNet-18's last stage, one number in nine is left.
    """
    stride, (before, after), dilation = strides[axis], pads[axis], dilations[axis]
    length = weight.shape[axis]
    count = (size + before + after - dilation * (length - 1) - 1) // stride + 1
    starts = [dilation * place - before for place in range(length)]  # what each place of the kernel sees first
    seen = [k for k, start in enumerate(starts) if any(0 <= start + stride * o < size for o in range(count))]
    first, last = (seen[0], seen[-1]) if seen else (0, 0)
    weight = lax.slice_in_dim(weight, first, last + 1, axis=axis)
    new = (-starts[first], stride * (count - 1) + starts[last] + 1 - size)
    return weight, (new, pads[1]) if axis == 0 else (pads[0], new)


def _patches(x: Array, weight: Array, strides: Any, pads: Any, dilations: Any) -> Array:
    """What lies under the kernel, times the kernel as one matrix."""
    # Columns before rows, so that the channels come out in the order (kh, kw, Cin) of the weight.
    for axis in (1, 0):
        places = windows(x, axis + 1, weight.shape[axis], strides[axis], pads[axis], dilations[axis])
        x = jnp.concatenate(places, axis=-1)
    y = x.reshape(-1, x.shape[-1]) @ weight.reshape(-1, weight.shape[-1])
    return y.reshape(*x.shape[:-1], weight.shape[-1])


def _sum_of_rows(x: Array, weight: Array, strides: Any, pads: Any, dilations: Any) -> Array:
    """Each row of the kernel is a convolution along the width; the results are shifted and added.

    Moves ``kw * Cin + kh * Cout`` numbers a pixel where patches move ``kh * kw * Cin``, and keeps a third of them
    for the gradient.
    """
    rows, columns, channels, features = weight.shape
    x = jnp.concatenate(windows(x, 2, columns, strides[1], pads[1], dilations[1]), axis=-1)
    height = x.shape[1] + sum(pads[0]) - dilations[0] * (rows - 1)
    parts = []
    for row in range(rows):
        y = x.reshape(-1, x.shape[-1]) @ weight[row].reshape(columns * channels, features)
        top = pads[0][0] - dilations[0] * row  # where the first row of x belongs; a negative padding cuts off
        shift = ((0, 0, 0), (top, height - x.shape[1] - top, 0), (0, 0, 0), (0, 0, 0))
        parts.append(lax.pad(y.reshape(*x.shape[:3], features), jnp.zeros((), x.dtype), shift))
    return functools.reduce(jnp.add, parts)
