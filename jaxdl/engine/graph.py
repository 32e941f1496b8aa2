"""The structure of a model for TensorBoard: a table of its parameters, a graph of its operations by module."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax
from flax import nnx
from jax.extend.core import Literal

from jaxdl import tree
from jaxdl.typing import Array, PyTree


def table(model: nnx.Module) -> str:
    """The parameters with their shapes and counts, as Markdown."""
    params = tree.flatten(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    rows = [f"| {name} | {' x '.join(map(str, p.shape))} | {p.size:,} |" for name, p in params.items()]
    total = f"| **all** | | **{sum(p.size for p in params.values()):,}** |"
    return "\n".join(["| parameter | shape | count |", "|---|---|---:|", *rows, total])


def draw(proto: Any, model: nnx.Module, image: Array) -> Any:
    """Fills a GraphDef: every operation of the jaxpr, in the module that called it, and what it reads."""
    model = nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)
    graphdef, state = nnx.split(model)
    state = nnx.to_pure_dict(state)
    modules = {_dotted(path) for path, _ in nnx.iter_modules(model)}

    def call(state: PyTree, image: Array) -> Any:
        copy = nnx.merge(graphdef, state)
        for path, module in [*nnx.iter_modules(copy)]:
            if path and callable(module):
                object.__setattr__(module, "__class__", _scoped(type(module), _dotted(path)))
        return copy(image)

    jaxpr = jax.make_jaxpr(call)(state, image).jaxpr
    readers = [*(equation.invars for equation in jaxpr.eqns), jaxpr.outvars]
    read = {var for inputs in readers for var in inputs if not isinstance(var, Literal)}
    graph = _Graph(proto)
    for var, name in zip(jaxpr.invars, [*tree.flatten(state), "image"], strict=True):
        if var in read:
            graph.add(name, "Input" if name == "image" else "Parameter", [], [var])
    for var in jaxpr.constvars:
        graph.add("constant", "Constant", [], [var])
    for equation in jaxpr.eqns:
        scope = [name for name in re.findall(r"[\w.]+", str(equation.source_info.name_stack)) if name in modules]
        operation = _operation(equation)
        graph.add(".".join([*scope[-1:], operation]), operation, equation.invars, equation.outvars)
    for var in jaxpr.outvars:
        graph.add("logits", "Output", [var], [])
    return graph.proto


def _operation(equation: Any) -> str:
    """What a reader calls it: the name of the function where a whole function is one equation, as relu is."""
    inner = equation.params.get("call_jaxpr")
    name = equation.params.get("name") or (inner and getattr(inner, "jaxpr", inner).debug_info.func_name) or ""
    return name.strip("_") if re.fullmatch(r"_*[A-Za-z]\w*", name) else equation.primitive.name


def _dotted(path: Sequence[object]) -> str:
    return ".".join(map(str, path))


def _scoped(kind: type, name: str) -> type:
    """A subclass whose calls leave their name in the jaxpr: NNX does not do that by itself."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with jax.named_scope(name):
            return kind.__call__(self, *args, **kwargs)

    return type(kind)(kind.__name__, (kind,), {"__call__": call})


class _Graph:
    """A GraphDef under construction: TensorBoard nests nodes by the slashes in their names."""

    def __init__(self, proto: Any) -> None:
        self.proto = proto
        self._source: dict[Any, str] = {}  # variable -> the node that makes it
        self._seen: Counter[str] = Counter()

    def add(self, name: str, operation: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        name = name.replace(".", "/")
        self._seen[name] += 1
        if self._seen[name] > 1:
            name = f"{name}_{self._seen[name] - 1}"
        sources = [self._source[var] for var in inputs if not isinstance(var, Literal)]
        node = self.proto.node.add(name=name, op=operation, input=sources)
        for index, var in enumerate(outputs):
            self._source[var] = f"{name}:{index}" if index else name
            node.attr["_output_shapes"].list.shape.add(dim=[{"size": size} for size in var.aval.shape])
            node.attr["dtype"].s = str(var.aval.dtype).encode()
