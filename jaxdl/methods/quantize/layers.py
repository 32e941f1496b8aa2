"""Linear and convolutional layers whose weights are int8 codes and whose products are integers.

A layer turns its input into codes, multiplies codes with codes, adds them up in int32, exactly, and makes the sums
real numbers by one multiplication. What stands between the layers stays float32.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxdl.methods.quantize import affine
from jaxdl.methods.quantize.calibrate import Range
from jaxdl.nn.conv import Conv2d
from jaxdl.nn.linear import Linear
from jaxdl.nn.windows import pads_of, pair, windows
from jaxdl.typing import Array


@dataclasses.dataclass(frozen=True)
class Scheme:
    """How codes are made.

    Attributes:
      per_channel: weights have a scale for each output channel; otherwise one.
      bits: of the codes of inputs; 7 are torch's ``reduce_range``, for processors whose 8-bit products saturate.
    """

    per_channel: bool = True
    bits: int = 8


class Quantized(nnx.Module):
    """What both kinds of layers share.

    Args:
      layer: the layer with real weights.
      scheme: how codes are made.
      inputs: the range of the inputs' codes; without it each input has its own, found when the layer is called.

    Raises:
      ValueError: weights that are NaN or infinite.
    """

    def __init__(self, layer: Linear | Conv2d, scheme: Scheme, inputs: Range | None = None) -> None:
        weight = np.asarray(layer.weight[...], np.float32)
        codes, scale = weight_codes(weight, channel_axis(layer) if scheme.per_channel else None)
        self.weight = nnx.Param(jnp.asarray(codes), layout=layer.weight.get_metadata()["layout"])
        self.weight_scale = nnx.Param(jnp.asarray(scale))
        self.bias = layer.bias
        self.bits = scheme.bits
        ends = (
            None if inputs is None else affine.affine(*(np.asarray(end, np.float32) for end in inputs), self.bits)  # pyright: ignore[reportCallIssue]
        )
        self.input_scale = None if ends is None else nnx.Param(jnp.asarray(ends[0]))
        self.input_zero_point = None if ends is None else nnx.Param(jnp.asarray(ends[1].astype(np.int8)))

    def __call__(self, x: Array) -> Array:
        scale, zero_point = self.input_codes(x)
        codes = affine.quantize(x, scale, zero_point, self.bits)
        sums = self.integers(codes, zero_point)
        y = sums.astype(jnp.float32) * _along_last(scale * self.weight_scale[...], sums.ndim)
        return y if self.bias is None else y + _along_last(self.bias[...], sums.ndim)

    def input_codes(self, x: Array) -> tuple[Array, Array]:
        """Scale and zero point of the inputs, float32 () and int32 ()."""
        if self.input_scale is None or self.input_zero_point is None:
            return affine.affine(jnp.min(x), jnp.max(x), self.bits)
        return self.input_scale[...], self.input_zero_point[...].astype(jnp.int32)

    def integers(self, codes: Array, zero_point: Array) -> Array:
        """Sums of ``(code - zero point) * weight code``, int32."""
        raise NotImplementedError


class QuantizedLinear(Quantized):
    """`Linear` in integers: (..., in) -> (..., out)."""

    def integers(self, codes: Array, zero_point: Array) -> Array:
        return _product(codes, self.weight[...], zero_point)


class QuantizedConv2d(Quantized):
    """`Conv2d` in integers: (B, H, W, Cin) -> (B, H', W', Cout).

    Raises:
      ValueError: a grouped convolution.
    """

    def __init__(self, layer: Conv2d, scheme: Scheme, inputs: Range | None = None) -> None:
        if layer.groups != 1:
            raise ValueError(f"grouped convolutions have no int8 form here; got one of {layer.groups} groups")
        super().__init__(layer, scheme, inputs)
        kernel = layer.weight.shape[:2]
        self.strides, self.dilations = pair("stride", layer.stride, 1), pair("dilation", layer.dilation, 1)
        self.pads = pads_of(layer.padding, kernel, self.strides, self.dilations)

    def integers(self, codes: Array, zero_point: Array) -> Array:
        weight = self.weight[...]
        # What is padded stands for zero, so it is the zero point. Columns first: the order of the weight's axes.
        for axis in (1, 0):
            place = (axis + 1, weight.shape[axis], self.strides[axis], self.pads[axis], self.dilations[axis])
            codes = jnp.concatenate(windows(codes, *place, fill=zero_point.astype(jnp.int8)), -1)  # pyright: ignore[reportArgumentType]
        return _product(codes, weight.reshape(-1, weight.shape[-1]).T, zero_point)


def channel_axis(layer: Linear | Conv2d) -> int:
    """The axis of the weight that counts output channels."""
    return 0 if isinstance(layer, Linear) else 3


def weight_codes(weight: np.ndarray, channel: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Codes, int8, and scales, float32 (channels,) or (1,), of a weight; the zero point is 0.

    Raises:
      ValueError: a weight that is NaN or infinite.

    Source: torch.ao.quantization.PerChannelMinMaxObserver and MinMaxObserver, symmetric
    """
    check_finite(weight)
    others = tuple(axis for axis in range(weight.ndim) if axis != channel)
    scale = affine.symmetric(np.abs(weight).max(others, keepdims=True))
    return affine.quantize(weight, scale), scale.ravel()


def check_finite(weight: Any) -> None:
    """Raises ValueError for a weight that is NaN or infinite."""
    if not np.isfinite(np.asarray(weight)).all():
        raise ValueError("a weight is NaN or infinite")


def _product(codes: Array, weight: Array, zero_point: Array) -> Array:
    """``(codes - zero_point) @ weight.T`` as (..., in), (out, in) -> (..., out), int32, of int8 products."""
    contract = (((codes.ndim - 1,), (1,)), ((), ()))
    sums = lax.dot_general(codes, weight, contract, preferred_element_type=jnp.int32)
    offsets = zero_point * weight.astype(jnp.int32).sum(1)
    return sums - _along_last(offsets, sums.ndim)


def _along_last(values: Array, ndim: int) -> Array:
    return values.reshape((1,) * (ndim - 1) + (-1,))
