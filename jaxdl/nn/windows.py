"""The geometry of windows that slide over the height and width of (B, H, W, C): convolution and pooling."""

from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
from jax import lax

from jaxdl.typing import Array

Pair = int | tuple[int, int]
Padding = Pair | Literal["same", "valid"]


def pair(name: str, value: Pair, least: int) -> tuple[int, int]:
    """``value`` for height and width.

    Raises:
      ValueError: not one or two integers of at least ``least``.
    """
    both = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(both) != 2 or not all(isinstance(v, int) and v >= least for v in both):
        raise ValueError(f"expected {name} to be one or two integers of at least {least}, got {value!r}")
    return both


def pads_of(
    padding: Padding, kernel: Sequence[int], strides: tuple[int, int], dilations: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """What is put before and behind the rows and the columns.

    Raises:
      ValueError: as `conv2d`.
    """
    if padding == "same":
        if strides != (1, 1):
            raise ValueError(f"padding 'same' needs stride 1, got {strides}: give the padding as a number")
        height, width = (d * (k - 1) for k, d in zip(kernel, dilations, strict=True))
        return (height // 2, height - height // 2), (width // 2, width - width // 2)
    if isinstance(padding, str) and padding != "valid":
        raise ValueError(f"expected padding as a number, a pair, 'same' or 'valid', got {padding!r}")
    height, width = (0, 0) if padding == "valid" else pair("padding", padding, 0)
    return (height, height), (width, width)


def check_fits(
    x: Array, kernel: Sequence[int], pads: Sequence[tuple[int, int]], dilations: tuple[int, int] = (1, 1)
) -> None:
    """Raises ValueError unless ``x`` is (B, H, W, C) and the kernel fits into its padded height and width."""
    if x.ndim != 4:
        raise ValueError(f"expected an input of shape (B, H, W, C), got {x.shape}")
    padded = tuple(size + sum(pad) for size, pad in zip(x.shape[1:3], pads, strict=True))
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True))
    if any(span > size for span, size in zip(spans, padded, strict=True)):
        raise ValueError(f"a kernel of extent {spans} does not fit into the padded input {padded}")


def windows(
    x: Array, axis: int, size: int, stride: int, pad: tuple[int, int], dilation: int = 1, fill: float = 0
) -> list[Array]:
    """For each of the ``size`` places in a window along ``axis``, what stands there in every window."""
    x = lax.pad(x, jnp.array(fill, x.dtype), [(*pad, 0) if a == axis else (0, 0, 0) for a in range(x.ndim)])
    count = (x.shape[axis] - dilation * (size - 1) - 1) // stride + 1
    if stride == size and dilation == 1:
        # The gradient of split blocks joins them, on a CPU far faster than adding what strided slices give back.
        blocks = lax.slice_in_dim(x, 0, count * size, axis=axis)
        blocks = blocks.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :])
        return [lax.squeeze(place, (axis + 1,)) for place in lax.split(blocks, (1,) * size, axis + 1)]
    starts = range(0, dilation * size, dilation)
    return [lax.slice_in_dim(x, s, s + (count - 1) * stride + 1, stride, axis) for s in starts]
