"""Quantization-aware training: layers compute with what their int8 codes will stand for, and learn to allow it.

Weights are rounded within each step and stay real numbers for the optimizer. The ranges of the inputs are averages
over the steps, as torch.ao's MovingAverageMinMaxObserver has them, and are kept among the model's statistics.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdl import tree
from jaxdl.methods.quantize import affine
from jaxdl.methods.quantize.calibrate import Range
from jaxdl.methods.quantize.convert import swap
from jaxdl.methods.quantize.layers import Scheme, channel_axis, check_finite
from jaxdl.nn.conv import Conv2d
from jaxdl.nn.linear import Linear
from jaxdl.typing import Array, PyTree

AVERAGING = 0.01  # share of the newest batch in the average, torch's
ENDS = ("input_low", "input_high")


class FakeQuantized(nnx.Module):
    """A `Linear` or `Conv2d` whose inputs and weights are rounded as those of a static int8 layer are.

    Its parameters have the names of the layer's.

    Args:
      layer: the layer.
      scheme: how codes are made.
      inputs: the range of the inputs to begin with.
    """

    def __init__(self, layer: Linear | Conv2d, scheme: Scheme, inputs: Range) -> None:
        self.weight, self.bias = layer.weight, layer.bias
        self.input_low, self.input_high = (nnx.BatchStat(jnp.asarray(end, jnp.float32)) for end in inputs)
        self.plain, self.bits = nnx.graphdef(layer), scheme.bits
        channel = channel_axis(layer) if scheme.per_channel else None
        self.others = tuple(axis for axis in range(layer.weight.ndim) if axis != channel)

    def __call__(self, x: Array) -> Array:
        for end, newest in ((self.input_low, jnp.min(x)), (self.input_high, jnp.max(x))):
            end[...] += AVERAGING * (newest - end[...])
        x = affine.fake_quantize(
            x, *affine.affine(self.input_low[...], self.input_high[...], self.bits), self.bits
        )
        return nnx.merge(self.plain, self._rounded())(x)

    def _rounded(self) -> dict[str, Array]:
        weight = self.weight[...]
        scale = affine.symmetric(jnp.abs(weight).max(self.others, keepdims=True))
        rounded = affine.fake_quantize(weight, scale, jnp.zeros_like(scale, jnp.int32))
        return {"weight": rounded} | ({} if self.bias is None else {"bias": self.bias[...]})


def fake_quantize(model: nnx.Module, scheme: Scheme, ranges: dict[str, Range]) -> nnx.Module:
    """A copy of the model that trains for int8; arguments and errors as those of `convert.quantize`."""

    def faked(name: str, layer: Linear | Conv2d) -> FakeQuantized:
        check_finite(layer.weight[...])
        return FakeQuantized(layer, scheme, ranges[name])

    return swap(model, faked)


def plain(parts: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
    """``(params, stats)`` of a model that trains for int8 -> those of the plain model."""
    params, stats = parts
    return params, _without_ends(stats)


def trained_ranges(stats: PyTree) -> dict[str, Range]:
    """The range of each layer's inputs that training ended with."""
    values, low, high = tree.flatten(stats), *(f".{end}" for end in ENDS)
    names = [name.removesuffix(low) for name in values if name.endswith(low)]
    return {name: (np.float32(values[name + low]), np.float32(values[name + high])) for name in names}


def _without_ends(stats: Any) -> Any:
    inner = {
        name: _without_ends(value) if isinstance(value, dict) else value
        for name, value in stats.items()
        if name not in ENDS
    }
    return {name: value for name, value in inner.items() if not isinstance(value, dict) or value}
