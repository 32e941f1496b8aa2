"""torch's initial distributions."""

import math

import jax

from jaxdl.typing import Array


def torch_uniform(key: Array, shape: tuple[int, ...], fan_in: int) -> Array:
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), float32: what torch gives the weight and the bias of Linear and Conv.

    torch writes it as ``kaiming_uniform_(weight, a=sqrt(5))``; the bias has the weight's bound.
    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.Linear.html
    """
    bound = 1 / math.sqrt(fan_in)
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)
