"""Many environments at once: a policy acts in all of them, and what happens is recorded.

The environments are gymnax's: pure functions, so thousands of them are one array program on the device.
Source: Lange 2022, gymnax; Hessel et al. 2021, "Podracer architectures" (Anakin).
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxdl.config import nearest
from jaxdl.models.actor_critic import ActorCritic
from jaxdl.typing import Array, PyTree

Choose = Callable[[Array, Array], Array]  # (key, logits (N, actions)) -> actions (N,)


class Trajectory(NamedTuple):
    """What happened in T steps of N environments; the axes of all are (T, N).

    Attributes:
      observation: (T, N, features) that the policy saw.
      action: int32, what it did.
      log_prob: the logarithm of the probability with which it did that.
      reward: what it got for it.
      terminated: the episode ended with this step.
      done: it ended, or was cut off at its time limit; the next observation is that of a new episode.
      last: (T, N, features), what was to be seen after the step, before a new episode began.
    """

    observation: Array
    action: Array
    log_prob: Array
    reward: Array
    terminated: Array
    done: Array
    last: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Environments:
    """Copies of one environment, which run side by side.

    Attributes:
      name: as gymnax has it.
      count: how many copies.
      env, params: gymnax's environment and its numbers.
      actions: how many there are to choose from.
      features: of an observation, as the policy gets it: flat, a number of a kind as one-hot.
      kinds: how many there are where an observation is the number of a kind, otherwise 0.
      limit: steps after which an episode is cut off.
    """

    name: str
    count: int
    env: Any
    params: Any
    actions: int
    features: int
    kinds: int
    limit: int

    def reset(self, key: Array) -> tuple[PyTree, Array]:
        """New episodes everywhere: their states and observations (N, features)."""
        with _lenient():
            observation, state = jax.vmap(self.env.reset, (0, None))(
                jax.random.split(key, self.count), self.params
            )
        return state, self.seen(observation)

    def step(self, key: Array, state: PyTree, action: Array) -> tuple[PyTree, Array, dict[str, Array]]:
        """One step everywhere: the states and observations that follow, and the fields of a `Trajectory`."""
        keys = jax.random.split(key, self.count)
        with _lenient():
            observation, state, reward, terminated, truncated, info = jax.vmap(self.env.step, (0, 0, 0, None))(
                keys, state, action, self.params
            )
        last = self.seen(info["final_observation"])
        happened = {"reward": reward.astype(last.dtype), "terminated": terminated, "done": terminated | truncated}
        return state, self.seen(observation), {**happened, "last": last}

    def seen(self, observation: Array) -> Array:
        """Observations as the policy gets them, (N, features) floats."""
        if self.kinds:
            return jax.nn.one_hot(observation, self.kinds)
        floats = jnp.issubdtype(observation.dtype, jnp.floating)
        return (observation if floats else observation.astype(float)).reshape(self.count, -1)


def make(name: str, count: int) -> Environments:
    """The environment of this name, ``count`` times.

    Raises:
      ValueError: gymnax is not installed or has no such environment, it has no finite number of actions, or
        ``count`` is below 1.
      OSError: the environment wants data that cannot be had.
    """
    try:
        import gymnax
    except ImportError as error:
        raise ValueError(f"reinforcement learning needs gymnax ({error}): pip install 'jaxdl[rl]'") from None
    if name not in gymnax.registered_envs:
        there = ", ".join(gymnax.registered_envs)
        raise ValueError(f"unknown environment {name}{nearest(name, gymnax.registered_envs)}; there are {there}")
    if count < 1:
        raise ValueError(f"expected at least 1 environment; got {count}")
    env, params = gymnax.make(name)
    actions, seen = env.action_space(params), env.observation_space(params)
    if not hasattr(actions, "n"):
        raise ValueError(f"{name} takes {type(actions).__name__} actions; a policy here chooses one of a number")
    kinds = getattr(seen, "n", 0)
    features = kinds or math.prod(seen.shape)
    return Environments(name, count, env, params, actions.n, features, kinds, int(params.max_steps_in_episode))


def reward_threshold(name: str) -> float | None:
    """The mean return over 100 episodes from which on gymnasium calls the environment solved, if it says so."""
    import gymnasium

    try:
        return gymnasium.spec(name).reward_threshold
    except gymnasium.error.Error:  # gymnax has environments that gymnasium lacks
        return None


def sample(key: Array, logits: Array) -> Array:
    """An action by its probability."""
    return jax.random.categorical(key, logits).astype(jnp.int32)


def greedy(_: Array, logits: Array) -> Array:
    """The most likely action."""
    return jnp.argmax(logits, -1).astype(jnp.int32)


def rollout(
    model: ActorCritic,
    world: Environments,
    start: tuple[PyTree, Array],
    key: Array,
    steps: int,
    choose: Choose = sample,
) -> tuple[tuple[PyTree, Array], Trajectory]:
    """Acts for ``steps`` steps in every environment.

    Args:
      model: the policy.
      world: the environments.
      start: where they are: states and observations, as `Environments.reset` gives them.
      key: of the actions and of the environments.
      steps: T.
      choose: how an action is chosen.

    Returns:
      Where they are then, and what happened.
    """

    def act(now: tuple[PyTree, Array], key: Array) -> tuple[tuple[PyTree, Array], Trajectory]:
        state, observation = now
        act_key, step_key = jax.random.split(key)
        logits = model.actor(observation)
        action = choose(act_key, logits)
        after, seen, happened = world.step(step_key, state, action)
        chosen = log_prob(logits, action)
        return (after, seen), Trajectory(observation, action, chosen, **happened)

    return jax.lax.scan(act, start, jax.random.split(key, steps))


def log_prob(logits: Array, action: Array) -> Array:
    """The logarithm of the probability of each action, (...); ``logits`` (..., actions)."""
    return jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], -1)[..., 0]


def first_episode(done: Array) -> Array:
    """True for the steps (T, N) up to the first end of an episode, that step included."""
    ended = done.astype(jnp.int32)
    return jnp.cumsum(ended, 0) == ended


def play(model: ActorCritic, world: Environments, key: Array, choose: Choose = greedy) -> Array:
    """The return of one whole episode in every environment, (N,), undiscounted."""
    reset_key, act_key = jax.random.split(key)
    _, path = rollout(model, world, world.reset(reset_key), act_key, world.limit, choose)
    return jnp.where(first_episode(path.done), path.reward, 0).sum(0)


def _lenient() -> contextlib.ExitStack:
    """gymnax is written for JAX's default promotion; a stricter setting is for code of one's own."""
    stack = contextlib.ExitStack()
    stack.enter_context(jax.numpy_dtype_promotion("standard"))
    stack.enter_context(jax.numpy_rank_promotion("allow"))
    return stack
