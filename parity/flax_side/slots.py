"""What an optax optimizer keeps for every parameter."""

from typing import Any

import jax

from jaxdl import tree


def slots(opt_state: Any, params: Any) -> dict[str, dict[str, Any]]:
    """Name of the slot -> parameter -> array, of the parameter's own shape."""

    def like_params(node: Any) -> bool:
        return isinstance(node, dict) and set(node) == set(params)

    wanted = {name: value.shape for name, value in tree.flatten(params).items()}
    found: dict[str, dict[str, Any]] = {}
    for path, node in jax.tree_util.tree_flatten_with_path(opt_state, is_leaf=like_params)[0]:
        if like_params(node):
            values = {name: value for name, value in tree.flatten(node).items() if value.shape == wanted.get(name)}
            name = next((str(entry.name) for entry in reversed(path) if hasattr(entry, "name")), "state")
            while values.keys() & found.get(name, {}).keys():
                name += "'"
            found.setdefault(name, {}).update(values)
    return {name: values for name, values in found.items() if values}
