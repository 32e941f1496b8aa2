"""Changes one part of a port: a setting of it, or what happens when it is called."""

import dataclasses
import functools
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flax import nnx

from parity.mutate.faults import Planted, Right


def changed(
    given: Right,
    change: Callable[[Any], bool],
    kinds: Sequence[str] = ("layer", "glue"),
    *,
    anywhere: bool = False,
) -> Iterator[Planted]:
    """The pairs with one part of the port changed in place.

    Args:
      given: the right pair.
      change: changes a part; returns whether it could.
      kinds: of `Planted`.
      anywhere: the fault shows in other places of the model as well.
    """
    for path in _parts(given.port):
        port = nnx.clone(given.port)
        if change(_parts(port)[path]):
            places = frozenset() if anywhere else _torch_place(given, path)
            yield Planted(dataclasses.replace(given.pair, flax=port), frozenset(kinds), places)


def wrapped(
    given: Right,
    wanted: Callable[[Any], Any],
    call: Callable[..., Any],
    kinds: Sequence[str] = ("layer", "glue"),
    *,
    anywhere: bool = False,
) -> Iterator[Planted]:
    """The pairs with the ``__call__`` of a wanted part replaced by ``call(part, original, *args)``."""

    def change(part: Any) -> bool:
        if not wanted(part) or not callable(part):
            return False
        cls = type(part)

        @functools.wraps(cls.__call__)
        def spoiled(self: Any, *args: Any, **more: Any) -> Any:
            return call(self, types.MethodType(cls.__call__, self), *args, **more)

        # The class, as Python finds __call__ there; the part stays one of its own class.
        object.__setattr__(part, "__class__", type(cls.__name__, (cls,), {"__call__": spoiled}))
        return True

    return changed(given, change, kinds, anywhere=anywhere)


def attribute(
    names: Sequence[str], value: Callable[[Any], Any], of: Callable[[Any], bool] = lambda _: True
) -> Callable[[Any], bool]:
    """A change of the first of these attributes that a part has, by ``value(before)``; None leaves it alone."""

    def change(part: Any) -> bool:
        name = next((name for name in names if hasattr(part, name) and of(part)), None)
        if name is None:
            return False
        before = getattr(part, name)
        after = value(before)
        if after is None or after == before:
            return False
        setattr(part, name, after)
        return True

    return change


def is_norm(part: Any) -> bool:
    """Whether a part normalises."""
    return hasattr(part, "epsilon") or hasattr(part, "eps")


def has_statistics(part: Any) -> bool:
    """Whether a part keeps running statistics."""
    return is_norm(part) and hasattr(part, "momentum")


def has_weights(part: Any) -> bool:
    """Whether a part holds a matrix or a kernel."""
    weight = getattr(part, "weight", getattr(part, "kernel", None))
    return isinstance(weight, nnx.Param) and len(weight.shape) > 1


def _parts(port: Any) -> dict[str, Any]:
    if isinstance(port, nnx.Module):
        return {".".join(map(str, path)): part for path, part in nnx.iter_modules(port)}
    return {}


def _torch_place(given: Right, port_path: str) -> frozenset[str]:
    """torch's path of a part of the port: by its weights, else by its name."""
    found = {
        link.source.keys[0].rpartition(".")[0]
        for link in given.bridge.links
        if ".".join(link.leaf.path[:-1]) == port_path
    }
    return frozenset(found or {port_path})
