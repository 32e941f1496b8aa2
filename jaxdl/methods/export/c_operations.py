"""The operations of a graph as statements of C: the table of what can be written.

A function takes the writer, the node and the C expression of its output.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from jaxdl.methods.export.c_writer import Writer
from jaxdl.methods.export.graph import Constant, Node, UnsupportedError, Value
from jaxdl.methods.export.kernels import LANES

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


def statements(writer: Writer, node: Node, place: int) -> list[str]:
    """The lines of node number ``place``.

    Raises:
      UnsupportedError: an operation that is not in the table, or another type.
    """
    if node.output.dtype not in (np.float32, bool):
        raise UnsupportedError(f"C: expected an array of float32 or bool, the model has {node.output.dtype}")
    if node.op == "reshape":
        writer.places[node.output] = writer.at(node.inputs[0])
        return []
    write = TABLE.get(node.op, elementwise if node.op in EXPRESSIONS else None)
    if write is None:
        raise UnsupportedError(f"C has no translation of the operation {node.op}")
    start = writer.memory.take(node.output, place)
    writer.places[node.output] = f"memory + {start}" if start else "memory"
    return write(writer, node, writer.places[node.output])


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
