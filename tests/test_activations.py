"""Activation functions: torch's values and gradients under torch's names."""

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
