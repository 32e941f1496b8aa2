"""A graph computed with jax: what its operations mean, and the ranges of its values for int8."""

from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxdl.methods.export.graph import Constant, Graph, Node, Value
from jaxdl.methods.export.lowering import UNARY
from jaxdl.typing import Array


def evaluate(graph: Graph, images: Array, watched: Collection[Value] = ()) -> tuple[Array, list[Array]]:
    """The logits of images, as many as the graph was traced for, and the values of ``watched``."""
    values: dict[Value, Array] = {graph.image: images}

    def value(of: Value) -> Array:
        return jnp.asarray(of.array) if isinstance(of, Constant) else values[of]

    for node in graph.nodes:
        values[node.output] = TABLE[node.op](node, *map(value, node.inputs))
    return value(graph.logits), [value(each) for each in watched]


def ranges(graph: Graph, images: np.ndarray, nodes: Collection[Node]) -> dict[Node, tuple[float, float]]:
    """The least and the largest value that the first input of each node takes over images, zero included.

    Args:
      graph: traced for one image.
      images: (N, H, W, C) uint8.
      nodes: of the graph.
    """
    watched = [node.inputs[0] for node in nodes]

    @jax.jit
    @jax.vmap
    def extremes(image: Array) -> tuple[list[Array], list[Array]]:
        values = evaluate(graph, image[None], watched)[1]
        return [value.min() for value in values], [value.max() for value in values]

    lows, highs = zip(*(extremes(part) for part in np.array_split(images, -(-len(images) // 50))), strict=True)
    low, high = (np.array([np.concatenate(part) for part in zip(*side, strict=True)]) for side in (lows, highs))
    return {node: (min(low[i].min(), 0.0), max(high[i].max(), 0.0)) for i, node in enumerate(nodes)}


def _same_rank(value: Array, other: Array) -> Array:
    return value.reshape((1,) * (other.ndim - value.ndim) + value.shape)


def _affine(_: Node, x: Array, scale: Array, shift: Array) -> Array:
    return x * _same_rank(scale, x) + _same_rank(shift, x)


def _linear(_: Node, x: Array, weight: Array, bias: Array) -> Array:
    y = x @ weight
    return y + _same_rank(bias, y)


def _conv(node: Node, x: Array, weight: Array, bias: Array) -> Array:
    y = lax.conv_general_dilated(
        x,
        weight,
        node.params["strides"],
        node.params["pads"],
        rhs_dilation=node.params["dilations"],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=node.params["groups"],
    )
    return y + _same_rank(bias, y)


def _max_pool(node: Node, x: Array) -> Array:
    window, strides, pads = (node.params[name] for name in ("window", "strides", "pads"))
    return lax.reduce_window(x, -np.inf, lax.max, (1, *window, 1), (1, *strides, 1), ((0, 0), *pads, (0, 0)))


def _slice(node: Node, x: Array) -> Array:
    spans = zip(node.params["starts"], node.params["stops"], node.params["steps"], strict=True)
    return x[tuple(slice(*span) for span in spans)]


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda _, *inputs: function(*inputs)


TABLE: dict[str, Callable[..., Any]] = {
    **{name: _plain(getattr(lax, name)) for name in UNARY if name != "not"},
    "not": _plain(jnp.logical_not),
    "add": _plain(jnp.add),
    "sub": _plain(jnp.subtract),
    "mul": _plain(jnp.multiply),
    "div": _plain(jnp.divide),
    "max": _plain(jnp.maximum),
    "min": _plain(jnp.minimum),
    "pow": _plain(jnp.power),
    "gt": _plain(jnp.greater),
    "ge": _plain(jnp.greater_equal),
    "lt": _plain(jnp.less),
    "le": _plain(jnp.less_equal),
    "eq": _plain(jnp.equal),
    "ne": _plain(jnp.not_equal),
    "and": _plain(jnp.logical_and),
    "or": _plain(jnp.logical_or),
    "where": _plain(jnp.where),
    "relu": _plain(lambda x: jnp.maximum(x, 0)),
    "affine": _affine,
    "cast": lambda node, x: x.astype(node.output.dtype),
    "reshape": lambda node, x: x.reshape(node.output.shape),
    "broadcast": lambda node, x: jnp.broadcast_to(x, node.output.shape),
    "transpose": lambda node, x: x.transpose(node.params["perm"]),
    "slice": _slice,
    "concatenate": lambda node, *xs: jnp.concatenate(xs, node.params["axis"]),
    "pad": lambda node, x, fill: lax.pad(x, fill, [(low, high, 0) for low, high in node.params["pads"]]),
    "sum": lambda node, x: x.sum(node.params["axes"]),
    "maximum": lambda node, x: x.max(node.params["axes"]),
    "minimum": lambda node, x: x.min(node.params["axes"]),
    "softmax": _plain(jax.nn.softmax),
    "linear": _linear,
    "matmul": _plain(jnp.matmul),
    "conv": _conv,
    "max_pool": _max_pool,
}
