"""torch's activation functions by the names that a command line gives them."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from jaxdl.typing import Array


@jax.checkpoint
def gelu(x: Array) -> Array:
    """``x * Phi(x)`` exactly, of any shape. For the gradient ``x`` is kept, where autodiff keeps three arrays.

    Source: Hendrycks and Gimpel 2016, https://docs.pytorch.org/docs/stable/generated/torch.nn.GELU.html
    """
    return jax.nn.gelu(x, approximate=False)


# elu has alpha 1, gelu is the exact one: torch's defaults (jax.nn.gelu's is the approximation by tanh).
ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "elu": jax.nn.elu,
    "gelu": gelu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
}
