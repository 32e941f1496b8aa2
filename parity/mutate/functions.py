"""Functions that the port calls: another one is called, or with another option."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdl.nn import pooling
from parity.mutate.faults import Fault, Planted, Right, registry
from parity.mutate.forward import calling, seen

FAULTS: list[Fault] = []
fault = registry(FAULTS)
ATTENTION = "dot_product_attention"


@fault("gelu form", "gelu is the approximation by tanh where torch's is exact, or the other way round")
def _gelu(given: Right) -> Iterator[Planted]:
    def other(gelu: Any, x: Any, approximate: bool = True) -> Any:
        return gelu(x, approximate=not approximate)

    return _replaced(given, "gelu", other)


@fault("other activation", "another activation function")
def _activation(given: Right) -> Iterator[Planted]:
    silu, relu = jax.nn.silu, jax.nn.relu
    for name, other in (("relu", silu), ("gelu", silu), ("silu", relu), ("tanh", relu)):
        yield from _replaced(given, name, lambda _, x, *__, other=other, **___: other(x))


@fault("missing activation", "an activation is left out")
def _no_activation(given: Right) -> Iterator[Planted]:
    for name in ("relu", "gelu", "silu"):
        yield from _replaced(given, name, lambda _, x, *__, **___: x)


@fault("leaky activation", "relu is leaky")
def _leaky(given: Right) -> Iterator[Planted]:
    return _replaced(given, "relu", lambda _, x: jax.nn.leaky_relu(x, 0.01))


@fault("softmax axis", "softmax over another axis")
def _softmax(given: Right) -> Iterator[Planted]:
    def other(softmax: Any, x: Any, axis: int = -1, **more: Any) -> Any:
        return softmax(x, axis=axis - 1, **more)

    return _replaced(given, "softmax", other)


@fault("attention scale", "attention is not divided by the root of the size of a head")
def _scale(given: Right) -> Iterator[Planted]:
    def unscaled(attention: Any, query: Any, *args: Any, **more: Any) -> Any:
        return attention(query * query.shape[-1] ** 0.5, *args, **more)

    return _replaced(given, ATTENTION, unscaled)


@fault("attention mask polarity", "the mask of attention says what to leave out, not what to keep")
def _polarity(given: Right) -> Iterator[Planted]:
    def inverted(
        attention: Any, query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, **more: Any
    ) -> Any:
        if mask is None and more.get("is_causal"):
            size = query.shape[1]
            mask, more = jnp.tril(jnp.ones((1, 1, size, size), bool)), more | {"is_causal": False}
        return attention(query, key, value, bias, None if mask is None else ~mask, **more)

    if any(_is_masked(*args, **more) for args, more in seen(given.pair, jax.nn, ATTENTION)):
        yield from _replaced(given, ATTENTION, inverted)


def _is_masked(_query: Any, _key: Any, _value: Any, _bias: Any = None, mask: Any = None, **more: Any) -> bool:
    return mask is not None or bool(more.get("is_causal"))


@fault("pooling", "an average where torch takes the maximum")
def _pooling(given: Right) -> Iterator[Planted]:
    def average(_: Any, x: Any, window: Any, *__: Any, **___: Any) -> Any:
        return pooling.avg_pool2d(x, window)

    def flax_average(_: Any, x: Any, window_shape: Any, strides: Any = None, padding: Any = "VALID") -> Any:
        return nnx.avg_pool(x, window_shape, strides, padding)

    yield from _replaced(given, "max_pool2d", average, owner=pooling)
    yield from _replaced(given, "max_pool", flax_average, owner=nnx)


def _replaced(given: Right, name: str, other: Callable[..., Any], owner: Any = jax.nn) -> Iterator[Planted]:
    """The pair whose port calls ``other(function, *args)`` for its first call of a function, by name."""

    def first_only() -> Callable[..., Any]:
        calls = itertools.count()
        return lambda function, *args, **more: (
            function(*args, **more) if next(calls) else other(function, *args, **more)
        )

    if seen(given.pair, owner, name):
        pair = calling(given.pair, owner, name, first_only)
        yield Planted(pair, frozenset({"glue", "layer"}))
