import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxdl import tree
from jaxdl.engine import weights
from jaxdl.models.actor_critic import ActorCritic
from parity.twins import reinforce as twin


@pytest.mark.usefixtures("x64")
def test_logits_and_values_are_torchs():
    model = ActorCritic(5, 3, hidden=7, rngs=nnx.Rngs(0))
    params = tree.flatten(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    module = twin.ActorCritic(5, 3, 7).double()
    named = weights.to_torch(model, params)
    module.load_state_dict({name: torch.tensor(np.asarray(value, np.float64)) for name, value in named.items()})
    nnx.update(model, jax.tree.map(lambda leaf: leaf.astype(jnp.float64), nnx.state(model)))
    seen = np.random.default_rng(0).normal(size=(4, 2, 5))
    logits, value = model(jnp.asarray(seen))
    expected = module(torch.tensor(seen))
    np.testing.assert_allclose(logits, expected[0].detach(), rtol=1e-13)
    np.testing.assert_allclose(value, expected[1].detach(), rtol=1e-13)


def test_the_first_policy_is_nearly_uniform_and_weights_are_orthogonal():
    model = ActorCritic(6, 4, hidden=32, rngs=nnx.Rngs(1))
    logits, _ = model(jnp.asarray(np.random.default_rng(0).normal(size=(50, 6)), jnp.float32))
    assert np.abs(np.asarray(jax.nn.softmax(logits)) - 0.25).max() < 0.01
    hidden = np.asarray(model.actor.fc2.weight[...])
    np.testing.assert_allclose(hidden @ hidden.T, 2 * np.eye(32), atol=1e-5)
