import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxdl.nn.flatten import flatten


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (3, 7), (1, 2, 2), (0, 2, 3), (4,)])
def test_is_torchs(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = torch.flatten(torch.tensor(x), 1) if x.ndim > 1 else x.reshape(-1, 1)
    np.testing.assert_array_equal(flatten(jnp.asarray(x)), expected)


@pytest.mark.usefixtures("x64")
def test_every_derivative_goes_through():
    x = jnp.arange(12.0).reshape(2, 3, 2)
    dx = jnp.cos(x)
    y, tangent = jax.jvp(flatten, (x,), (dx,))
    np.testing.assert_array_equal(y, x.reshape(2, 6))
    np.testing.assert_array_equal(tangent, dx.reshape(2, 6))
    (pulled,) = jax.vjp(flatten, x)[1](tangent)
    np.testing.assert_array_equal(pulled, dx)
    hessian = jax.hessian(lambda x: jnp.sum(flatten(x) ** 3))(x).reshape(12, 12)
    np.testing.assert_array_equal(hessian, np.diag(6 * x.ravel()))
    np.testing.assert_array_equal(jax.vmap(flatten)(x[None]), x.reshape(1, 2, 6))


def test_on_a_cpu_what_it_takes_is_finished_before():
    def pooled(x):
        return flatten(jnp.maximum(x[:, ::2], x[:, 1::2]))

    text = jax.jit(pooled).lower(jnp.ones((4, 6, 3, 8))).compile().as_text() or ""
    assert "f32[4,72]" in text
    assert not re.search(r"= f32\[4,72\]\S* fusion", text), "a loop writes the rows"
