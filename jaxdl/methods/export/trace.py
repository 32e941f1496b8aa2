"""The graph of a program, read from its jaxpr.

Calls are inlined; where the code depends on the platform its default is taken, which is XLA's own convolution and
pooling; what depends on weights alone is computed.
"""

from typing import Any

import jax
import numpy as np
from jax.extend import core, source_info_util

from jaxdl import tree
from jaxdl.methods.export.graph import Builder, Constant, Graph, UnsupportedError, Value, constant
from jaxdl.methods.export.lowering import TABLE
from jaxdl.methods.export.program import Program


def trace(program: Program, batch: object) -> Graph:
    """The graph of a program, for a number of images or, with a symbol of `jax.export`, for any.

    Raises:
      UnsupportedError: an operation that is not in the table; a model that fixes the number of images.
    """
    try:
        closed = jax.jit(program.apply).trace(program.weights, program.spec(batch)).jaxpr
    except TypeError as error:
        if "_DimExpr" not in str(error):
            raise
        raise UnsupportedError(
            "the model needs the number of images as an integer; write x.shape[0] rather than len(x)"
        ) from error
    weights = [constant(np.asarray(leaf), name) for name, leaf in tree.flatten(program.weights).items()]
    builder = Builder()
    image = Value(tuple(closed.jaxpr.invars[-1].aval.shape), np.dtype(np.uint8))
    consts = [constant(np.asarray(value)) for value in closed.consts]
    (logits,) = _read(builder, closed.jaxpr, [*consts, *weights, image])
    return builder.graph(image, logits)


def _read(builder: Builder, jaxpr: core.Jaxpr, inputs: list[Value], line: str = "") -> list[Value]:
    """The outputs of a jaxpr, which ``line`` of Python called."""
    env = dict(zip([*jaxpr.constvars, *jaxpr.invars], inputs, strict=True))

    def value(atom: Any) -> Value:
        return constant(np.asarray(atom.val, atom.aval.dtype)) if isinstance(atom, core.Literal) else env[atom]  # pyright: ignore[reportAttributeAccessIssue]

    for eqn in _needed(jaxpr):
        line_of = source_info_util.summarize(eqn.source_info) or line
        outputs = _outputs(builder, eqn, [value(atom) for atom in eqn.invars], line_of)
        env.update(zip(eqn.outvars, outputs, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _outputs(builder: Builder, eqn: core.JaxprEqn, inputs: list[Value], line: str) -> list[Value]:
    """Those of one equation."""
    name, params = eqn.primitive.name, eqn.params
    if name == "platform_index":
        default = next(place for place, names in enumerate(params["platforms"]) if names is None)
        return [constant(np.asarray(default, np.int32))]
    if name == "cond" and isinstance(inputs[0], Constant):
        return _inlined(builder, params["branches"][int(inputs[0].array)], inputs[1:], line)
    inner = next((params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in params), None)
    if inner is not None and name not in ("scan", "while"):
        return _inlined(builder, inner, inputs, line)
    if _known(eqn, inputs):
        return _computed(eqn, inputs)
    if name not in TABLE:
        raise UnsupportedError(f"the operation {name} of the model ({line}) has no translation")
    outputs = TABLE[name](builder, eqn, *inputs)
    return outputs if isinstance(outputs, list) else [outputs]


def _inlined(builder: Builder, inner: Any, inputs: list[Value], line: str) -> list[Value]:
    jaxpr, consts = (inner.jaxpr, inner.consts) if isinstance(inner, core.ClosedJaxpr) else (inner, [])
    return _read(builder, jaxpr, [*(constant(np.asarray(value)) for value in consts), *inputs], line)


def _needed(jaxpr: core.Jaxpr) -> list[core.JaxprEqn]:
    """The equations that the outputs depend on: not the random keys of a preparation that draws nothing."""
    wanted, kept = set(map(id, jaxpr.outvars)), []
    for eqn in reversed(jaxpr.eqns):
        if any(id(var) in wanted for var in eqn.outvars):
            wanted.update(map(id, eqn.invars))
            kept.append(eqn)
    return kept[::-1]


def _known(eqn: core.JaxprEqn, inputs: list[Value]) -> bool:
    whole = all(isinstance(size, int | np.integer) for var in eqn.outvars for size in var.aval.shape)  # pyright: ignore[reportAttributeAccessIssue]
    return whole and all(isinstance(value, Constant) for value in inputs)


def _computed(eqn: core.JaxprEqn, inputs: list[Any]) -> list[Value]:
    outputs = eqn.primitive.bind(*(value.array for value in inputs), **eqn.params)
    name = next((value.name for value in inputs if value.name), "")
    return [constant(np.asarray(o), name) for o in (outputs if eqn.primitive.multiple_results else [outputs])]
