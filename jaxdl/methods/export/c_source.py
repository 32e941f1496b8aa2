"""A graph as one C file without dependencies, in float32 or with int8 weights and products.

The file is for gcc and clang. One image is computed at a time; every array has a fixed place in one block of
memory, which arrays that are not needed at the same time share.
"""

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import jaxdl
from jaxdl.methods.export.graph import Constant, Graph, Node, UnsupportedError, Value
from jaxdl.methods.export.kernels import HEAD, KERNELS, LANES, MAIN, NEEDS

ESCAPES = np.array([f"\\{byte:03o}" for byte in range(256)], "S4")
BYTES_A_LINE = 28
Ranges = Mapping[Node, tuple[float, float]]
EXPRESSIONS = {
    "exp": "expf({0})", "expm1": "expm1f({0})", "log": "logf({0})", "tanh": "tanhf({0})", "sqrt": "sqrtf({0})",
    "rsqrt": "1.0f / sqrtf({0})", "erf": "erff({0})", "erfc": "erfcf({0})", "abs": "fabsf({0})", "neg": "-{0}",
    "not": "{0} == 0",
    "logistic": "1.0f / (1.0f + expf(-{0}))", "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}",
    "div": "{0} / {1}", "pow": "powf({0}, {1})", "max": "{0} > {1} ? {0} : {1}", "min": "{0} < {1} ? {0} : {1}",
    "gt": "{0} > {1}", "ge": "{0} >= {1}", "lt": "{0} < {1}", "le": "{0} <= {1}", "eq": "{0} == {1}",
    "ne": "{0} != {1}", "and": "{0} != 0 && {1} != 0", "or": "{0} != 0 || {1} != 0",
    "where": "{0} != 0 ? {1} : {2}", "relu": "{0} > 0 ? {0} : 0", "affine": "{0} * {1} + {2}",
    "cast": "(float){0}", "broadcast": "{0}",
}  # fmt: skip
REDUCTIONS = {
    "sum": ("0", "{0} + {1}"),
    "maximum": ("-INFINITY", "{0} > {1} ? {0} : {1}"),
    "minimum": ("INFINITY", "{0} < {1} ? {0} : {1}"),
}


