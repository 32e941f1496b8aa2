"""A program as a list of operations on arrays, for the writers that speak no StableHLO.

What is put together here is simplified on the way: a chain of sums and products with constants of the channels
(biases, normalisation) becomes one ``affine``, and that a part of the product or convolution in front of it.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

LINEAR = ("linear", "conv")  # their inputs: x, weight (..., out), bias (out,)


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """An array of the program; the first entry of ``shape`` may be a symbol."""

    shape: tuple[Any, ...]
    dtype: np.dtype


@dataclasses.dataclass(frozen=True, eq=False)
class Constant(Value):
    """An array that is known; ``name`` is that of the weight it was made of, or empty."""

    array: np.ndarray
    name: str = ""


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """``output = op(*inputs, **params)``."""

    op: str
    inputs: tuple[Value, ...]
    output: Value
    params: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Graph:
    """Images -> logits; the nodes are in the order in which they can be computed."""

    image: Value
    logits: Value
    nodes: tuple[Node, ...]


class UnsupportedError(ValueError):
    """An operation of the model that a format cannot express."""


def constant(array: np.ndarray, name: str = "") -> Constant:
    """The array as a `Constant`."""
    return Constant(array.shape, array.dtype, array, name)


class Builder:
    """A graph that grows.

    Attributes:
      nodes: so far.
      affine: values that are ``base * scale + shift`` with constants of the last axis, and have no node yet.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.affine: dict[Value, tuple[Value, np.ndarray, np.ndarray]] = {}
        self._solid: dict[Value, Value] = {}

    def add(self, op: str, inputs: list[Value], shape: Any, dtype: Any = np.float32, **params: Any) -> Value:
        """A new node's output."""
        output = Value(tuple(shape), np.dtype(dtype))
        self.nodes.append(Node(op, tuple(self.solid(value) for value in inputs), output, params))
        return output

    def solid(self, value: Value) -> Value:
        """The value, with a node that computes it where it is affine so far."""
        if value in self.affine and value not in self._solid:
            base, scale, shift = self.affine[value]
            if np.all(scale == 1) and np.all(shift == 0):
                return self.solid(base)
            constants = [constant(np.asarray(part, np.float32)) for part in (scale, shift)]
            self._solid[value] = self.add("affine", [base, *constants], value.shape)
        return self._solid.get(value, value)

    def graph(self, image: Value, logits: Value) -> Graph:
        """What the logits depend on."""
        logits = self.solid(logits)
        return Graph(image, logits, _alive(_folded(self.nodes, logits), logits))


def _folded(nodes: list[Node], logits: Value) -> list[Node]:
    """The nodes with an ``affine`` behind a linear one, and nowhere else used, put into its weights."""
    uses: dict[Value, int] = {logits: 1}
    for node in nodes:
        for value in node.inputs:
            uses[value] = uses.get(value, 0) + 1
    made = {node.output: place for place, node in enumerate(nodes)}
    result: list[Node | None] = list(nodes)
    for place, node in enumerate(nodes):
        source = made.get(node.inputs[0]) if node.op == "affine" else None
        before = result[source] if source is not None else None
        if before is not None and source is not None and before.op in LINEAR and uses[before.output] == 1:
            result[source] = _merged(before, node)
            result[place] = None
            made[node.output] = source
    return [node for node in result if node is not None]


def _merged(linear: Node, affine: Node) -> Node:
    """``(x @ weight + bias) * scale + shift`` as one linear node, computed in float64."""
    x, weight, bias = linear.inputs
    scale, shift = (value.array.astype(np.float64) for value in _constants(affine.inputs[1:]))
    weight, bias = _constants((weight, bias))
    name = weight.name.removesuffix(".weight")
    parts = [
        constant((weight.array * scale).astype(np.float32), weight.name),
        constant((bias.array * scale + shift).astype(np.float32), f"{name}.bias" if name else ""),
    ]
    return Node(linear.op, (x, *parts), affine.output, linear.params)


def _constants(values: Any) -> Iterator[Constant]:
    return (value for value in values if isinstance(value, Constant))


def _alive(nodes: list[Node], logits: Value) -> tuple[Node, ...]:
    """The nodes that the logits depend on."""
    needed, kept = {logits}, []
    for node in reversed(nodes):
        if node.output in needed:
            needed.update(node.inputs)
            kept.append(node)
    return tuple(reversed(kept))
