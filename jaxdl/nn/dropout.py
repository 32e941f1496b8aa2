"""Dropout that takes its randomness when it is called, so that it keeps no state."""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdl.scalar import absent, known
from jaxdl.typing import Array, Scalar


class Dropout(nnx.Module):
    """Sets each value to zero with probability ``rate`` and divides the others by ``1 - rate``.

    ``nnx.view(model, deterministic=True)`` turns it off.

    Args:
      rate: the probability of zero, from 0 to 1; below 1 where it is an array.
      deterministic: do nothing.

    Raises:
      ValueError: a rate outside 0 to 1.

    Source: Srivastava et al. 2014, https://docs.pytorch.org/docs/stable/generated/torch.nn.Dropout.html
    """

    def __init__(self, rate: Scalar = 0.5, *, deterministic: bool = False) -> None:
        if known(rate) and not 0 <= rate <= 1:
            raise ValueError(f"expected a dropout rate from 0 to 1, got {rate}")
        self.rate, self.deterministic = rate, deterministic

    def __call__(self, x: Array, rngs: nnx.Rngs | None = None) -> Array:
        """Drops values of ``x``; the mask is drawn from the ``dropout`` stream of ``rngs``.

        Raises:
          ValueError: no ``rngs`` where a mask is needed.
        """
        if self.deterministic or absent(self.rate):
            return x
        if known(self.rate) and self.rate == 1:
            return jnp.zeros_like(x)
        if rngs is None:
            raise ValueError(
                "dropout in training needs rngs: pass them, or view the model with deterministic=True"
            )
        kept = jax.random.bernoulli(rngs.dropout(), 1 - self.rate, x.shape)
        return jnp.where(kept, x / jnp.asarray(1 - self.rate, x.dtype), jnp.zeros_like(x))

    def set_view(self, deterministic: bool | None = None) -> None:
        """What `nnx.view` calls."""
        if deterministic is not None:
            self.deterministic = deterministic
