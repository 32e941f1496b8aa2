"""Two-dimensional transposed convolution over (B, H, W, C) with torch's arguments."""

import functools
import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jaxdl.nn.conv import check_groups
from jaxdl.nn.init import Init, torch_uniform
from jaxdl.nn.layout import Layout
from jaxdl.nn.windows import Pair, pair
from jaxdl.typing import Array

CONV_TRANSPOSE2D = Layout((2, 3, 0, 1))  # (height, width, in, out) -> (in, out, height, width)


class ConvTranspose2d(nnx.Module):
    """`conv_transpose2d` with its own ``weight`` (kh, kw, in, out/groups) and ``bias`` (out,).

    Args:
      in_channels, out_channels: sizes of the last axis of the input and of the output.
      kernel_size, stride, padding, output_padding: one number, or one each for height and width.
      groups: into how many independent transposed convolutions the channels are divided.
      bias: without it, ``bias`` is None.
      dilation: as ``stride``.
      weight_init, bias_init: their initial values; `torch_uniform` by default.
      rngs: draws ``weight`` and ``bias`` from its ``params`` stream.

    Raises:
      ValueError: channels that ``groups`` does not divide.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.ConvTranspose2d.html
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair = 0,
        output_padding: Pair = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Pair = 1,
        *,
        weight_init: Init | None = None,
        bias_init: Init | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        check_groups(in_channels, out_channels, groups)
        kernel = pair("kernel_size", kernel_size, 1)
        shape = (*kernel, in_channels, out_channels // groups)
        # torch takes the second axis of its weight for the number of inputs, and here that is the outputs'.
        uniform = functools.partial(torch_uniform, fan_in=math.prod(kernel) * shape[3])
        self.weight = nnx.Param((weight_init or uniform)(rngs.params(), shape), layout=CONV_TRANSPOSE2D)
        self.bias = nnx.Param((bias_init or uniform)(rngs.params(), (out_channels,))) if bias else None
        self.stride, self.padding, self.output_padding = stride, padding, output_padding
        self.dilation, self.groups = dilation, groups

    def __call__(self, x: Array) -> Array:
        return conv_transpose2d(
            x,
            self.weight[...],
            None if self.bias is None else self.bias[...],
            stride=self.stride,
            padding=self.padding,
            output_padding=self.output_padding,
            groups=self.groups,
            dilation=self.dilation,
        )


def conv_transpose2d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> Array:
    """The gradient of a convolution with respect to its input: every pixel adds a multiple of the kernel.

    On the CPU it is one matrix product whose parts are added where they belong, axis by axis; elsewhere XLA's
    convolution of the input with zeros in between, whose gradients on the CPU are plain loops.

    Args:
      x: (B, H, W, Cin).
      weight: (kh, kw, Cin, Cout / groups), of the dtype of ``x``.
      bias: (Cout,).
      stride: pixels of the output from one pixel of the input to the next.
      padding: how much of the output is cut off on every side.
      output_padding: rows and columns added below and at the right, where not even the kernel reaches.
      groups: into how many independent ones the channels are divided.
      dilation: pixels of the output from one element of the kernel to the next.

    Returns:
      (B, H', W', Cout), ``H' = (H - 1) * stride - 2 * padding + dilation * (kh - 1) + output_padding + 1``.

    Raises:
      ValueError: shapes that do not fit, an output padding that is not below the stride or the dilation, an output
        without a pixel.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv_transpose2d.html
    """
    strides, dilations = pair("stride", stride, 1), pair("dilation", dilation, 1)
    cut, extra = pair("padding", padding, 0), pair("output_padding", output_padding, 0)
    _check(x, weight, bias, groups)
    for more, step, spread in zip(extra, strides, dilations, strict=True):
        if more >= max(step, spread):
            raise ValueError(
                f"expected an output_padding below stride {strides} or dilation {dilations}, got {extra}"
            )
    kernel = weight.shape[:2]
    size = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + more + 1
        for n, s, p, d, k, more in zip(x.shape[1:3], strides, cut, dilations, kernel, extra, strict=True)
    )
    if min(size) < 1:
        raise ValueError(f"an image of {x.shape[1]}x{x.shape[2]} would become one of {size[0]}x{size[1]} pixels")
    y = _transposed(x, weight, strides, cut, size, dilations, groups)
    return y if bias is None else y + bias.reshape(1, 1, 1, -1)


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5, 6))
def _transposed(
    x: Array,
    weight: Array,
    strides: tuple[int, int],
    cut: tuple[int, int],
    size: tuple[int, int],
    dilations: tuple[int, int],
    groups: int,
) -> Array:
    def matrices(x: Array, weight: Array) -> Array:
        parts = _products(x, weight, groups)
        for axis in (2, 1):  # the columns first, which leaves fewer numbers for the rows
            parts = _added(parts, axis, strides[axis - 1], dilations[axis - 1], cut[axis - 1], size[axis - 1])
        return parts

    def xla(x: Array, weight: Array) -> Array:
        flipped = _grouped(weight, groups)[::-1, ::-1]
        pads = [
            (d * (k - 1) - p, n - 1 - ((m - 1) * s - p))
            for d, k, p, n, m, s in zip(dilations, weight.shape, cut, size, x.shape[1:3], strides, strict=False)
        ]
        return lax.conv_general_dilated(
            x,
            flipped,
            (1, 1),
            pads,
            lhs_dilation=strides,
            rhs_dilation=dilations,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )

    # Decided when the program is compiled, so a program for the CPU of a GPU machine is fast as well.
    return lax.platform_dependent(x, weight, cpu=matrices, default=xla)


def _products(x: Array, weight: Array, groups: int) -> Array:
    """What each pixel adds: (B, H, W, kh, kw, Cout)."""
    rows, columns, channels, features = weight.shape
    pixels = x.reshape(-1, groups, channels // groups)
    kernels = weight.reshape(rows * columns, groups, channels // groups, features)
    if groups == 1:
        products = pixels[:, 0] @ kernels[:, 0].transpose(1, 0, 2).reshape(channels, -1)
    else:
        products = jnp.einsum("ngi,kgio->nkgo", pixels, kernels)
    return products.reshape(*x.shape[:3], rows, columns, groups * features)


def _added(parts: Array, axis: int, stride: int, dilation: int, cut: int, size: int) -> Array:
    """The parts of one axis of the kernel, which is the one before the last, added up along ``axis`` of the image.

    (B, H, W, kh, kw, C) -> (B, H, W', kh, C) for the columns, then (B, H, W', kh, C) -> (B, H', W', C).
    """
    kernel, zero = parts.ndim - 2, jnp.zeros((), parts.dtype)
    total = []
    for place in range(parts.shape[kernel]):
        part = lax.index_in_dim(parts, place, kernel, keepdims=False)
        low = dilation * place - cut
        reach = low + (part.shape[axis] - 1) * stride + 1
        config = [(0, 0, 0)] * part.ndim
        config[axis] = (low, size - reach, stride - 1)
        total.append(lax.pad(part, zero, config))
    return functools.reduce(jnp.add, total)


def _grouped(weight: Array, groups: int) -> Array:
    """(kh, kw, Cin, Cout/groups) -> (kh, kw, Cin/groups, Cout), as XLA's convolution wants it."""
    rows, columns, channels, features = weight.shape
    parts = weight.reshape(rows, columns, groups, channels // groups, features)
    return parts.transpose(0, 1, 3, 2, 4).reshape(rows, columns, channels // groups, groups * features)


def _check(x: Array, weight: Array, bias: Array | None, groups: int) -> None:
    if weight.ndim != 4 or x.ndim != 4 or x.shape[3] != weight.shape[2] or weight.shape[2] % groups:
        raise ValueError(
            f"expected x (B, H, W, Cin) and weight (kh, kw, Cin, Cout / {groups}) with Cin a multiple of {groups}"
            f", got {x.shape} and {weight.shape}"
        )
    if bias is not None and bias.shape != (weight.shape[3] * groups,):
        raise ValueError(f"expected a bias of shape {(weight.shape[3] * groups,)}, got {bias.shape}")
