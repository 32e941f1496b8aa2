"""A module of flax.nnx as pure functions of nested dicts."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from parity.bridge import FlaxLeaf
from parity.flax_side.calling import FLAGS, caller
from parity.flax_side.owners import home, kind
from parity.flax_side.precision import PINS, pinned
from parity.flax_side.watching import Watch, watched_nnx


class NnxModel:
    """Its parameters and statistics apart from it.

    Args:
      module: left as it is.
      dtype: to compute in.
      call: ``(module, inputs, train) -> outputs``; by default what the module's signature says.
      made: its own weights -> those to start with.
    """

    def __init__(
        self, module: nnx.Module, dtype: Any, call: Callable[..., Any] | None, made: Callable[..., Any]
    ) -> None:
        self.defined = _defined(module)
        module = nnx.clone(module)
        for _, part in nnx.iter_modules(module):
            for name in PINS:
                if pinned(part, name, dtype):
                    setattr(part, name, dtype)
        self.call = call or caller(type(module).__call__)
        self.graphdef, params, stats, rest = nnx.split(module, nnx.Param, _is_statistic, ...)
        self.params, self.stats = (made(nnx.to_pure_dict(part), dtype) for part in (params, stats))
        self.rest = nnx.to_pure_dict(rest)
        shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), nnx.state(module))
        self.module = nnx.merge(self.graphdef, shapes)  # its weights would stay in memory beside `params`

    def collections(self, stats: Any) -> dict[str, Any]:
        """Statistics by collection; there is one."""
        return {"": stats}

    def joined(self, collections: Mapping[str, Any]) -> Any:
        """The inverse of `collections`."""
        return collections[""]

    def merged(self, params: Any, stats: Any, train: bool) -> nnx.Module:
        """A module with these values, told whether it trains."""
        module = nnx.merge(self.graphdef, params, stats, self.rest, copy=True)
        flags = {name: value(train) for name, value in FLAGS.items() if name != "train"}  # that one is a method
        module.set_attributes(**flags, raise_if_not_found=False)
        return module

    def apply(
        self, params: Any, stats: Any, inputs: Mapping[Any, Any], train: bool, watch: Watch | None = None
    ) -> tuple[Any, Any]:
        """What the module returns, and its statistics afterwards."""
        module = self.merged(params, stats, train)
        with watched_nnx(module, watch) if watch else contextlib.nullcontext():
            made = self.call(module, inputs, train)
        return made, nnx.to_pure_dict(nnx.state(module, _is_statistic))

    def leaves(self) -> list[FlaxLeaf]:
        """Parameters and statistics as the bridge sees them, in the order of definition."""
        modules = {tuple(map(str, path)): part for path, part in nnx.iter_modules(self.module)}
        place = {path: index for index, path in enumerate(self.defined)}
        found = []
        for variable_type, statistic in ((nnx.Param, False), (_is_statistic, True)):
            flat = nnx.to_flat_state(nnx.state(self.module, variable_type))
            named = [(tuple(map(str, path)), variable) for path, variable in flat]
            for path, variable in sorted(named, key=lambda item: place.get(item[0], len(place))):
                if jnp.issubdtype(variable.dtype, jnp.floating):  # else a counter
                    found.append(_leaf(path, variable, modules.get(home(modules, path)), statistic))
        return found


def _leaf(path: tuple[str, ...], variable: Any, owner: Any, statistic: bool) -> FlaxLeaf:
    layout = variable.get_metadata().get("layout")
    transposed = bool(getattr(owner, "transpose_kernel", False))
    return FlaxLeaf(path, tuple(variable.shape), kind(owner), statistic, layout, transposed)


def _is_statistic(_: Any, variable: Any) -> bool:
    if not isinstance(variable, nnx.Variable) or isinstance(variable, nnx.Param | nnx.RngState | nnx.Cache):
        return False
    value = variable.get_value() if hasattr(variable, "get_value") else variable[...]
    return hasattr(value, "dtype") and not jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def _defined(module: nnx.Module) -> list[tuple[str, ...]]:
    """The paths of a module's variables in the order of definition; nnx itself sorts them by name."""
    found: list[tuple[str, ...]] = []
    seen: set[int] = set()

    def visit(node: Any, path: tuple[str, ...]) -> None:
        if isinstance(node, nnx.Variable):
            found.append(path)
        elif isinstance(node, nnx.Module | Mapping | list | tuple) and id(node) not in seen:
            seen.add(id(node))
            plain = isinstance(node, list | tuple)
            parts = dict(enumerate(node)) if plain else vars(node) if isinstance(node, nnx.Module) else node
            for name, part in parts.items():
                visit(part, (*path, str(name)))

    visit(module, ())
    return found
