"""Linear and convolutional layers whose weights are int8 codes and whose products are integers.

A layer turns its input into codes, multiplies codes with codes, adds them up in int32, exactly, and makes the sums
real numbers by one multiplication. What stands between the layers stays float32.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxdl.methods.quantize import affine
from jaxdl.methods.quantize.calibrate import Range
from jaxdl.nn.conv import Conv2d, pads_of, pair, windows
from jaxdl.nn.linear import Linear
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


def swap(model: nnx.Module, replace: Callable[[str, Linear | Conv2d], Any]) -> nnx.Module:
    """A copy of the model with another module in place of each `Linear` and `Conv2d`.

    Args:
      model: not changed.
      replace: ``(name, layer) -> module``.

    Raises:
      ValueError: the model has no such layer; or as ``replace``, with the layer's name.
    """
    model = nnx.clone(model)
    found = [(path, part) for path, part in nnx.iter_modules(model) if isinstance(part, Linear | Conv2d)]
    if not found:
        raise ValueError(f"{type(model).__name__} has no linear or convolutional layer to quantize")
    for path, layer in found:
        name = ".".join(map(str, path))
        try:
            module = replace(name, layer)
        except ValueError as error:
            raise ValueError(f"{name} cannot be quantized: {error}") from error
        _put(model, path, module)
    return model


def quantize(model: nnx.Module, scheme: Scheme, ranges: dict[str, Range] | None = None) -> nnx.Module:
    """A copy of the model that computes its `Linear` and `Conv2d` layers in int8.

    Other parameters (norms, embeddings, the packed projection of an attention) stay float32, as with torch's
    ``quantize_dynamic``.

    Args:
      model: in evaluation mode.
      scheme: how codes are made.
      ranges: of each layer's inputs (static quantization); without it they are found anew in every call (dynamic).

    Raises:
      ValueError: a model without such layers, a grouped convolution, a weight that is no number, a missing range.
    """

    def quantized(name: str, layer: Linear | Conv2d) -> Quantized:
        if ranges is not None and name not in ranges:
            raise ValueError("its inputs were not seen in calibration")
        kind = QuantizedLinear if isinstance(layer, Linear) else QuantizedConv2d
        return kind(layer, scheme, None if ranges is None else ranges[name])  # pyright: ignore[reportArgumentType]

    return swap(model, quantized)


def like(model: nnx.Module, scheme: Scheme, *, static: bool) -> nnx.Module:
    """What `quantize` makes of such a model, with other values: to load those that were written."""
    names: list[str] = []
    swap(model, lambda name, layer: names.append(name) or layer)
    return quantize(model, scheme, {name: (np.float32(0), np.float32(1)) for name in names} if static else None)


def quantized_layers(model: nnx.Module) -> dict[str, Quantized]:
    """The layers of a model that compute in int8, by name."""
    return {
        ".".join(map(str, path)): part for path, part in nnx.iter_modules(model) if isinstance(part, Quantized)
    }


class _Tap(nnx.Module):
    """A layer that tells of its inputs when it is called, as the arrays of a program."""

    def __init__(self, name: str, layer: Any, tell: Callable[[str, Array], None]) -> None:
        self.name, self.layer, self.tell = name, layer, tell

    def __call__(self, x: Array) -> Array:
        self.tell(self.name, x)
        return self.layer(x)


def observe(model: nnx.Module, batches: Any, see: Callable[[str, np.ndarray], None]) -> None:
    """Runs a model on batches of prepared images and gives each layer's name and input to ``see``.

    Raises:
      ValueError: as `quantize`.
    """
    told: list[tuple[str, Array]] = []

    def tap(name: str, layer: Linear | Conv2d) -> _Tap:
        check_finite(layer.weight[...])  # or the inputs behind it would be blamed
        return _Tap(name, layer, lambda *call: told.append(call))

    tapped = swap(model, tap)

    @jax.jit
    def inputs(batch: Array) -> list[Array]:
        told.clear()
        tapped(batch)  # pyright: ignore[reportCallIssue]
        return [x for _, x in told]

    for batch in batches:
        found = jax.device_get(inputs(batch))
        for (name, _), x in zip(told, found, strict=True):
            see(name, x)


def _product(codes: Array, weight: Array, zero_point: Array) -> Array:
    """``(codes - zero_point) @ weight.T`` as (..., in), (out, in) -> (..., out), int32, of int8 products."""
    contract = (((codes.ndim - 1,), (1,)), ((), ()))
    sums = lax.dot_general(codes, weight, contract, preferred_element_type=jnp.int32)
    offsets = zero_point * weight.astype(jnp.int32).sum(1)
    return sums - _along_last(offsets, sums.ndim)


def _along_last(values: Array, ndim: int) -> Array:
    return values.reshape((1,) * (ndim - 1) + (-1,))


def _put(model: nnx.Module, path: tuple[Any, ...], module: nnx.Module) -> None:
    *parents, last = path
    owner: Any = model
    for step in parents:
        owner = owner[step] if isinstance(owner, nnx.List | nnx.Dict) else getattr(owner, step)
    if isinstance(owner, nnx.List | nnx.Dict):
        owner[last] = module
    else:
        setattr(owner, last, module)
