"""REINFORCE: the policy gradient from whole episodes, with a learned baseline.

Source: Williams 1992; Sutton and Barto 2018, section 13.4; Schulman et al. 2016 for `advantages`.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxdl.engine.state import TrainState
from jaxdl.methods.rollout import Environments, first_episode, log_prob, rollout
from jaxdl.optim.optimizers import rates
from jaxdl.typing import Array, Batch, LossFn, Metrics, PyTree

Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def advantages(reward: Array, value: Array, next_value: Array, done: Array, gamma: float, lam: float) -> Array:
    """Generalized advantage estimation, (T, N).

    ``A_t = d_t + gamma * lam * A_(t+1)`` within an episode, with ``d_t = r_t + gamma * V(s_(t+1)) - V(s_t)``.
    With ``lam = 1`` and values of 0 it is the discounted return from each step on.

    Args:
      reward: (T, N), and so are the following.
      value: V(s_t).
      next_value: V(s_(t+1)), 0 where the episode ended there; where it was cut off that of the last state.
      done: it ended or was cut off.
      gamma: the discount.
      lam: 0 believes the values, 1 the rewards.
    """
    delta = reward + gamma * next_value - value
    goes_on = 1 - done.astype(delta.dtype)

    def back(later: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        delta, goes_on = now
        advantage = delta + gamma * lam * goes_on * later
        return advantage, advantage

    return jax.lax.scan(back, jnp.zeros_like(delta[0]), (delta, goes_on), reverse=True)[1]


def returns(reward: Array, done: Array, gamma: float) -> Array:
    """The discounted sum of the rewards from each step to the end of its episode, (T, N)."""
    nothing = jnp.zeros_like(reward)
    return advantages(reward, nothing, nothing, done, gamma, 1.0)


def normalized(advantage: Array, weight: Array | None = None) -> Array:
    """Advantages with mean 0 and (biased) standard deviation 1, over those with weight 1."""
    weight = jnp.ones_like(advantage) if weight is None else weight
    centred = advantage - weighted_mean(advantage, weight)
    return centred / (jnp.sqrt(weighted_mean(jnp.square(centred), weight)) + 1e-8)


def weighted_mean(values: Array, weight: Array) -> Array:
    """``sum(weight * values) / sum(weight)``, ()."""
    return (weight * values).sum() / weight.sum()


def policy_gradient(*, value_weight: float = 0.5, entropy_weight: float = 0.0) -> LossFn:
    """``mean(-log pi(a|s) * A) + value_weight * mean((V(s) - R)**2) - entropy_weight * mean(entropy)``.

    The batch has ``observation`` (B, features), ``action``, ``advantage``, ``return`` and ``weight`` (B,); the
    means are over the steps with weight 1. With ``value_weight = 0`` the critic stays as it is.
    """

    def loss_fn(model: Any, batch: Batch, _: nnx.Rngs | None = None) -> tuple[Array, Metrics]:
        logits, value = model(batch["observation"])
        gain = log_prob(logits, batch["action"]) * batch["advantage"]
        parts = {
            "policy_loss": -gain,
            "value_loss": jnp.square(value - batch["return"]),
            "entropy": entropy(logits),
        }
        return weighted_parts(parts, batch["weight"], value_weight, entropy_weight)

    return loss_fn


def entropy(logits: Array) -> Array:
    """The entropy of each policy in nats, (...); ``logits`` (..., actions)."""
    log_probs = jax.nn.log_softmax(logits)
    return -(jnp.exp(log_probs) * log_probs).sum(-1)


def weighted_parts(
    parts: dict[str, Array], weight: Array, value_weight: float, entropy_weight: float
) -> tuple[Array, Metrics]:
    """The loss of policy, values and entropy (B,) together, and all parts as metrics."""
    count = weight.sum()
    means = {name: weighted_mean(part, weight) for name, part in parts.items()}
    loss = means["policy_loss"] + value_weight * means["value_loss"] - entropy_weight * means["entropy"]
    return loss, {name: (mean * count, count) for name, mean in {"loss": loss, **means}.items()}


def update(
    graphdef: nnx.GraphDef, loss_fn: LossFn, tx: optax.GradientTransformation
) -> Callable[[PyTree, PyTree, Batch], tuple[PyTree, PyTree, Metrics]]:
    """``(params, opt_state, batch) -> (params, opt_state, metrics)``: one step of the optimizer."""

    def apply(params: PyTree, opt_state: PyTree, batch: Batch) -> tuple[PyTree, PyTree, Metrics]:
        def objective(params: PyTree) -> tuple[Array, Metrics]:
            return loss_fn(nnx.merge(graphdef, params, {}), batch, None)

        grads, metrics = jax.grad(objective, has_aux=True)(params)
        updates, opt_state = tx.update(grads, opt_state, params)
        rate = rates(opt_state)[0].rate.astype(jnp.float32)
        return optax.apply_updates(params, updates), opt_state, {**metrics, "lr": (rate, jnp.ones_like(rate))}

    return apply


def train_step(
    graphdef: nnx.GraphDef,
    world: Environments,
    tx: optax.GradientTransformation,
    *,
    gamma: float = 0.99,
    baseline: bool = True,
    value_weight: float = 0.5,
    entropy_weight: float = 0.0,
) -> Step:
    """One episode in every environment and one update: ``(state, anything) -> (state, metrics)``.

    Args:
      graphdef: of an `ActorCritic`.
      world: the environments.
      tx: an optimizer of `jaxdl.optim`.
      gamma: the discount.
      baseline: subtract the critic's value from the return; otherwise returns are only normalized, and the critic
        is left alone.
      value_weight, entropy_weight: see `policy_gradient`.
    """
    loss_fn = policy_gradient(value_weight=value_weight if baseline else 0.0, entropy_weight=entropy_weight)
    apply = update(graphdef, loss_fn, tx)

    def step(state: TrainState, _: Batch) -> tuple[TrainState, Metrics]:
        reset_key, act_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        model = nnx.merge(graphdef, state.params, {})
        _, path = rollout(model, world, world.reset(reset_key), act_key, world.limit)  # pyright: ignore[reportAssignmentType]
        gained = returns(path.reward, path.done, gamma)
        weight = first_episode(path.done).astype(gained.dtype)
        value = model.value(path.observation) if baseline else jnp.zeros_like(gained)
        batch = {
            "observation": path.observation,
            "action": path.action,
            "advantage": normalized(gained - value, weight),
            "return": gained,
            "weight": weight,
        }
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
        params, opt_state, metrics = apply(state.params, state.opt_state, flat)
        whole, episodes = (weight * path.reward).sum(), jnp.asarray(world.count, jnp.float32)
        metrics = {**metrics, "return": (whole, episodes), "env_steps": (weight.sum(), jnp.ones(()))}
        return TrainState(state.step + 1, params, state.stats, opt_state, state.key), metrics

    return step
