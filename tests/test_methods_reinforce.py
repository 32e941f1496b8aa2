"""Losses, advantages and updates against torch, in float64, on recorded trajectories."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl import tree
from jaxdl.engine import state, weights
from jaxdl.methods import reinforce, rollout
from jaxdl.models.actor_critic import ActorCritic
from jaxdl.optim.optimizers import adam
from jaxdl.optim.transforms import clip_by_norm
from parity.twins import reinforce as twin

ADVANTAGES = jax.jit(reinforce.advantages)
TX = optax.chain(clip_by_norm(0.5), adam(0.01, eps=1e-5))


def wide(values):
    """float64, where they are floating-point."""
    return jax.tree.map(lambda x: x.astype(jnp.float64) if jnp.issubdtype(x.dtype, jnp.floating) else x, values)


def begin(world, seed=0):
    """Structure and state of a float64 model, and the torch module with its weights and its optimizer."""
    model = ActorCritic(world.features, world.actions, hidden=8, rngs=nnx.Rngs(seed))
    nnx.update(model, wide(nnx.state(model)))
    graph, first = state.create(model, TX, jax.random.key(seed))
    module = twin.ActorCritic(world.features, world.actions, 8).double()
    named = weights.to_torch(model, tree.flatten(first.params))
    module.load_state_dict({name: torch.tensor(np.asarray(value)) for name, value in named.items()})
    return graph, first, module, torch.optim.Adam(module.parameters(), 0.01, eps=1e-5)


def update(module, optimizer, loss):
    """One step as torch takes it."""
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(module.parameters(), 0.5)
    optimizer.step()


def assert_same_change(graph, before, after, module):
    """The change of every parameter is torch's, relative to its size."""
    model = nnx.merge(graph, before, {})
    was, now = (weights.to_torch(model, tree.flatten(params)) for params in (before, after))
    for name, theirs in module.state_dict().items():
        change, expected = now[name] - was[name], theirs.numpy() - np.asarray(was[name])
        assert np.linalg.norm(expected) > 0, name
        assert np.linalg.norm(change - expected) < 1e-9 * np.linalg.norm(expected), name


def tensors(batch):
    found = {name: torch.tensor(np.asarray(values)) for name, values in batch.items()}
    return found | {"action": found["action"].long()}


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1))
def test_advantages_are_the_recursion(seed, gamma, lam):
    with jax.enable_x64(True):
        rng = np.random.default_rng(seed)
        reward, value, last = rng.normal(size=(3, 7, 4))
        terminated = rng.random((7, 4)) < 0.2
        done = terminated | (rng.random((7, 4)) < 0.2)
        expected = twin.advantages(*map(torch.tensor, (reward, value, last, terminated, done)), gamma, lam)
        arrays = map(jnp.asarray, (reward, value, np.where(terminated, 0, last), done))
        found = ADVANTAGES(*arrays, jnp.asarray(gamma), jnp.asarray(lam))
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_returns_begin_anew_with_each_episode():
    reward = jnp.asarray([[1.0], [2.0], [4.0], [8.0]])
    done = jnp.asarray([[0], [1], [0], [0]], bool)
    np.testing.assert_allclose(reinforce.returns(reward, done, 0.5)[:, 0], [2.0, 2.0, 8.0, 8.0])


def test_normalized_counts_what_has_weight():
    values = jnp.asarray([1.0, 3.0, 100.0])
    found = reinforce.normalized(values, jnp.asarray([1.0, 1.0, 0.0]))
    np.testing.assert_allclose(found[:2], [-1.0, 1.0], rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_loss_and_gradients_are_torchs():
    world = rollout.make("CartPole-v1", 3)
    graph, first, module, _ = begin(world)
    rng = np.random.default_rng(1)
    batch = {
        "observation": rng.normal(size=(20, 4)),
        "action": rng.integers(0, 2, 20).astype(np.int32),
        "advantage": rng.normal(size=20),
        "return": rng.normal(size=20),
        "weight": (rng.random(20) < 0.7).astype(float),
    }
    loss_fn = reinforce.policy_gradient(value_weight=0.4, entropy_weight=0.02)
    given = {name: jnp.asarray(values) for name, values in batch.items()}
    (loss, metrics), grads = jax.value_and_grad(
        lambda params: loss_fn(nnx.merge(graph, params, {}), given, None), has_aux=True
    )(first.params)
    expected = twin.policy_gradient_loss(module, tensors(batch), 0.4, 0.02)
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-13)
    assert metrics["loss"][1] == batch["weight"].sum()
    for name, grad in weights.to_torch(nnx.merge(graph, first.params, {}), tree.flatten(grads)).items():
        np.testing.assert_allclose(grad, module.get_parameter(name).grad, rtol=1e-9, atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_a_step_on_recorded_episodes_is_torchs():
    """All of it: the episodes that the step plays are recorded, torch learns from them."""
    world = rollout.make("CartPole-v1", 4)
    graph, first, module, optimizer = begin(world)
    options = {"gamma": 0.95, "value_weight": 0.3, "entropy_weight": 0.01}
    after, metrics = jax.jit(reinforce.train_step(graph, world, TX, **options))(first, {})

    reset_key, act_key = jax.random.split(jax.random.fold_in(first.key, first.step))
    model = nnx.merge(graph, first.params, {})
    _, path = rollout.rollout(model, world, world.reset(reset_key), act_key, world.limit)
    lengths = np.asarray(path.done).argmax(0) + 1
    steps = [(t, n) for n, length in enumerate(lengths) for t in range(length)]
    rows, columns = np.asarray(steps).T
    gained = [sum(0.95**k for k in range(lengths[n] - t)) for t, n in steps]
    seen = torch.tensor(np.asarray(path.observation)[rows, columns])
    batch = {
        "observation": seen,
        "action": torch.tensor(np.asarray(path.action)[rows, columns]).long(),
        "return": torch.tensor(gained, dtype=torch.float64),
        "weight": torch.ones(len(steps)),
    }
    batch["advantage"] = twin.normalized(batch["return"] - module(seen)[1].detach())
    update(module, optimizer, twin.policy_gradient_loss(module, batch, 0.3, 0.01))

    assert_same_change(graph, first.params, after.params, module)
    assert float(metrics["return"][0]) == float(metrics["env_steps"][0]) == lengths.sum()
    assert int(after.step) == 1


def test_without_a_baseline_the_critic_stays_as_it_is():
    world = rollout.make("Catch-bsuite", 4)
    graph, first = state.create(ActorCritic(50, 3, hidden=4, rngs=nnx.Rngs(0)), TX, jax.random.key(0))
    after, _ = jax.jit(reinforce.train_step(graph, world, TX, baseline=False))(first, {})
    same = jax.tree.map(lambda a, b: bool((a == b).all()), first.params, after.params)
    assert all(jax.tree.leaves(same["critic"]))
    assert not any(jax.tree.leaves(same["actor"]["fc3"]))
