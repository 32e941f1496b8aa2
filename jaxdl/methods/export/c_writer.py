"""What a C program needs beside its statements: the names, the constants, the places of arrays in memory."""

import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdl.methods.export.graph import Constant, Graph, Node, Value
from jaxdl.methods.export.kernels import KERNELS

ESCAPES = np.array([f"\\{byte:03o}" for byte in range(256)], "S4")
BYTES_A_LINE = 28
Ranges = Mapping[Node, tuple[float, float]]


class Memory:
    """Places in one block of floats; `size` is what it has to hold.

    Args:
      graph: tells when an array is used last.
    """

    def __init__(self, graph: Graph) -> None:
        self.size, self._taken = 1, {}  # start -> (end, value)
        self._root = {graph.image: graph.image}
        for node in graph.nodes:
            alias = node.op == "reshape"
            self._root[node.output] = self._root.get(node.inputs[0], node.inputs[0]) if alias else node.output
        self._last = {self._root[graph.logits]: len(graph.nodes)}
        for place, node in enumerate(graph.nodes):
            for value in node.inputs:
                root = self._root.get(value, value)
                self._last[root] = max(self._last.get(root, 0), place)

    def take(self, value: Value, place: int) -> int:
        """Where an array that node number ``place`` makes begins: the first gap that it fits in."""
        self._taken = {start: entry for start, entry in self._taken.items() if self._last[entry[1]] >= place}
        start, count = 0, math.prod(value.shape)
        for other in sorted(self._taken):
            if start + count <= other:
                break
            start = max(start, self._taken[other][0])
        self._taken[start] = start + count, value
        self.size = max(self.size, start + count)
        return start


class Writer:
    """What the lines of a model need: names, weights, functions and memory.

    Attributes:
      constants: definitions of the weights.
      kernels: names of the functions that are called.
      places: the C expression of each array.
      codes, patch: sizes of the two arrays of int8 numbers.
    """

    def __init__(self, graph: Graph, ranges: Ranges) -> None:
        self.memory, self.ranges = Memory(graph), ranges
        self.places: dict[Value, str] = {graph.image: "image"}
        self.constants: list[str] = []
        self.kernels: dict[str, None] = {}
        self.codes = self.patch = 0
        self._names: set[str] = {"image", "logits", "memory", "codes", "patch", "model", *KERNELS}

    def at(self, value: Value) -> str:
        """The C expression of an array, which is defined where it is a constant."""
        if value not in self.places:
            assert isinstance(value, Constant)
            self.places[value] = self.array(value.array.astype(np.float32), value.name)
        return self.places[value]

    def array(self, array: np.ndarray, name: str) -> str:
        """Defines a constant array, as a string: compilers read that ten times faster than numbers."""
        stem = re.sub(r"\W", "_", name) or "constant"
        numbered = (f"{stem}_{number}" for number in itertools.count(1))
        name = next(each for each in itertools.chain([stem], numbered) if each not in self._names)
        self._names.add(name)
        data, kind = np.ascontiguousarray(array), {"float32": "float", "int8": "int8_t"}[array.dtype.name]
        escaped = ESCAPES[np.frombuffer(data.tobytes(), np.uint8)]
        rows = [escaped[start : start + BYTES_A_LINE] for start in range(0, len(escaped), BYTES_A_LINE)]
        text = "\n".join(f'"{row.tobytes().decode()}"' for row in rows)
        shape = " x ".join(map(str, array.shape))
        union = f"union {{ char bytes[{data.nbytes}]; {kind} values[{data.size}]; }}"
        self.constants.append(f"/* {shape} */\nstatic const {union} {name} = {{\n{text}}};\n")
        return f"{name}.values"

    def kernel(self, name: str, *arguments: Any) -> str:
        """A call."""
        self.kernels[name] = None
        return f"{name}({', '.join(map(str, arguments))});"
