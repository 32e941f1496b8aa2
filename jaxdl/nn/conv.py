"""Two-dimensional convolution over (B, H, W, C) with torch's arguments, lowered as each platform likes it."""

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxdl.nn.init import Init, torch_uniform
from jaxdl.nn.layout import CONV2D
from jaxdl.typing import Array

Pair = int | tuple[int, int]
Padding = Pair | Literal["same", "valid"]


class Conv2d(nnx.Module):
    """`conv2d` with its own ``weight`` (kh, kw, in/groups, out) and ``bias`` (out,).

    Args:
      in_channels, out_channels: sizes of the last axis of the input and of the output.
      kernel_size, stride, padding, dilation: one number, or one each for height and width.
      groups: into how many independent convolutions the channels are divided.
      bias: without it, ``bias`` is None.
      weight_init, bias_init: their initial values; `torch_uniform` by default.
      rngs: draws ``weight`` and ``bias`` from its ``params`` stream.

    Raises:
      ValueError: channels that ``groups`` does not divide.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Conv2d.html
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        weight_init: Init | None = None,
        bias_init: Init | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        check_groups(in_channels, out_channels, groups)
        shape = (*pair("kernel_size", kernel_size, 1), in_channels // groups, out_channels)
        uniform = functools.partial(torch_uniform, fan_in=math.prod(shape[:3]))
        self.weight = nnx.Param((weight_init or uniform)(rngs.params(), shape), layout=CONV2D)
        self.bias = nnx.Param((bias_init or uniform)(rngs.params(), (out_channels,))) if bias else None
        self.padding: Padding = padding
        self.stride, self.dilation, self.groups = stride, dilation, groups

    def __call__(self, x: Array) -> Array:
        return conv2d(
            x,
            self.weight[...],
            None if self.bias is None else self.bias[...],
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )


def check_groups(in_channels: int, out_channels: int, groups: int) -> None:
    """
    Raises:
      ValueError: channels that ``groups`` does not divide.
    """
    if groups < 1 or in_channels % groups or out_channels % groups:
        raise ValueError(
            f"expected groups that divide in and out channels {(in_channels, out_channels)}, got {groups}"
        )


def conv2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Array:
    """The cross-correlation that deep learning calls convolution.

    On the CPU an ungrouped convolution is matrix products; everything else is XLA's own convolution.
    XLA computes the gradients of its convolution on the CPU with plain loops: the CNN of this project trained 30
    times slower inside `lax.scan` than with matrix products, which run on all cores there. What is kept for the
    gradient costs ``kw`` times the memory of ``x``, or ``kh * kw`` times with a stride or few input channels.

    Args:
      x: (B, H, W, Cin).
      weight: (kh, kw, Cin / groups, Cout), of the dtype of ``x``.
      bias: (Cout,).
      stride, padding, dilation: one number, or one each for height and width; ``padding`` is put on both sides,
        or is "valid" (none) or, with stride 1, "same" (the output is as large as the input).
      groups: into how many independent convolutions the channels are divided.

    Returns:
      (B, H', W', Cout) with ``H' = (H + 2 * padding - dilation * (kh - 1) - 1) // stride + 1``.

    Raises:
      ValueError: shapes that do not fit, a kernel larger than the padded input, "same" with a stride.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html
    """
    _check_channels(x, weight, bias, groups)
    strides, dilations = pair("stride", stride, 1), pair("dilation", dilation, 1)
    pads = pads_of(padding, weight.shape[:2], strides, dilations)
    check_fits(x, weight.shape[:2], pads, dilations)
    y = _convolution(x, weight, strides, pads, dilations, groups)
    return y if bias is None else y + bias.reshape(1, 1, 1, -1)


def pair(name: str, value: Pair, least: int) -> tuple[int, int]:
    """``value`` for height and width.

    Raises:
      ValueError: not one or two integers of at least ``least``.
    """
    both = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(both) != 2 or not all(isinstance(v, int) and v >= least for v in both):
        raise ValueError(f"expected {name} to be one or two integers of at least {least}, got {value!r}")
    return both


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
    x = jnp.pad(x, [pad if a == axis else (0, 0) for a in range(x.ndim)], constant_values=fill)
    count = (x.shape[axis] - dilation * (size - 1) - 1) // stride + 1
    if stride == size and dilation == 1:
        # The gradient of an index into blocks is far faster on the CPU than that of a strided slice.
        blocks = lax.slice_in_dim(x, 0, count * size, axis=axis)
        blocks = blocks.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :])
        return [lax.index_in_dim(blocks, place, axis + 1, keepdims=False) for place in range(size)]
    starts = range(0, dilation * size, dilation)
    return [lax.slice_in_dim(x, s, s + (count - 1) * stride + 1, stride, axis) for s in starts]


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _convolution(
    x: Array,
    weight: Array,
    strides: tuple[int, int],
    pads: tuple[tuple[int, int], tuple[int, int]],
    dilations: tuple[int, int],
    groups: int,
) -> Array:
    def xla(x: Array, weight: Array) -> Array:
        return lax.conv_general_dilated(
            x,
            weight,
            strides,
            pads,
            rhs_dilation=dilations,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    def matrices(x: Array, weight: Array) -> Array:
        rows, columns, channels, features = weight.shape
        cheaper = rows > 1 and strides[0] == 1 and features <= columns * channels
        # The sum of rows would round a narrow type once a row.
        by_rows = cheaper and jnp.finfo(x.dtype).bits >= 32
        return (_sum_of_rows if by_rows else _patches)(x, weight, strides, pads, dilations)

    if groups > 1:
        return xla(x, weight)
    # Decided when the program is compiled, so a program for the CPU of a GPU machine is fast as well.
    return lax.platform_dependent(x, weight, cpu=matrices, default=xla)


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


def _check_channels(x: Array, weight: Array, bias: Array | None, groups: int) -> None:
    if weight.ndim != 4 or x.shape[-1:] != (weight.shape[2] * groups,) or weight.shape[3] % groups:
        raise ValueError(
            f"expected x (B, H, W, Cin) and weight (kh, kw, Cin / {groups}, a multiple of {groups}), "
            f"got {x.shape} and {weight.shape}"
        )
    if bias is not None and bias.shape != weight.shape[3:]:
        raise ValueError(f"expected a bias of shape {weight.shape[3:]}, got {bias.shape}")


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
