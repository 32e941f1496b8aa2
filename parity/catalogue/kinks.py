"""Gradients where a function has no slope, and orders where values are equal."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F

from parity.catalogue.entry import Facts, Status, entry
from parity.catalogue.facts import agrees, differs, gives
from parity.catalogue.sides import jax_gradient, together, torch_gradient

Function = Callable[[Any], Any]


def _leaky(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, 0.01 * x)


def _clamp(x: jax.Array) -> jax.Array:
    return jnp.where((x >= -1) & (x <= 1), x, jnp.clip(jax.lax.stop_gradient(x), -1, 1))


def _hardtanh(x: jax.Array) -> jax.Array:
    return jnp.where((x > -1) & (x < 1), x, jnp.sign(x))


def _max(x: jax.Array) -> jax.Array:
    return jnp.take_along_axis(x, jnp.argmax(x, 0, keepdims=True), 0)[0]


def _root(square: jax.Array) -> jax.Array:
    # Both branches are differentiated: the root must not see the zero.
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _norm(x: jax.Array) -> jax.Array:
    return _root(jnp.sum(x * x))


def _std(x: jax.Array) -> jax.Array:
    return _root(jnp.var(x, ddof=1))


def _angle(x: jax.Array) -> jax.Array:
    zero = (x[0] == 0) & (x[1] == 0)
    return jnp.where(zero, 0, jnp.arctan2(x[0], jnp.where(zero, 1, x[1])))


# What is differentiated, torch's function, JAX's, the one to write instead, and where.
DIFFERENT: list[tuple[str, Function, Function, Function, Any]] = [
    ("abs(0)", torch.abs, jnp.abs, lambda x: x * jnp.sign(x), 0.0),
    ("clamp(1, -1, 1)", lambda x: x.clamp(-1, 1), lambda x: jnp.clip(x, -1, 1), _clamp, 1.0),
    ("hardtanh(1)", F.hardtanh, jax.nn.hard_tanh, _hardtanh, 1.0),
    ("hardtanh(-1)", F.hardtanh, jax.nn.hard_tanh, _hardtanh, -1.0),
    ("leaky_relu(0)", F.leaky_relu, jax.nn.leaky_relu, _leaky, 0.0),
    ("max(dim) of 2, 1, 2", lambda x: x.max(0).values, lambda x: x.max(0), _max, [2.0, 1.0, 2.0]),
    ("norm of 0, 0", torch.linalg.vector_norm, jnp.linalg.norm, _norm, [0.0, 0.0]),
    ("std of 1, 1, 1", torch.std, lambda x: jnp.std(x, ddof=1), _std, [1.0, 1.0, 1.0]),
    ("atan2(0, 0)", lambda x: torch.atan2(x[0], x[1]), lambda x: jnp.arctan2(x[0], x[1]), _angle, [0.0, 0.0]),
]
EQUAL: list[tuple[str, Function, Function, Any]] = [
    ("relu(0)", F.relu, jax.nn.relu, 0.0),
    ("relu6(0), relu6(6)", F.relu6, jax.nn.relu6, [0.0, 6.0]),
    ("elu(0)", F.elu, jax.nn.elu, 0.0),
    ("selu(0)", F.selu, jax.nn.selu, 0.0),
    ("maximum(1, 1)", lambda x: torch.maximum(x[0], x[1]), lambda x: jnp.maximum(x[0], x[1]), [1.0, 1.0]),
    ("max of 2, 1, 2", torch.max, jnp.max, [2.0, 1.0, 2.0]),
    ("hardswish(-3), hardswish(3)", F.hardswish, jax.nn.hard_swish, [-3.0, 3.0]),
    ("sqrt(0), infinite", torch.sqrt, jnp.sqrt, 0.0),
]


@entry(
    44,
    "Gradients at kinks",
    Status.OPTIONS,
    torch="abs(0) 0; clamp at its bound 1; hardtanh(+-1) 0; leaky_relu(0) 0.01; max(dim) one of the equal places; "
    "norm(0), std of equal numbers and atan2(0, 0) 0 (torch 2.6: NaN)",
    jax="1; 0.5; 1; 1; shared among them; NaN",
    instead="""
    x * jnp.sign(x)                                                         # abs
    jnp.where((x >= a) & (x <= b), x, jnp.clip(jax.lax.stop_gradient(x), a, b))  # clamp
    jnp.where((x > -1) & (x < 1), x, jnp.sign(x))                           # hardtanh
    jnp.where(x > 0, x, 0.01 * x)                                           # leaky_relu
    jnp.take_along_axis(x, jnp.argmax(x, axis, keepdims=True), axis)        # max(dim)
    jnp.where(s > 0, jnp.sqrt(jnp.where(s > 0, s, 1)), 0)  # norm, std of the square s
    """,
)
def kinks() -> Facts:
    points = [np.asarray(point) for *_, point in DIFFERENT]
    around = [x + 0.3 * np.cos(np.arange(x.size)).reshape(x.shape) for x in points]

    def ports(points: Any, around: Any, equal: Any) -> Any:
        kinks = [[jax_gradient(f, x) for f in pair] for (_, _, *pair, _), x in zip(DIFFERENT, points, strict=True)]
        nearby = [jax_gradient(cured, x) for (*_, cured, _), x in zip(DIFFERENT, around, strict=True)]
        return kinks, nearby, [jax_gradient(f, x) for (_, _, f, _), x in zip(EQUAL, equal, strict=True)]

    slopes, nearby, equal = together(ports, points, around, [np.asarray(point) for *_, point in EQUAL])
    for (name, theirs, *_), x, made in zip(DIFFERENT, points, slopes, strict=True):
        yield differs(name, torch_gradient(theirs, x), *made, least=0.4)
    for (name, theirs, *_), x, made in zip(DIFFERENT, around, nearby, strict=True):
        yield agrees(f"{name}: instead, nearby", torch_gradient(theirs, x), made)
    for (name, theirs, _, point), made in zip(EQUAL, equal, strict=True):
        yield agrees(name, torch_gradient(theirs, np.asarray(point)), made)


@entry(
    45,
    "Medians, ties and NaN",
    Status.OPTIONS,
    torch="the median of an even count is the lower of the two; topk orders ties as it likes",
    jax="the median is their mean; top_k takes the first of ties first",
    instead="""
    jnp.quantile(x, 0.5, method="lower")
    torch.sort(x, descending=True, stable=True)  # on torch's side, where the order of ties matters
    """,
)
def orders() -> Facts:
    x, tied, broken = (
        np.array([3.0, 1.0, 2.0, 7.0]),
        np.array([1.0, 2.0] * 10),
        np.array([1.0, np.nan, 3.0, np.nan]),
    )
    t, halves = torch.tensor(x), np.array([-1.5, -0.5, 0.5, 1.5, 2.5])

    def ports(x: Any, tied: Any, broken: Any, halves: Any) -> Any:
        medians = jnp.median(x), jnp.quantile(x, 0.5, method="lower")
        places = jax.lax.top_k(tied, 5)[1], jnp.argmax(tied), jnp.argmax(broken)
        return medians, places, jnp.sort(broken), jnp.quantile(x, 0.3), jnp.round(halves)

    medians, (top, first, nan), ordered, quantile, rounded = together(ports, x, tied, broken, halves)
    yield differs("median of 1, 2, 3, 7", t.median(), *medians, least=0.4)
    order = torch.sort(torch.tensor(tied), descending=True, stable=True).indices[:5]
    yield differs(
        "places of the 5 largest, 10 being equal", torch.topk(torch.tensor(tied), 5).indices, top, least=1
    )
    yield agrees("the same from torch's stable sort", order, top)
    yield agrees("argmax of ties", torch.tensor(tied).argmax(), first)
    yield agrees("argmax with NaN", torch.tensor(broken).argmax(), nan)
    yield agrees("sort with NaN", torch.tensor(broken).sort().values, ordered)
    yield agrees("quantile 0.3", t.quantile(0.3), quantile)
    yield agrees("round of -1.5, -0.5, 0.5, 1.5, 2.5", torch.tensor(halves).round(), rounded)
    yield gives("JAX: round to even", rounded, [-2, 0, 0, 2, 2])
