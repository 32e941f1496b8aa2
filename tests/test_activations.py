"""Activation functions: torch's values and gradients under torch's names."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxdl.nn.activations import ACTIVATIONS

TORCH = {
    "relu": torch.nn.ReLU(),
    "elu": torch.nn.ELU(),
    "gelu": torch.nn.GELU(),
    "silu": torch.nn.SiLU(),
    "tanh": torch.nn.Tanh(),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_and_gradients_are_torchs(name):
    values = np.concatenate([[0.0], np.random.default_rng(0).normal(0, 3, 200)])
    expected = torch.tensor(values, requires_grad=True)
    out = TORCH[name](expected)
    out.sum().backward()
    np.testing.assert_allclose(ACTIVATIONS[name](jnp.asarray(values)), out.detach(), rtol=1e-12, atol=1e-15)
    slope = jax.vmap(jax.grad(ACTIVATIONS[name]))(jnp.asarray(values))
    np.testing.assert_allclose(slope, expected.grad, rtol=1e-12, atol=1e-15)


@pytest.mark.usefixtures("x64")
def test_gelu_has_every_derivative_and_keeps_its_input_alone():
    x = jnp.linspace(-6, 6, 101)
    plain = functools.partial(jax.nn.gelu, approximate=False)
    for first, second in ((jax.grad, jax.grad), (jax.jacfwd, jax.grad), (jax.grad, jax.jacfwd)):
        found, expected = (jax.vmap(first(second(f)))(x) for f in (ACTIVATIONS["gelu"], plain))
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)
    kept, more = (
        sum(leaf.size for leaf in jax.tree.leaves(jax.vjp(f, x)[1])) for f in (ACTIVATIONS["gelu"], plain)
    )
    assert kept == x.size
    assert more >= 3 * x.size
