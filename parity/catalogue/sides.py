"""The same numbers on both sides: arrays, gradients, weights, axes."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import nnx

from parity.catalogue.entry import Skip
from parity.catalogue.facts import array

FLOAT64 = {"param_dtype": jnp.float64}
# For layers whose weights are loaded: to compile random numbers would take longer than all the rest.
BLANK = {**FLOAT64, "kernel_init": lambda _, shape, dtype: np.zeros(shape, dtype)}
Module = TypeVar("Module", bound=nnx.Module)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal numbers."""
    return np.random.default_rng(seed).normal(size=shape)


def torch_gradient(function: Callable[[torch.Tensor], torch.Tensor], x: Any) -> torch.Tensor:
    """Of the sum of what the function makes of ``x``."""
    (gradient,) = torch.autograd.grad(function(given := torch.tensor(x, requires_grad=True)).sum(), given)
    return gradient


def jax_gradient(function: Callable[[jax.Array], jax.Array], x: Any) -> jax.Array:
    """Of the sum of what the function makes of ``x``."""
    return jax.grad(lambda x: jnp.sum(function(x)))(x)


def together(function: Callable[..., Any], *args: Any) -> Any:
    """What the function returns, from one program: by itself JAX compiles one for every operation."""
    # Traced anew each time: what it calls may be patched meanwhile.
    return jax.jit(lambda *args: function(*args))(*args)


def loaded(module: Module, **values: Any) -> Module:
    """The module with these Variables, in float64."""
    for name, value in values.items():
        value = array(value) if isinstance(value, torch.Tensor) else value
        getattr(module, name).set_value(jnp.asarray(value))
    return module


def trajectory(tx: Any, start: Any, gradients: Any) -> jax.Array:
    """Where the parameters of an optimizer are after each gradient."""

    def step(carry: Any, gradient: Any) -> Any:
        params, state = carry
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return jax.lax.scan(step, (start, tx.init(start)), gradients)[1]


def channels_last(x: Any) -> Any:
    """(B, C, ...) as (B, ..., C)."""
    return x.transpose(0, *range(2, x.ndim), 1)


def channels_first(x: Any) -> Any:
    """(B, ..., C) as (B, C, ...)."""
    return x.transpose(0, x.ndim - 1, *range(1, x.ndim - 1))


def two_devices() -> list[Any]:
    """Two of the CPU's devices.

    Raises:
      Skip: there is one.
    """
    found = jax.devices("cpu")[:2]
    if len(found) < 2:
        raise Skip("needs two devices: XLA_FLAGS=--xla_force_host_platform_device_count=2")
    return found
