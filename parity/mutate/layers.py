"""Layers: dropout, padding, precision, gradients, and layers that are called twice or not at all."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from parity.mutate.faults import Fault, Planted, Right, registry
from parity.mutate.forward import runs
from parity.mutate.parts import attribute, changed, has_weights, is_norm, wrapped

FAULTS: list[Fault] = []
fault = registry(FAULTS)
# What a wrong gradient may look like.
BACKWARD = ("backward", "layer", "glue", "loss")


@fault("dropout rate", "the rate is that of keeping")
def _rate(given: Right) -> Iterator[Planted]:
    return changed(given, attribute(("rate",), lambda rate: 1 - rate if rate != 0.5 else 0.4), anywhere=True)


@fault("no dropout", "dropout is left out")
def _no_dropout(given: Right) -> Iterator[Planted]:
    return changed(given, attribute(("rate",), lambda rate: 0.0 if rate else None), anywhere=True)


@fault("dropout not scaled", "what dropout keeps is not divided by the probability of keeping it")
def _unscaled(given: Right) -> Iterator[Planted]:
    def call(self: Any, original: Any, *args: Any, **more: Any) -> Any:
        y = original(*args, **more)
        return y if self.deterministic else y * (1 - self.rate)

    def drops(part: Any) -> bool:
        return bool(getattr(part, "rate", 0)) and hasattr(part, "deterministic")

    return wrapped(given, drops, call, anywhere=True)


@fault("padding", "a convolution is padded by another amount")
def _padding(given: Right) -> Iterator[Planted]:
    def change(part: Any) -> bool:
        padding, kernel = getattr(part, "padding", None), getattr(part, "kernel_size", None)
        if padding is None or (kernel is None and not hasattr(part, "stride")):
            return False
        if isinstance(padding, int):
            part.padding = padding + 1
        elif isinstance(padding, str):
            part.padding = "VALID" if padding.upper() == "SAME" else "SAME"
        else:
            return False
        return True

    return (one for one in changed(given, change) if runs(one.pair))


@fault("asymmetric padding", "a padding of one is put on one side, as SAME does with a stride of 2")
def _asymmetric(given: Right) -> Iterator[Planted]:
    def call(_: Any, original: Any, x: Any, *rest: Any, **more: Any) -> Any:
        return original(jnp.roll(x, 1, axis=1), *rest, **more)

    return wrapped(given, lambda part: type(part).__name__ in ("Conv", "Conv2d"), call)


@fault("layer applied twice", "a layer is called twice")
def _twice(given: Right) -> Iterator[Planted]:
    def call(_: Any, original: Any, x: Any, *rest: Any, **more: Any) -> Any:
        y = original(x, *rest, **more)
        return original(y, *rest, **more) if y.shape == x.shape else y

    return wrapped(given, lambda part: is_norm(part) and not hasattr(part, "momentum"), call)


@fault("missing norm", "a norm is left out")
def _skipped(given: Right) -> Iterator[Planted]:
    return wrapped(given, is_norm, lambda _self, _original, x, *_rest, **_more: x)


@fault("bfloat16 layer", "a layer computes in bfloat16")
def _bfloat16(given: Right) -> Iterator[Planted]:
    return wrapped(given, has_weights, _rounding(jnp.bfloat16))


@fault("float32 layer", "a layer rounds to float32")
def _float32(given: Right) -> Iterator[Planted]:
    return wrapped(given, has_weights, _rounding(jnp.float32))


@fault("stopped gradient", "no gradient passes through a layer")
def _stopped(given: Right) -> Iterator[Planted]:
    def call(_: Any, original: Any, x: Any, *rest: Any, **more: Any) -> Any:
        return original(jax.lax.stop_gradient(x), *rest, **more)

    # Not in the first layer, in front of which there may be nothing to miss the gradient.
    return itertools.islice(wrapped(given, has_weights, call, BACKWARD, anywhere=True), 1, None)


@fault("scaled gradient", "a gradient of one's own is off by a factor")
def _scaled_gradient(given: Right) -> Iterator[Planted]:
    def call(_: Any, original: Any, *args: Any, **more: Any) -> Any:
        y = original(*args, **more)
        return 0.9 * y + 0.1 * jax.lax.stop_gradient(y)

    return wrapped(given, has_weights, call, BACKWARD, anywhere=True)


def _rounding(dtype: Any) -> Callable[..., Any]:
    def call(_: Any, original: Any, *args: Any, **more: Any) -> Any:
        return original(*args, **more).astype(dtype).astype(args[0].dtype)

    return call
