"""Each example of a batch as one row of numbers."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxdl.typing import Array


@jax.custom_jvp
def flatten(x: Array) -> Array:
    """The same numbers in the same order: (B, ...) -> (B, N), as ``torch.flatten(x, 1)``.

    On a CPU x is finished before. XLA would join the making of x with the reshaping, in loops that divide to find
    the place of each number: 2.0 ms instead of 0.2 for a pooled image batch of (128, 7, 7, 64).

    Source: https://docs.pytorch.org/docs/stable/generated/torch.flatten.html
    """
    return _rows(lax.platform_dependent(x, cpu=_finished, default=lambda x: x))


@flatten.defjvp
def _flatten_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    return flatten(x), _rows(tangent)


def _rows(x: Array) -> Array:
    return x.reshape(x.shape[0], math.prod(x.shape[1:]))


def _finished(x: Array) -> Array:
    # XLA joins nothing across a branch; and it cannot know which one is taken, as the barrier hides the constant.
    return lax.cond(lax.optimization_barrier(jnp.array(True)), lambda x: x, jnp.zeros_like, x)
