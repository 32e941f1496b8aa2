import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdl.methods import rollout
from jaxdl.models.actor_critic import ActorCritic


def acting(world):
    return ActorCritic(world.features, world.actions, hidden=4, rngs=nnx.Rngs(0))


@pytest.mark.usefixtures("x64")
def test_cartpole_is_gymnasiums_step_for_step():
    """The package's equations against the reference, until the pole falls."""
    world = rollout.make("CartPole-v1", 1)
    reference = gymnasium.make("CartPole-v1").unwrapped
    reference.reset(seed=0)
    state, seen = jax.jit(world.reset)(jax.random.key(0))
    move = jax.jit(world.step)
    reference.state = np.asarray(seen[0])
    for step in range(100):
        action = step % 3 % 2
        state, seen, happened = move(jax.random.key(step), state, jnp.asarray([action], jnp.int32))
        _, reward, terminated, _, _ = reference.step(action)
        np.testing.assert_allclose(happened["last"][0], reference.state, rtol=1e-12)
        assert bool(happened["terminated"][0]) == terminated
        assert float(happened["reward"][0]) == reward
        if terminated:
            break
    assert terminated  # pyright: ignore[reportPossiblyUnboundVariable]
    assert np.abs(seen).max() <= 0.05  # a new episode has begun


def test_a_rollout_goes_on_where_the_one_before_ended():
    world = rollout.make("CartPole-v1", 3)
    act = jax.jit(lambda start, key: rollout.rollout(acting(world), world, start, key, 5))
    keys = jax.random.split(jax.random.key(1), 2)
    between, first = act(world.reset(jax.random.key(0)), keys[0])
    _, second = act(between, keys[1])
    same = ~np.asarray(first.done[-1])
    np.testing.assert_array_equal(second.observation[0][same], first.last[-1][same])
    assert first.observation.shape == (5, 3, 4)
    assert first.action.shape == first.reward.shape == (5, 3)


def test_log_prob_is_that_of_the_chosen_action():
    logits = jnp.asarray([[0.0, 1.0], [2.0, -1.0]])
    found = rollout.log_prob(logits, jnp.asarray([1, 0], jnp.int32))
    np.testing.assert_allclose(found, [-np.log1p(np.exp(-1)), -np.log1p(np.exp(-3))], rtol=1e-6)


def test_the_first_episode_ends_with_its_last_step():
    done = jnp.asarray([[0, 1, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0]], bool)
    expected = [[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 1]]
    np.testing.assert_array_equal(rollout.first_episode(done), np.asarray(expected, bool))


def test_a_return_is_that_of_one_episode_to_its_end():
    world = rollout.make("Catch-bsuite", 50)  # 9 steps, then 1 for the ball caught and -1 for it missed
    play = jax.jit(lambda key: rollout.play(acting(world), world, key, rollout.sample))
    returns = play(jax.random.key(0))
    assert set(np.asarray(returns).tolist()) == {-1.0, 1.0}


def test_images_are_flattened_and_kinds_are_one_hot():
    world = rollout.make("Catch-bsuite", 2)
    assert world.features == 50
    assert world.reset(jax.random.key(0))[1].shape == (2, 50)
    lake = rollout.make("FrozenLake-misc", 2)
    seen = lake.reset(jax.random.key(0))[1]
    assert seen.shape == (2, 16) == (2, lake.features)
    np.testing.assert_array_equal(seen.sum(1), 1)


def test_thresholds_are_gymnasiums():
    assert rollout.reward_threshold("CartPole-v1") == 475
    assert rollout.reward_threshold("Catch-bsuite") is None


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("CartPole-v2", 1, "unknown environment CartPole-v2; did you mean CartPole-v1?; there are CartPole-v1, "),
        ("Pendulum-v1", 1, "Pendulum-v1 takes Box actions"),
        ("CartPole-v1", 0, "expected at least 1 environment; got 0"),
    ],
)
def test_environments_that_cannot_be_had_are_errors(name, count, message):
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        rollout.make(name, count)


def test_without_gymnax_the_error_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gymnax", None)
    with pytest.raises(ValueError, match=r"reinforcement learning needs gymnax .*: pip install 'jaxdl\[rl\]'"):
        rollout.make("CartPole-v1", 1)
