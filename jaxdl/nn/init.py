"""torch's initial distributions; all float32."""

import functools
import math
from collections.abc import Callable

import jax

from jaxdl.typing import Array

Shape = tuple[int, ...]
Init = Callable[[Array, Shape], Array]  # a key and a shape -> the initial values

# A model has few shapes and many parameters: one program a shape, whatever the fan.
_by_shape = functools.partial(jax.jit, static_argnums=1)


def torch_uniform(key: Array, shape: Shape, fan_in: int) -> Array:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), float32: what torch gives the weight and the bias of Linear and Conv.

    torch writes it as ``kaiming_uniform_(weight, a=sqrt(5))``; the bias has the weight's bound.
    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html
    """
    bound = 1 / math.sqrt(fan_in)
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


@_by_shape
def normal(key: Array, shape: Shape, std: float) -> Array:
    """N(0, std**2)."""
    return std * jax.random.normal(key, shape)


def kaiming_normal(key: Array, shape: Shape, fan: int) -> Array:
    """N(0, 2/fan): keeps the variance through a ReLU, forwards with a layer's fan-in, backwards with its fan-out.

    Source: He et al. 2015, https://docs.pytorch.org/docs/stable/nn.init.html
    """
    return normal(key, shape, math.sqrt(2 / fan))


def xavier_uniform(key: Array, shape: Shape) -> Array:
    """U(-b, b) with ``b = sqrt(6 / (in + out))`` for a weight (in, out).

    Source: Glorot and Bengio 2010, https://docs.pytorch.org/docs/stable/nn.init.html
    """
    bound = math.sqrt(6 / sum(shape))
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


@_by_shape
def trunc_normal(key: Array, shape: Shape, std: float) -> Array:
    """N(0, std**2) without what lies beyond -2 and 2: these are values, not multiples of ``std``.

    Source: https://docs.pytorch.org/docs/stable/nn.init.html
    """
    return std * jax.random.truncated_normal(key, -2 / std, 2 / std, shape)
