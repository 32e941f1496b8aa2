"""The clipped loss and whole steps against torch, in float64, on recorded trajectories."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from test_methods_reinforce import TX, assert_same_change, begin, tensors, update

from jaxdl import tree
from jaxdl.engine import weights
from jaxdl.methods import ppo, rollout
from parity.twins import reinforce as twin


@pytest.mark.usefixtures("x64")
def test_loss_and_gradients_are_torchs():
    world = rollout.make("CartPole-v1", 3)
    graph, first, module, _ = begin(world)
    rng = np.random.default_rng(1)
    batch = {
        "observation": rng.normal(size=(20, 4)),
        "action": rng.integers(0, 2, 20).astype(np.int32),
        "log_prob": np.log(rng.uniform(0.3, 0.9, 20)),  # far enough from now's for both clips
        "advantage": rng.normal(size=20),
        "return": rng.normal(size=20),
    }
    loss_fn = ppo.clipped_surrogate(clip=0.2, value_weight=0.4, entropy_weight=0.02)
    given = {name: jnp.asarray(values) for name, values in batch.items()}
    (loss, metrics), grads = jax.value_and_grad(
        lambda params: loss_fn(nnx.merge(graph, params, {}), given, None), has_aux=True
    )(first.params)
    expected = twin.clipped_surrogate_loss(module, tensors(batch), 0.2, 0.4, 0.02)
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-13)
    assert 0 < metrics["clipped"][0] < 20
    assert metrics["kl"][0] > 0
    for name, grad in weights.to_torch(nnx.merge(graph, first.params, {}), tree.flatten(grads)).items():
        np.testing.assert_allclose(grad, module.get_parameter(name).grad, rtol=1e-9, atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_steps_on_recorded_trajectories_are_torchs():
    """Five rounds, with episodes that end, are cut off at a limit and go on from one round to the next."""
    world = rollout.make("CartPole-v1", 4)
    world = dataclasses.replace(world, params=world.params.replace(max_steps_in_episode=25))
    graph, first, module, optimizer = begin(world)
    first = dataclasses.replace(first, stats=ppo.begin(world, jax.random.key(7)))
    numbers = {
        "steps": 10,
        "epochs": 2,
        "minibatches": 4,
        "gamma": 0.97,
        "lam": 0.9,
        "reward_scale": 0.5,
        "clip": 0.1,
    }
    step = jax.jit(ppo.train_step(graph, world, TX, **numbers, value_weight=0.3, entropy_weight=0.02))
    cut = fell = 0
    now = first
    for _ in range(5):
        act_key, order_key = jax.random.split(jax.random.fold_in(now.key, now.step))
        model = nnx.merge(graph, now.params, {})
        _, path = rollout.rollout(model, world, (now.stats["env"], now.stats["seen"]), act_key, 10)
        orders = [np.asarray(jax.random.permutation(key, 40)) for key in jax.random.split(order_key, 2)]
        before, (now, _) = now, step(now, {})
        learn(module, optimizer, path, orders)
        assert_same_change(graph, before.params, now.params, module)
        fell += int(path.terminated.sum())
        cut += int((path.done & ~path.terminated).sum())
    assert cut > 0
    assert fell > 0


def learn(module, optimizer, path, orders):
    """What torch makes of the trajectory: (T, N) to minibatches of 10."""
    recorded = {name: torch.tensor(np.asarray(values)) for name, values in path._asdict().items()}
    with torch.no_grad():
        value, last_value = module(recorded["observation"])[1], module(recorded["last"])[1]
    ended = recorded["terminated"], recorded["done"]
    advantage = twin.advantages(0.5 * recorded["reward"], value, last_value, *ended, 0.97, 0.9)
    names = ("observation", "action", "log_prob")
    whole = {name: recorded[name] for name in names} | {"advantage": advantage, "return": advantage + value}
    flat = {name: values.flatten(0, 1) for name, values in whole.items()}
    for order in orders:
        for rows in order.reshape(4, 10):
            part = {name: values[torch.tensor(rows)] for name, values in flat.items()}
            part |= {"action": part["action"].long(), "advantage": twin.normalized(part["advantage"])}
            update(module, optimizer, twin.clipped_surrogate_loss(module, part, 0.1, 0.3, 0.02))


def test_returns_of_episodes_that_span_rollouts():
    zeros = jnp.zeros((3, 2))
    done = jnp.asarray([[False, True], [False, False], [True, False]])
    path = rollout.Trajectory(zeros, zeros, zeros, jnp.ones((3, 2)), done, done, zeros)
    running, (total, count) = ppo.episode_returns(jnp.asarray([10.0, 20.0]), path)
    np.testing.assert_allclose(running, [0.0, 2.0])
    assert (total, count) == (34.0, 2.0)  # 10 + 3 and 20 + 1


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"minibatches": 3}, r"divide the 40 steps \(10 of 4 environments\) of an update; got 3"),
        ({"clip": 0.0}, "the clip of PPO must be above 0; got 0.0"),
    ],
)
@pytest.mark.usefixtures("x64")
def test_numbers_that_do_not_fit_are_errors(numbers, message):
    world = rollout.make("CartPole-v1", 4)
    graph = begin(world)[0]
    with pytest.raises(ValueError, match=message):
        ppo.train_step(graph, world, TX, steps=10, **numbers)
