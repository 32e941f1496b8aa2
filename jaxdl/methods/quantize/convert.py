"""Models whose linear and convolutional layers are replaced: by those of int8, or by watched ones."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxdl.methods.quantize.calibrate import Range
from jaxdl.methods.quantize.layers import Quantized, QuantizedConv2d, QuantizedLinear, Scheme, check_finite
from jaxdl.nn.conv import Conv2d
from jaxdl.nn.linear import Linear
from jaxdl.typing import Array


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


def _put(model: nnx.Module, path: tuple[Any, ...], module: nnx.Module) -> None:
    *parents, last = path
    owner: Any = model
    for step in parents:
        owner = owner[step] if isinstance(owner, nnx.List | nnx.Dict) else getattr(owner, step)
    if isinstance(owner, nnx.List | nnx.Dict):
        owner[last] = module
    else:
        setattr(owner, last, module)
