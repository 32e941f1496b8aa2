"""The module that holds a variable, and what layer it is."""

from collections.abc import Mapping
from typing import Any

from flax import linen, nnx


def kind(owner: Any) -> str:
    """The layer of Flax or jaxdl that a module is or is derived from; what users wrote has its own name."""
    own = type(owner)
    base = next((cls for cls in own.__mro__ if cls.__module__.split(".")[0] in ("flax", "jaxdl")), own)
    return f"own {own.__name__}" if base in (nnx.Module, nnx.Pytree, linen.Module, object) else base.__name__


def home(modules: Mapping[tuple[str, ...], Any], path: tuple[str, ...]) -> tuple[str, ...]:
    """The longest of these paths that a variable's path begins with."""
    return next((path[:end] for end in range(len(path) - 1, -1, -1) if path[:end] in modules), ())
