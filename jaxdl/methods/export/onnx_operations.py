"""The operations of a graph as nodes of ONNX: the table of what can be written.

Images stay (B, H, W, C) at the input; convolutions and pooling are (B, C, H, W), as ONNX has them, and so is all
between them, so that few transposes are left.
"""

from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from jaxdl.methods.export.graph import Constant, Graph, Node, UnsupportedError, Value
from jaxdl.methods.onnx_nodes import IMAGE, LOGITS, Nodes

END = np.iinfo(np.int64).max
TYPES = {
    "float32": TensorProto.FLOAT,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
    "int32": TensorProto.INT32,
}
TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
SAME = {
    "exp": "Exp", "log": "Log", "tanh": "Tanh", "sqrt": "Sqrt", "erf": "Erf", "logistic": "Sigmoid", "abs": "Abs",
    "neg": "Neg", "add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max", "min": "Min", "pow": "Pow",
    "gt": "Greater", "ge": "GreaterOrEqual", "lt": "Less", "le": "LessOrEqual", "eq": "Equal", "and": "And",
    "or": "Or", "not": "Not", "where": "Where", "relu": "Relu",
}  # fmt: skip
REDUCTIONS = {"sum": "ReduceSum", "maximum": "ReduceMax", "minimum": "ReduceMin"}


def translated(graph: Graph) -> Nodes:
    """The nodes of a graph.

    Raises:
      UnsupportedError: an operation that is not in the table.
    """
    writer = Writer(graph)
    for node in graph.nodes:
        if node.op not in TABLE and node.op not in SAME:
            raise UnsupportedError(f"ONNX has no translation of the operation {node.op}")
        TABLE.get(node.op, elementwise)(writer, node)
    return writer


class Writer(Nodes):
    """The nodes of a graph.

    Args:
      graph: traced for any number of images.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.names: dict[tuple[Value, bool], str] = {(graph.image, False): IMAGE, (graph.logits, False): LOGITS}
        self.channels_first: set[Value] = set()  # where a value is kept as (B, C, H, W)

    def output(self, node: Node, channels_first: bool = False) -> str:
        """The name for a node's output."""
        if channels_first:
            self.channels_first.add(node.output)
        key = node.output, channels_first
        if key not in self.names:
            self.names[key] = self.fresh(node.op)
        return self.names[key]

    def name(self, value: Value, channels_first: bool = False) -> str:
        """The name of a value in one of the two layouts; a transpose is added where it is missing."""
        key = value, channels_first
        if key not in self.names:
            if isinstance(value, Constant):
                self.names[key] = self.array(_placed(value.array, channels_first), value.name or "constant")
            else:
                perm, stem = (TO_NCHW, "nchw") if channels_first else (TO_NHWC, "nhwc")
                self.names[key] = self.emit(
                    "Transpose", [self.name(value, not channels_first)], self.fresh(stem), perm=perm
                )
        return self.names[key]


def _placed(array: np.ndarray, channels_first: bool) -> np.ndarray:
    """A constant as it is broadcast to a value in that layout; one axis is that of the channels."""
    if not channels_first or array.size == 1:
        return array
    return array.transpose(TO_NCHW) if array.ndim == 4 else array.reshape(-1, 1, 1)


def elementwise(writer: Writer, node: Node) -> None:
    """One ONNX node, in the layout of its inputs."""
    names, first = _inputs(writer, node)
    writer.emit(SAME[node.op], names, writer.output(node, first))


def _inputs(writer: Writer, node: Node) -> tuple[list[str], bool]:
    first = any(value in writer.channels_first for value in node.inputs)
    return [writer.name(value, first) for value in node.inputs], first


def composed(*steps: tuple[str, float | None]) -> Callable[[Writer, Node], None]:
    """A unary operation that is several in ONNX, each with a number on its right or, None, without."""

    def write(writer: Writer, node: Node) -> None:
        (name,), first = _inputs(writer, node)
        last = len(steps) - 1
        for place, (op, number) in enumerate(steps):
            inputs = [name] if number is None else [name, writer.array(np.asarray(number, np.float32))]
            name = writer.emit(op, inputs, writer.output(node, first) if place == last else None)

    return write


def affine(writer: Writer, node: Node) -> None:
    """A product and a sum, of which a trivial one is left out."""
    x, *constants = node.inputs
    first = x in writer.channels_first
    name, parts = writer.name(x, first), []
    for op, constant, trivial in zip(("Mul", "Add"), constants, (1, 0), strict=True):
        assert isinstance(constant, Constant)
        if np.any(constant.array != trivial):
            parts.append((op, writer.name(constant, first)))
    for place, (op, number) in enumerate(parts):
        last = place + 1 == len(parts)
        name = writer.emit(op, [name, number], writer.output(node, first) if last else writer.fresh("scaled"))


def not_equal(writer: Writer, node: Node) -> None:
    """``Not(Equal)``."""
    names, first = _inputs(writer, node)
    equal = writer.emit("Equal", names)
    writer.emit("Not", [equal], writer.output(node, first))


def cast(writer: Writer, node: Node) -> None:
    """To one of the types of `TYPES`."""
    if node.output.dtype.name not in TYPES:
        raise UnsupportedError(f"ONNX: expected arrays of {', '.join(TYPES)}; the model has {node.output.dtype}")
    names, first = _inputs(writer, node)
    writer.emit("Cast", names, writer.output(node, first), to=TYPES[node.output.dtype.name])


