"""What a port returns, on the host and by name."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def arrays(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """On the host; floats in float64."""
    host = jax.device_get(dict(values))
    return {
        name: np.asarray(value, np.float64 if jnp.issubdtype(np.asarray(value).dtype, jnp.floating) else None)
        for name, value in host.items()
    }


def named(values: Any) -> dict[str, Any]:
    """The arrays in what a module returned by their place, as `parity.torch_side.outputs` names tensors."""
    if hasattr(values, "shape") and hasattr(values, "dtype"):
        return {"output": values}
    if isinstance(values, Mapping):
        items = list(values.items())
    else:
        parts = values if isinstance(values, tuple | list) else jax.tree.leaves(values)
        items = list(enumerate(parts)) if len(parts) != 1 or parts[0] is not values else []
    found = {}
    for place, value in items:
        inner = named(value)
        found |= {str(place) if name == "output" else f"{place}.{name}": array for name, array in inner.items()}
    return found
