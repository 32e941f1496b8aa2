"""Two-dimensional convolution over (B, H, W, C) with torch's arguments, lowered as each platform likes it."""

import functools
import math

import jax
from flax import nnx
from jax import lax

from jaxdl.nn.conv_matrices import by_matrices
from jaxdl.nn.init import Init, torch_uniform
from jaxdl.nn.layout import CONV2D
from jaxdl.nn.windows import Padding, Pair, check_fits, pads_of, pair
from jaxdl.typing import Array


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

    On the CPU an ungrouped convolution is matrix products (`by_matrices`); everything else is XLA's own.

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

    if groups > 1:
        return xla(x, weight)
    matrices = functools.partial(by_matrices, strides=strides, pads=pads, dilations=dilations)
    # Decided when the program is compiled, so a program for the CPU of a GPU machine is fast as well.
    return lax.platform_dependent(x, weight, cpu=matrices, default=xla)


def _check_channels(x: Array, weight: Array, bias: Array | None, groups: int) -> None:
    if weight.ndim != 4 or x.shape[-1:] != (weight.shape[2] * groups,) or weight.shape[3] % groups:
        raise ValueError(
            f"expected x (B, H, W, Cin) and weight (kh, kw, Cin / {groups}, a multiple of {groups}), "
            f"got {x.shape} and {weight.shape}"
        )
    if bias is not None and bias.shape != weight.shape[3:]:
        raise ValueError(f"expected a bias of shape {weight.shape[3:]}, got {bias.shape}")
