"""Names, selection, size and norm of a pytree of arrays."""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdl.typing import Array, PyTree


def flatten(tree: PyTree) -> dict[str, Array]:
    """The leaves by dotted path, as a torch state_dict names them: ``{"fc1.weight": ...}``."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {_name(path): leaf for path, leaf in leaves}


def map_named(fn: Callable[..., object], tree: PyTree, *rest: PyTree) -> PyTree:
    """``fn(name, leaf, *other_leaves)`` for every leaf, in a tree of the same structure."""
    return jax.tree_util.tree_map_with_path(lambda path, *leaves: fn(_name(path), *leaves), tree, *rest)


def select(tree: PyTree, pattern: str) -> PyTree:
    """A tree of bools: True where the regular expression matches the whole dotted path.

    Raises:
      ValueError: when no leaf matches, with the names there are.
    """
    found = map_named(lambda name, _: re.fullmatch(pattern, name) is not None, tree)
    if not any(jax.tree.leaves(found)):
        raise ValueError(f"no parameter matches {pattern!r}; the names are {', '.join(flatten(tree))}")
    return found


def size(tree: PyTree) -> int:
    """The number of elements in all leaves."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def norm(tree: PyTree) -> Array:
    """The Euclidean norm over all leaves together, a scalar."""
    return jnp.sqrt(sum(jnp.vdot(leaf, leaf).real for leaf in jax.tree.leaves(tree)))


def all_finite(tree: PyTree) -> Array:
    """A scalar bool: no floating-point leaf holds NaN or infinity."""
    floats = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in floats])) if floats else jnp.array(True)


def _name(path: tuple[object, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")