def source(graph: Graph, ranges: Ranges, classes: tuple[str, ...], file: str) -> str:
    """The text of the runner.

    Args:
      graph: traced for one image.
      ranges: least and largest input of every node that shall be int8.
      classes: their names.
      file: its name, for the comment at its head.
    """
    writer = Writer(graph, ranges)
    body = [line for node in graph.nodes for line in writer.lines(node)]
    body.append(f"memcpy(logits, {writer.places[graph.logits]}, CLASSES * sizeof(float));")
    _, height, width, channels = graph.image.shape
    head = HEAD.format(
        version=jaxdl.__version__,
        title=f"{height}x{width}x{channels} pixels to {len(classes)} classes, {'int8' if ranges else 'float32'}",
        file=file,
        memory=4 * writer.memory.size + writer.codes + writer.patch,
        height=height,
        width=width,
        channels=channels,
        count=len(classes),
        lanes=LANES,
        names=", ".join(_quoted(name) for name in classes),
    )
    kernels = {need: None for name in writer.kernels for need in (*NEEDS.get(name, ()), name)}
    arrays = [f"static float memory[{writer.memory.size}];"]
    arrays += [f"static int8_t codes[{writer.codes}];"] * bool(writer.codes)
    arrays += [f"static int8_t patch[{writer.patch}];"] * bool(writer.patch)
    function = ["void model(const uint8_t *image, float *logits)", "{", *(f"    {line}" for line in body), "}", ""]
    parts = [head, *writer.constants, *(KERNELS[name] for name in kernels), *arrays, "", *function, MAIN]
    return "\n".join(parts)


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
    """The lines of a model and what they need.

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
        self._counter = itertools.count()

    def lines(self, node: Node) -> list[str]:
        """The statements of one node."""
        place = next(self._counter)
        if node.output.dtype not in (np.float32, bool):
            raise UnsupportedError(f"C: expected an array of float32 or bool, the model has {node.output.dtype}")
        if node.op == "reshape":
            self.places[node.output] = self.at(node.inputs[0])
            return []
        write = TABLE.get(node.op, elementwise if node.op in EXPRESSIONS else None)
        if write is None:
            raise UnsupportedError(f"C has no translation of the operation {node.op}")
        start = self.memory.take(node.output, place)
        self.places[node.output] = f"memory + {start}" if start else "memory"
        return write(self, node, self.places[node.output])

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


def _quoted(name: str) -> str:
    return (
        '"'
        + "".join(
            f"\\{byte:03o}" if byte < 32 or byte > 126 or byte in b'"\\?' else chr(byte) for byte in name.encode()
        )
        + '"'
    )


def _steps(shape: Sequence[int]) -> list[int]:
    """How far apart neighbours along each axis are."""
    return [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]


def _index(steps: Sequence[int], shape: Sequence[int]) -> str:
    """The place of ``[i0, i1, ...]``."""
    parts = [
        f"i{axis} * {step}" if step != 1 else f"i{axis}"
        for axis, step in enumerate(steps)
        if step and shape[axis] > 1
    ]
    return " + ".join(parts) or "0"


def _loops(shape: Sequence[int], statement: str) -> list[str]:
    """A statement for every ``[i0, i1, ...]``."""
    axes = [axis for axis, size in enumerate(shape) if size > 1]
    heads = [f"for (int i{axis} = 0; i{axis} < {shape[axis]}; i{axis}++)" for axis in axes]
    return [*("    " * depth + head for depth, head in enumerate(heads)), "    " * len(heads) + statement]


def _read(writer: Writer, value: Value, shape: Sequence[int]) -> str:
    """An element of a value that is broadcast to ``shape``."""
    if isinstance(value, Constant) and value.array.size == 1:
        return _literal(value.array.item())
    sizes = (math.prod(value.shape),) if len(shape) == 1 else (1,) * (len(shape) - len(value.shape)) + value.shape
    steps = [step if size > 1 else 0 for step, size in zip(_steps(sizes), sizes, strict=True)]
    return _element(writer.at(value), _index(steps, shape))


def _element(array: str, index: str) -> str:
    return f"({array})[{index}]" if " " in array else f"{array}[{index}]"


def _literal(number: float) -> str:
    number = float(number)
    if not math.isfinite(number):
        return "NAN" if math.isnan(number) else "INFINITY" if number > 0 else "(-INFINITY)"
    text = f"{number:.9g}"
    text = text if set(text) & set(".e") else f"{text}.0"
    return f"({text}f)" if number < 0 else f"{text}f"


def elementwise(writer: Writer, node: Node, y: str) -> list[str]:
    """One expression for every element, along one axis where the shapes allow."""
    shape, size = node.output.shape, math.prod(node.output.shape)
    flat = all(math.prod(value.shape) in (1, size) for value in node.inputs)
    if flat:
        shape = (size,)
    inputs = [_read(writer, value, shape) for value in node.inputs]
    target = _element(y, _index(_steps(shape), shape))
    return _loops(shape, f"{target} = {EXPRESSIONS[node.op].format(*inputs)};")


def reduction(writer: Writer, node: Node, y: str) -> list[str]:
    """Along some axes."""
    (x,), axes = node.inputs, node.params["axes"]
    first, combine = REDUCTIONS[node.op]
    kept = iter(_steps(node.output.shape))
    steps = [0 if axis in axes else next(kept) for axis in range(len(x.shape))]
    start = _loops((math.prod(node.output.shape),), f"{_element(y, 'i0')} = {first};")
    target = _element(y, _index(steps, x.shape))
    return start + _loops(x.shape, f"{target} = {combine.format(target, _read(writer, x, x.shape))};")


def transpose(writer: Writer, node: Node, y: str) -> list[str]:
    """Reads along the permuted axes."""
    (x,), shape = node.inputs, node.output.shape
    steps = [_steps(x.shape)[axis] for axis in node.params["perm"]]
    return _copy(shape, y, _steps(shape), 0, writer.at(x), steps, 0)


def cut(writer: Writer, node: Node, y: str) -> list[str]:
    """Reads a part."""
    (x,), shape = node.inputs, node.output.shape
    steps, starts = _steps(x.shape), node.params["starts"]
    strides = [step * every for step, every in zip(steps, node.params["steps"], strict=True)]
    return _copy(shape, y, _steps(shape), 0, writer.at(x), strides, int(np.dot(steps, starts)))


def concatenate(writer: Writer, node: Node, y: str) -> list[str]:
    """Writes one part behind the other."""
    steps, axis, start, lines = _steps(node.output.shape), node.params["axis"], 0, []
    for value in node.inputs:
        lines += _copy(value.shape, y, steps, start * steps[axis], writer.at(value), _steps(value.shape), 0)
        start += value.shape[axis]
    return lines


def pad(writer: Writer, node: Node, y: str) -> list[str]:
    """Writes into the middle of what is filled with one value."""
    (x, fill), steps = node.inputs, _steps(node.output.shape)
    start = int(np.dot(steps, [low for low, _ in node.params["pads"]]))
    filled = _loops((math.prod(node.output.shape),), f"{_element(y, 'i0')} = {_read(writer, fill, (1,))};")
    return filled + _copy(x.shape, y, steps, start, writer.at(x), _steps(x.shape), 0)


def _copy(
    shape: Sequence[int], y: str, to: Sequence[int], to_start: int, x: str, at: Sequence[int], at_start: int
) -> list[str]:
    target, source = (
        _element(array, f"{start} + {_index(steps, shape)}" if start else _index(steps, shape))
        for array, steps, start in ((y, to, to_start), (x, at, at_start))
    )
    return _loops(shape, f"{target} = {source};")


def softmax(writer: Writer, node: Node, y: str) -> list[str]:
    """Over the last axis."""
    *rows, count = node.output.shape
    return [writer.kernel("softmax", writer.at(node.inputs[0]), math.prod(rows), count, y)]


def matmul(writer: Writer, node: Node, y: str) -> list[str]:
    """Of two unknowns with the same leading axes."""
    a, b = node.inputs
    *batch, rows, summed = a.shape
    sizes = (math.prod(batch), rows, summed, b.shape[-1])
    return [writer.kernel("matmul", writer.at(a), writer.at(b), *sizes, y)]


def max_pool(writer: Writer, node: Node, y: str) -> list[str]:
    """Of every channel."""
    geometry = _geometry(node, *node.params["window"], 1, (1, 1))  # pyright: ignore[reportCallIssue]
    return [writer.kernel("max_pool", writer.at(node.inputs[0]), geometry, y)]


def linear(writer: Writer, node: Node, y: str) -> list[str]:
    """A matrix product, of int8 codes where there is a range."""
    x, weight, _ = node.inputs
    *rows, summed = x.shape
    sizes = (math.prod(rows), summed, weight.shape[1])
    if node not in writer.ranges:
        return [writer.kernel("linear", writer.at(x), *sizes, *map(writer.at, node.inputs[1:]), y)]
    quantize, _, arrays = _quantized(writer, node)
    return [quantize, writer.kernel("linear_int8", "codes", *sizes, *arrays, "patch", y)]


def conv(writer: Writer, node: Node, y: str) -> list[str]:
    """A convolution, of int8 codes where there is a range."""
    x, weight, _ = node.inputs
    height, width = weight.shape[:2]
    geometry = _geometry(node, height, width, node.params["groups"], node.params["dilations"])
    if node not in writer.ranges:
        return [writer.kernel("conv", writer.at(x), geometry, *map(writer.at, node.inputs[1:]), y)]
    quantize, zero, arrays = _quantized(writer, node)
    return [quantize, writer.kernel("conv_int8", "codes", geometry, zero, *arrays, "patch", y)]


def _geometry(node: Node, height: int, width: int, groups: int, dilations: tuple[int, int]) -> str:
    (top, _), (left, _) = node.params["pads"]
    sizes = (*node.inputs[0].shape[1:], *node.output.shape[1:], height, width, *node.params["strides"], top, left)
    return f"&(Geometry){{{', '.join(map(str, (*sizes, *dilations, groups)))}}}"


def _quantized(writer: Writer, node: Node) -> tuple[str, int, list[str]]:
    """The statement that makes the codes of an input, their zero, and the arrays: weight codes, scales, biases.

    Inputs have one scale and zero: ``x = (q - zero) * step``. Weights have a scale for each output, and no zero.
    The sum over ``q`` is corrected for the zero in the bias.
    """
    x, weight, bias = node.inputs
    assert isinstance(weight, Constant)
    assert isinstance(bias, Constant)
    low, high = writer.ranges[node]
    step = (high - low) / 255 or 1.0
    zero = round(-128 - low / step)
    rows = weight.array.reshape(-1, weight.shape[-1]).T.astype(np.float64)  # (N, K)
    scales = np.maximum(np.abs(rows).max(1), np.finfo(np.float32).tiny) / 127
    codes = np.rint(rows / scales[:, None]).astype(np.int8)
    biases = bias.array - step * scales * zero * codes.sum(1, dtype=np.int64)
    codes = np.pad(codes, ((0, 0), (0, -codes.shape[1] % LANES)))
    writer.codes, writer.patch = max(writer.codes, math.prod(x.shape)), max(writer.patch, codes.shape[1])
    stem = weight.name.removesuffix(".weight") or node.op
    arrays = [
        writer.array(codes, f"{stem}.codes"),
        writer.array((step * scales).astype(np.float32), f"{stem}.scale"),
        writer.array(biases.astype(np.float32), f"{stem}.bias"),
    ]
    return writer.kernel("quantize", writer.at(x), math.prod(x.shape), _literal(step), zero, "codes"), zero, arrays


TABLE: dict[str, Callable[[Writer, Node, str], list[str]]] = {
    **dict.fromkeys(REDUCTIONS, reduction),
    "concatenate": concatenate,
    "conv": conv,
    "linear": linear,
    "matmul": matmul,
    "max_pool": max_pool,
    "pad": pad,
    "slice": cut,
    "softmax": softmax,
    "transpose": transpose,
}
