"""A module of flax.linen as pure functions of nested dicts."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen
from flax.core import unfreeze

from parity.bridge import FlaxLeaf
from parity.flax_side.calling import flags, split
from parity.flax_side.owners import home, kind
from parity.flax_side.precision import PINS, pinned
from parity.flax_side.watching import Watch, watched_linen


class LinenModel:
    """Its parameters and statistics apart from it.

    Args:
      module: what is applied.
      dtype: to compute in.
      call: the pair's own ``flax_call``.
      inputs: of a batch, to make the variables with.
      seed: of the variables.
      made: its own weights -> those to start with.
    """

    def __init__(
        self,
        module: linen.Module,
        dtype: Any,
        call: Callable[..., Any] | None,
        inputs: Mapping[Any, Any],
        seed: int,
        made: Callable[..., Any],
    ) -> None:
        self.module, self.call, self.dtype = module, call, dtype
        self.kinds: dict[tuple[str, ...], linen.Module] = {}
        variables = made(self._variables(inputs, seed), dtype)
        self.params = variables.pop("params", {})
        self.stats = {name: variables[name] for name in variables if name not in ("intermediates", "cache")}

    def _variables(self, inputs: Mapping[Any, Any], seed: int) -> Any:
        def note(next_call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            self.kinds.setdefault(tuple(context.module.path), context.module)
            return self._unpinned(next_call, args, kwargs, context)

        positional, keywords = split(inputs)
        keywords |= self._flags(train=False)
        key = jax.random.key(seed)
        with linen.intercept_methods(note):
            return unfreeze(self.module.init({"params": key, "dropout": key}, *positional, **keywords))

    def collections(self, stats: Any) -> dict[str, Any]:
        """Statistics by collection."""
        return dict(stats)

    def joined(self, collections: Mapping[str, Any]) -> Any:
        """The inverse of `collections`."""
        return dict(collections)

    def apply(
        self, params: Any, stats: Any, inputs: Mapping[Any, Any], train: bool, watch: Watch | None = None
    ) -> tuple[Any, Any]:
        """What the module returns, and its statistics afterwards."""
        positional, keywords = split(inputs)
        given: dict[str, Any] = {
            "mutable": list(stats) if train else False,
            "rngs": {"dropout": jax.random.key(0)},
        }
        call = self.call
        if call:
            given["method"] = lambda module, *args, **more: call(module, *args, **more, train=train, rngs=None)
        else:
            keywords |= self._flags(train)
        with watched_linen(watch) if watch else contextlib.nullcontext(), linen.intercept_methods(self._unpinned):
            made = self.module.apply({"params": params, **stats}, *positional, **keywords, **given)
        return made if train else (made, stats)

    def _unpinned(self, call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        # The cell of a recurrent layer is asked for its state before it is called.
        held = [part for part in vars(context.module).values() if isinstance(part, linen.Module)]
        for part in (context.module, *held):
            for name in PINS:
                if part is not context.module.parent and pinned(part, name, self.dtype):
                    object.__setattr__(part, name, self.dtype)
        return call(*args, **kwargs)

    def leaves(self) -> list[FlaxLeaf]:
        """Parameters and statistics as the bridge sees them, in the order in which modules were called."""
        place = {path: index for index, path in enumerate(self.kinds)}
        found = []
        for collection, statistic in ((self.params, False), *((part, True) for part in self.stats.values())):
            for path, value in jax.tree_util.tree_leaves_with_path(collection):
                if jnp.issubdtype(value.dtype, jnp.floating):  # else a counter
                    found.append(self._leaf(tuple(str(entry.key) for entry in path), value, statistic))
        return sorted(found, key=lambda leaf: (leaf.statistic, place.get(home(place, leaf.path), 0)))

    def _leaf(self, path: tuple[str, ...], value: Any, statistic: bool) -> FlaxLeaf:
        owner = self.kinds.get(home(self.kinds, path))
        transposed = bool(getattr(owner, "transpose_kernel", False))
        return FlaxLeaf(path, tuple(value.shape), kind(owner), statistic, None, transposed)

    def _flags(self, train: bool) -> dict[str, bool]:
        return flags(type(self.module).__call__, train)
