"""torch's activation functions by the names that a command line gives them."""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxdl.typing import Array

# elu has alpha 1, gelu is the exact one: torch's defaults (jax.nn.gelu's is the approximation by tanh).
ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
}
