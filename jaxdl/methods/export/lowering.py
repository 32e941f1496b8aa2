"""From jax's primitives to the operations of a `Graph`: the table of what can be exported without StableHLO.

| operation | params | |
|---|---|---|
| names of `UNARY`, `BINARY` | | element by element, with NumPy's broadcasting |
| where | | ``where(condition, if true, if false)`` |
| relu, affine | | ``max(x, 0)``; ``x * scale + shift`` |
| cast | dtype | |
| reshape, broadcast | | to the output's shape |
| transpose | perm | |
| slice | starts, stops, steps | a stop is None at the end of the axis |
| concatenate | axis | |
| pad | pads | with the second input |
| sum, maximum, minimum | axes | the axes go away |
| softmax | | over the last axis |
| linear | | ``x (..., K) @ weight (K, N) + bias (N,)`` |
| matmul | | ``(..., M, K) @ (..., K, N)`` |
| conv | strides, pads, dilations, groups | ``x (B, H, W, C)``, weight (kh, kw, C / groups, N), bias (N,) |
| max_pool | window, strides, pads | ``x (B, H, W, C)`` |
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.extend import core

from jaxdl.methods.export.graph import Builder, Constant, UnsupportedError, Value, constant

UNARY = ("exp", "expm1", "log", "tanh", "sqrt", "rsqrt", "erf", "erfc", "logistic", "abs", "neg", "not")
BINARY = ("add", "sub", "mul", "div", "max", "min", "pow", "gt", "ge", "lt", "le", "eq", "ne", "and", "or")
REDUCTIONS = {"reduce_sum": "sum", "reduce_max": "maximum", "reduce_min": "minimum"}
Lowering = Callable[..., Value | list[Value]]


def _shape(eqn: core.JaxprEqn) -> tuple[Any, ...]:
    return tuple(eqn.outvars[0].aval.shape)  # pyright: ignore[reportAttributeAccessIssue]


def _same(_: Builder, eqn: core.JaxprEqn, x: Value) -> Value:
    del eqn
    return x


def _elementwise(builder: Builder, eqn: core.JaxprEqn, *inputs: Value) -> Value:
    name = eqn.primitive.name
    return builder.add(name, list(inputs), _shape(eqn), eqn.outvars[0].aval.dtype)  # pyright: ignore[reportAttributeAccessIssue]


def _arithmetic(builder: Builder, eqn: core.JaxprEqn, *inputs: Value) -> Value:
    """Keeps what is affine in its one unknown; everything else is a node."""
    name, shape = eqn.primitive.name, _shape(eqn)
    parts = [_affine(builder, value, shape) for value in inputs]
    bases = {part[0] for part in parts if part is not None and part[0] is not None}
    if None in parts or len(bases) != 1 or eqn.outvars[0].aval.dtype != np.float32:  # pyright: ignore[reportAttributeAccessIssue]
        return _elementwise(builder, eqn, *inputs)
    scales, shifts = zip(*(part[1:] for part in parts if part is not None), strict=True)
    output = Value(shape, np.dtype(np.float32))
    (base,) = bases
    if name == "neg":
        builder.affine[output] = base, -scales[0], -shifts[0]
    elif name in ("add", "sub"):
        sign = 1 if name == "add" else -1
        builder.affine[output] = base, scales[0] + sign * scales[1], shifts[0] + sign * shifts[1]
    elif name == "mul" and any(isinstance(value, Constant) for value in inputs):
        factor, known = (shifts[0], 1) if isinstance(inputs[0], Constant) else (shifts[1], 0)
        builder.affine[output] = base, scales[known] * factor, shifts[known] * factor
    elif name == "div" and isinstance(inputs[1], Constant):
        builder.affine[output] = base, scales[0] / shifts[1], shifts[0] / shifts[1]
    else:
        return _elementwise(builder, eqn, *inputs)
    return output


def _affine(
    builder: Builder, value: Value, shape: tuple[Any, ...]
) -> tuple[Value | None, np.ndarray, np.ndarray] | None:
    """(base, scale, shift) with scalars or rows of the last axis, in float64; a constant has no base.

    None for a constant of other axes, and for what is broadcast to ``shape``.
    """
    zero, one = np.zeros(()), np.ones(())
    if isinstance(value, Constant):
        if value.array.size == 1:
            return None, zero, value.array.astype(np.float64).reshape(())
        if value.array.ndim and value.array.size == value.array.shape[-1] == shape[-1]:
            return None, zero, value.array.astype(np.float64).reshape(-1)
        return None
    if value.shape != shape:
        return None
    return builder.affine.get(value, (value, one, zero))


def _maximum(builder: Builder, eqn: core.JaxprEqn, a: Value, b: Value) -> Value:
    x, other = (b, a) if isinstance(a, Constant) else (a, b)
    if isinstance(other, Constant) and other.array.size == 1:
        if other.array.item() == 0:
            return builder.add("relu", [x], _shape(eqn))
        if other.array.item() == -math.inf:
            return x
    return _elementwise(builder, eqn, a, b)


def _square(builder: Builder, eqn: core.JaxprEqn, x: Value) -> Value:
    return builder.add("mul", [x, x], _shape(eqn))


def _integer_power(builder: Builder, eqn: core.JaxprEqn, x: Value) -> Value:
    return builder.add("pow", [x, constant(np.asarray(eqn.params["y"], np.float32))], _shape(eqn))


def _select(builder: Builder, eqn: core.JaxprEqn, which: Value, *cases: Value) -> Value:
    if len(cases) != 2 or which.dtype != bool:
        raise UnsupportedError(f"a choice between {len(cases)} arrays has no translation, only that of two")
    return builder.add("where", [which, cases[1], cases[0]], _shape(eqn), eqn.outvars[0].aval.dtype)  # pyright: ignore[reportAttributeAccessIssue]


def _cast(builder: Builder, eqn: core.JaxprEqn, x: Value) -> Value:
    dtype = eqn.outvars[0].aval.dtype  # pyright: ignore[reportAttributeAccessIssue]
    return x if x.dtype == dtype else builder.add("cast", [x], _shape(eqn), dtype)


def _reshape(builder: Builder, eqn: core.JaxprEqn, x: Value) -> Value:
    shape = _shape(eqn)
    return x if x.shape == shape else builder.add("reshape", [x], shape, x.dtype)


def _broadcast(builder: Builder, eqn: core.JaxprEqn, x: Value) -> Value:
    shape, axes = _shape(eqn), eqn.params["broadcast_dimensions"]
    aligned = tuple(x.shape[axes.index(axis)] if axis in axes else 1 for axis in range(len(shape)))
    if aligned != x.shape:
        solid = builder.solid(x)
        same = isinstance(solid, Constant)
        x = constant(solid.array.reshape(aligned)) if same else builder.add("reshape", [solid], aligned, x.dtype)
    return x if aligned == shape else builder.add("broadcast", [x], shape, x.dtype)


def _transpose(builder: Builder, eqn: core.JaxprEqn, x: Value) -> Value:
    return builder.add("transpose", [x], _shape(eqn), x.dtype, perm=tuple(eqn.params["permutation"]))


def _slice(builder: Builder, eqn: core.JaxprEqn, x: Value) -> Value:
    starts, stops = eqn.params["start_indices"], eqn.params["limit_indices"]
    return _cut(builder, x, starts, stops, eqn.params["strides"] or (1,) * len(starts))


def _cut(builder: Builder, x: Value, starts: Any, stops: Any, steps: Any) -> Value:
    ends = [None if stop == size else stop for stop, size in zip(stops, x.shape, strict=True)]
    if not any(starts) and set(ends) == {None} and set(steps) == {1}:
        return x
    spans = zip(starts, stops, steps, strict=True)
    shape = [stop if (start, step) == (0, 1) else -((start - stop) // step) for start, stop, step in spans]
    return builder.add("slice", [x], shape, x.dtype, starts=tuple(starts), stops=tuple(ends), steps=tuple(steps))


def _split(builder: Builder, eqn: core.JaxprEqn, x: Value) -> list[Value]:
    axis, ends = eqn.params["axis"], np.cumsum(eqn.params["sizes"]).tolist()
    outputs = []
    for start, end in zip([0, *ends], ends, strict=False):
        starts, stops = [0] * len(x.shape), list(x.shape)
        starts[axis], stops[axis] = start, end
        outputs.append(_cut(builder, x, starts, stops, [1] * len(x.shape)))
    return outputs


def _gather(builder: Builder, eqn: core.JaxprEqn, x: Value, indices: Value) -> Value:
    """``x[:, 3]``, which with a symbolic batch is a gather."""
    spec, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    if not isinstance(indices, Constant) or indices.array.ndim != 1 or spec.operand_batching_dims:
        raise UnsupportedError("an index of this kind has no translation; lax.slice and lax.index_in_dim have one")
    starts = [0] * len(x.shape)
    for axis, index in zip(spec.start_index_map, indices.array.tolist(), strict=True):
        starts[axis] = min(max(index, 0), x.shape[axis] - sizes[axis])
    stops = [start + size for start, size in zip(starts, sizes, strict=True)]
    part = _cut(builder, x, starts, stops, [1] * len(starts))
    return builder.add("reshape", [part], _shape(eqn), x.dtype)


def _concatenate(builder: Builder, eqn: core.JaxprEqn, *inputs: Value) -> Value:
    if len(inputs) == 1:
        return inputs[0]
    return builder.add("concatenate", list(inputs), _shape(eqn), inputs[0].dtype, axis=eqn.params["dimension"])


def _pad(builder: Builder, eqn: core.JaxprEqn, x: Value, fill: Value) -> Value:
    pads = tuple((int(low), int(high)) for low, high, _ in eqn.params["padding_config"])
    if any(low < 0 or high < 0 or inner for (low, high, inner) in eqn.params["padding_config"]):
        raise UnsupportedError("padding that cuts off, or between elements, has no translation")
    return x if not any(map(sum, pads)) else builder.add("pad", [x, fill], _shape(eqn), x.dtype, pads=pads)


def _reduce(builder: Builder, eqn: core.JaxprEqn, x: Value) -> Value:
    return builder.add(REDUCTIONS[eqn.primitive.name], [x], _shape(eqn), x.dtype, axes=tuple(eqn.params["axes"]))


def _division(builder: Builder, eqn: core.JaxprEqn, a: Value, b: Value) -> Value:
    """A quotient; ``exp(x - maximum) / sum`` over the last axis is a softmax."""
    made = {node.output: node for node in builder.nodes[-16:]}
    top, bottom = made.get(a), made.get(b)
    while bottom is not None and bottom.op in ("reshape", "broadcast"):
        bottom = made.get(bottom.inputs[0])
    if top is not None and bottom is not None and (top.op, bottom.op) == ("exp", "sum"):
        shifted = made.get(top.inputs[0])
        over_last = bottom.inputs == (a,) and bottom.params["axes"] == (len(a.shape) - 1,)
        if over_last and shifted is not None and shifted.op == "sub" and _is_maximum(made, *shifted.inputs):
            return builder.add("softmax", [shifted.inputs[0]], _shape(eqn))
    return _arithmetic(builder, eqn, a, b)


def _is_maximum(made: dict[Value, Any], x: Value, value: Value) -> bool:
    node = made.get(value)
    while node is not None and node.op == "reshape":
        node = made.get(node.inputs[0])
    return node is not None and node.op == "maximum" and node.inputs == (x,)


def _check_float32(eqn: core.JaxprEqn, *inputs: Value) -> None:
    others = {value.dtype.name for value in inputs} - {"float32"}
    if others:
        raise UnsupportedError(
            f"the operation {eqn.primitive.name} of {', '.join(sorted(others))} has no translation"
        )


def _dot(builder: Builder, eqn: core.JaxprEqn, a: Value, b: Value) -> Value:
    _check_float32(eqn, a, b)
    (left, right), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    if len(left) != 1:
        raise UnsupportedError("a product summed over several axes has no translation")
    if isinstance(b, Constant) and len(b.shape) == 2 and left[0] == len(a.shape) - 1:
        weight = b if right[0] == 0 else constant(b.array.T, b.name)
        bias = constant(np.zeros(weight.shape[1], np.float32))
        return builder.add("linear", [a, weight, bias], _shape(eqn))
    a = _ordered(builder, a, left_batch, left[0], last=True)
    b = _ordered(builder, b, right_batch, right[0], last=False)
    return builder.add("matmul", [a, b], _shape(eqn))


def _ordered(builder: Builder, x: Value, batch: Sequence[int], summed: int, *, last: bool) -> Value:
    """The factor of a product with axes (batch..., free, summed), or with the summed before the free."""
    free = [axis for axis in range(len(x.shape)) if axis not in (*batch, summed)]
    if len(free) != 1:
        raise UnsupportedError(f"a product of an array of {len(x.shape)} axes has no translation")
    perm = (*batch, *free, summed) if last else (*batch, summed, *free)
    if perm == tuple(range(len(perm))):
        return x
    return builder.add("transpose", [x], [x.shape[axis] for axis in perm], x.dtype, perm=perm)


def _conv(builder: Builder, eqn: core.JaxprEqn, x: Value, weight: Value) -> Value:
    _check_float32(eqn, x, weight)
    params = eqn.params
    spec = tuple(map(tuple, params["dimension_numbers"]))
    plain = spec == ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2)) and set(params["lhs_dilation"]) == {1}
    if not plain or params["batch_group_count"] != 1 or not isinstance(weight, Constant):
        raise UnsupportedError("only convolutions of (B, H, W, C) with constant weights have a translation")
    return builder.add(
        "conv",
        [x, weight, constant(np.zeros(weight.shape[3], np.float32))],
        _shape(eqn),
        strides=tuple(params["window_strides"]),
        pads=tuple(params["padding"]),
        dilations=tuple(params["rhs_dilation"]),
        groups=params["feature_group_count"],
    )


def _max_pool(builder: Builder, eqn: core.JaxprEqn, x: Value) -> Value:
    names = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
    window, strides, pads, *dilations = (tuple(eqn.params[name]) for name in names)
    inner = all(sizes[0] == sizes[3] == 1 for sizes in (window, strides))
    if len(window) != 4 or not inner or any(set(sizes) != {1} for sizes in dilations):
        raise UnsupportedError("only pooling over height and width of (B, H, W, C) has a translation")
    pads = tuple((int(low), int(high)) for low, high in pads[1:3])
    return builder.add("max_pool", [x], _shape(eqn), window=window[1:3], strides=strides[1:3], pads=pads)


TABLE: dict[str, Lowering] = {
    **dict.fromkeys((*UNARY, *BINARY), _elementwise),
    **dict.fromkeys(("add", "sub", "mul", "neg"), _arithmetic),
    **dict.fromkeys(("stop_gradient", "copy", "copy_p", "optimization_barrier"), _same),
    **dict.fromkeys(("reshape", "squeeze", "expand_dims"), _reshape),
    **dict.fromkeys(REDUCTIONS, _reduce),
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _conv,
    "convert_element_type": _cast,
    "div": _division,
    "dot_general": _dot,
    "gather": _gather,
    "integer_pow": _integer_power,
    "max": _maximum,
    "pad": _pad,
    "reduce_window_max": _max_pool,
    "select_n": _select,
    "slice": _slice,
    "split": _split,
    "square": _square,
    "transpose": _transpose,
}