def reshape(writer: Writer, node: Node) -> None:
    """To the output's shape, the batch as -1."""
    sizes = [size if isinstance(size, int) else -1 for size in node.output.shape]
    if sizes.count(-1) > 1:
        raise UnsupportedError(f"ONNX: a shape with several open sizes, {node.output.shape}")
    shape = writer.array(np.asarray(sizes, np.int64), "shape")
    writer.emit("Reshape", [writer.name(node.inputs[0]), shape], writer.output(node))


def broadcast(writer: Writer, node: Node) -> None:
    """To the output's shape, the batch as that of the images."""
    parts = []
    for size in node.output.shape:
        if isinstance(size, int):
            parts.append(writer.array(np.asarray([size], np.int64), "shape"))
        elif size == writer.graph.image.shape[0]:
            parts.append(writer.emit("Shape", [IMAGE], writer.fresh("batch"), start=0, end=1))
        else:
            raise UnsupportedError(f"ONNX: broadcasting to {node.output.shape}")
    shape = writer.emit("Concat", parts, writer.fresh("shape"), axis=0)
    writer.emit("Expand", [writer.name(node.inputs[0]), shape], writer.output(node))


def transpose(writer: Writer, node: Node) -> None:
    """Of any axes."""
    writer.emit("Transpose", [writer.name(node.inputs[0])], writer.output(node), perm=node.params["perm"])


def cut(writer: Writer, node: Node) -> None:
    """A slice of all axes."""
    stops = [END if stop is None else stop for stop in node.params["stops"]]
    axes = range(len(stops))
    numbers = (node.params["starts"], stops, axes, node.params["steps"])
    names = [writer.array(np.asarray(list(part), np.int64), "slice") for part in numbers]
    writer.emit("Slice", [writer.name(node.inputs[0]), *names], writer.output(node))


def concatenate(writer: Writer, node: Node) -> None:
    """Along one axis."""
    names = [writer.name(value) for value in node.inputs]
    writer.emit("Concat", names, writer.output(node), axis=node.params["axis"])


def pad(writer: Writer, node: Node) -> None:
    """With one value."""
    low, high = zip(*node.params["pads"], strict=True)
    pads = writer.array(np.asarray([*low, *high], np.int64), "pads")
    x, fill = (writer.name(value) for value in node.inputs)
    writer.emit("Pad", [x, pads, fill], writer.output(node))


def reduction(writer: Writer, node: Node) -> None:
    """Over some axes, which go away."""
    axes = writer.array(np.asarray(node.params["axes"], np.int64), "axes")
    writer.emit(REDUCTIONS[node.op], [writer.name(node.inputs[0]), axes], writer.output(node), keepdims=0)


def softmax(writer: Writer, node: Node) -> None:
    """Over the last axis."""
    writer.emit("Softmax", [writer.name(node.inputs[0])], writer.output(node), axis=-1)


def matmul(writer: Writer, node: Node) -> None:
    """Of two unknowns."""
    writer.emit("MatMul", [writer.name(value) for value in node.inputs], writer.output(node))


def linear(writer: Writer, node: Node) -> None:
    """``Gemm`` of a matrix; of more axes ``MatMul`` and ``Add``."""
    x, weight, bias = (writer.name(value) for value in node.inputs)
    if len(node.output.shape) == 2:
        writer.emit("Gemm", [x, weight, bias], writer.output(node))
    else:
        product = writer.emit("MatMul", [x, weight], writer.fresh("product"))
        writer.emit("Add", [product, bias], writer.output(node))


def conv(writer: Writer, node: Node) -> None:
    """In ONNX's layout: (B, C, H, W), weights (N, C / groups, kh, kw)."""
    x, weight, bias = node.inputs
    assert isinstance(weight, Constant)
    (top, bottom), (left, right) = node.params["pads"]
    kernel = writer.array(weight.array.transpose(3, 2, 0, 1), weight.name or "weight")
    writer.emit(
        "Conv",
        [writer.name(x, True), kernel, writer.name(bias)],
        writer.output(node, True),
        kernel_shape=weight.array.shape[:2],
        strides=node.params["strides"],
        pads=(top, left, bottom, right),
        dilations=node.params["dilations"],
        group=node.params["groups"],
    )


def max_pool(writer: Writer, node: Node) -> None:
    """In ONNX's layout."""
    (top, bottom), (left, right) = node.params["pads"]
    window, strides = node.params["window"], node.params["strides"]
    name = writer.name(node.inputs[0], True)
    pads = (top, left, bottom, right)
    writer.emit("MaxPool", [name], writer.output(node, True), kernel_shape=window, strides=strides, pads=pads)


TABLE: dict[str, Callable[[Writer, Node], None]] = {
    **dict.fromkeys(REDUCTIONS, reduction),
    "affine": affine,
    "broadcast": broadcast,
    "cast": cast,
    "concatenate": concatenate,
    "conv": conv,
    "erfc": composed(("Erf", None), ("Neg", None), ("Add", 1.0)),
    "expm1": composed(("Exp", None), ("Sub", 1.0)),
    "linear": linear,
    "matmul": matmul,
    "max_pool": max_pool,
    "ne": not_equal,
    "pad": pad,
    "reshape": reshape,
    "rsqrt": composed(("Sqrt", None), ("Reciprocal", None)),
    "slice": cut,
    "softmax": softmax,
    "transpose": transpose,
}
