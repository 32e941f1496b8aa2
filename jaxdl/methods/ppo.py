"""Proximal policy optimization: several updates from the same steps, held near the policy that took them.

Source: Schulman et al. 2017, arXiv:1707.06347; details as in Huang et al. 2022,
"The 37 implementation details of proximal policy optimization".
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxdl.engine.state import TrainState
from jaxdl.methods.reinforce import Step, advantages, entropy, normalized, update, weighted_parts
from jaxdl.methods.rollout import Environments, Trajectory, log_prob, rollout
from jaxdl.typing import Array, Batch, LossFn, Metrics, PyTree


def clipped_surrogate(*, clip: float = 0.2, value_weight: float = 0.5, entropy_weight: float = 0.01) -> LossFn:
    """``mean(-min(p * A, clip(p, 1 - c, 1 + c) * A)) + v * mean((V(s) - R)**2) - e * mean(entropy)``.

    ``p`` is the probability of the action now divided by that when it was taken. The batch is that of
    `jaxdl.methods.reinforce.policy_gradient` without weights, and has the old ``log_prob`` (B,).

    Raises:
      ValueError: a clip that is not above 0.
    """
    if not clip > 0:
        raise ValueError(f"the clip of PPO must be above 0; got {clip}")

    def loss_fn(model: Any, batch: Batch, _: nnx.Rngs | None = None) -> tuple[Array, Metrics]:
        logits, value = model(batch["observation"])
        change = log_prob(logits, batch["action"]) - batch["log_prob"]
        ratio, advantage = jnp.exp(change), batch["advantage"]
        gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1 - clip, 1 + clip) * advantage)
        parts = {
            "policy_loss": -gain,
            "value_loss": jnp.square(value - batch["return"]),
            "entropy": entropy(logits),
            "kl": ratio - 1 - change,  # never negative: Schulman 2020, "Approximating KL divergence"
            "clipped": (jnp.abs(ratio - 1) > clip).astype(ratio.dtype),
        }
        return weighted_parts(parts, jnp.ones_like(ratio), value_weight, entropy_weight)

    return loss_fn


def train_step(
    graphdef: nnx.GraphDef,
    world: Environments,
    tx: optax.GradientTransformation,
    *,
    steps: int = 32,
    epochs: int = 4,
    minibatches: int = 4,
    gamma: float = 0.99,
    lam: float = 0.95,
    reward_scale: float = 1.0,
    clip: float = 0.2,
    value_weight: float = 0.5,
    entropy_weight: float = 0.01,
) -> Step:
    """``steps`` steps in every environment, ``epochs * minibatches`` updates: ``(state, _) -> (state, metrics)``.

    Args:
      graphdef: of an `ActorCritic`.
      world: the environments; ``state.stats`` is where they are, as `begin` makes it.
      tx: an optimizer of `jaxdl.optim`.
      steps: in every environment between two rounds of updates; episodes go on from one to the next.
      epochs: how often every step is used.
      minibatches: into how many the steps are divided, shuffled, in every epoch.
      gamma, lam: see `jaxdl.methods.reinforce.advantages`.
      reward_scale: see `examples`.
      clip, value_weight, entropy_weight: see `clipped_surrogate`.

    Raises:
      ValueError: steps that cannot be divided into the minibatches.
    """
    total = steps * world.count
    if minibatches < 1 or total % minibatches:
        raise ValueError(
            f"expected minibatches that divide the {total} steps ({steps} of {world.count} environments) of an "
            f"update; got {minibatches}"
        )
    loss_fn = clipped_surrogate(clip=clip, value_weight=value_weight, entropy_weight=entropy_weight)
    apply = update(graphdef, loss_fn, tx)

    def step(state: TrainState, _: Batch) -> tuple[TrainState, Metrics]:
        act_key, order_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        model = nnx.merge(graphdef, state.params, {})
        (env_state, seen), path = rollout(model, world, (state.stats["env"], state.stats["seen"]), act_key, steps)
        batch = examples(model, path, gamma, lam, reward_scale)

        def epoch(carry: PyTree, key: Array) -> tuple[PyTree, Metrics]:
            rows = jax.random.permutation(key, total).reshape(minibatches, -1)
            return jax.lax.scan(lambda carry, rows: minibatch(carry, batch, rows), carry, rows)

        def minibatch(carry: PyTree, batch: Batch, rows: Array) -> tuple[PyTree, Metrics]:
            part = {name: values[rows] for name, values in batch.items()}
            params, opt_state, metrics = apply(*carry, {**part, "advantage": normalized(part["advantage"])})  # pyright: ignore[reportCallIssue]
            return (params, opt_state), metrics

        start = state.params, state.opt_state
        (params, opt_state), metrics = jax.lax.scan(epoch, start, jax.random.split(order_key, epochs))
        metrics = {name: (total.sum(), count.sum()) for name, (total, count) in metrics.items()}
        running, finished = episode_returns(state.stats["return"], path)
        metrics = {**metrics, "return": finished, "env_steps": (jnp.asarray(total, jnp.float32), jnp.ones(()))}
        stats = {"env": env_state, "seen": seen, "return": running}
        return TrainState(state.step + 1, params, stats, opt_state, state.key), metrics

    return step


def begin(world: Environments, key: Array) -> PyTree:
    """Where the environments are at the start of a run, for ``TrainState.stats``."""
    env_state, seen = world.reset(key)
    return {"env": env_state, "seen": seen, "return": jnp.zeros(world.count)}


def examples(model: Any, path: Trajectory, gamma: float, lam: float, reward_scale: float = 1.0) -> Batch:
    """What an update learns from, (T * N, ...): the steps with their advantages and the returns they mean.

    Rewards are multiplied by ``reward_scale``. A critic begins near 0 and moves as fast as its weights do, so
    returns far above 1 keep it, and the advantages with it, wrong for many updates.
    """
    value = model.value(path.observation)
    next_value = jnp.where(path.terminated, 0, model.value(path.last))
    reward = reward_scale * path.reward
    advantage = advantages(reward, value, next_value, path.done, gamma, lam)
    batch = {
        "observation": path.observation,
        "action": path.action,
        "log_prob": path.log_prob,
        "advantage": advantage,
        "return": advantage + value,
    }
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


def episode_returns(running: Array, path: Trajectory) -> tuple[Array, tuple[Array, Array]]:
    """Undiscounted returns of the episodes under way (N,), and the sum and number of those that ended."""

    def add(running: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        reward, done = now
        running += reward
        return jnp.where(done, 0, running), jnp.where(done, running, 0)

    running, ended = jax.lax.scan(add, running, (path.reward, path.done))
    return running, (ended.sum(), path.done.sum().astype(ended.dtype))
