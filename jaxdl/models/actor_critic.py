"""A policy and a judge of states, side by side: small networks for reinforcement learning."""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdl.nn.init import Init
from jaxdl.nn.linear import Linear
from jaxdl.typing import Array


class Perceptron(nnx.Module):
    """Linear, tanh, Linear, tanh, Linear: (..., in) -> (..., out).

    Its names are the keys of torch's state_dict: ``fc1.weight``, ``fc1.bias``, to ``fc3``.

    Args:
      in_features, hidden, out_features: the widths.
      gain: of the last layer's orthogonal weight; those before have sqrt(2). Biases begin at 0.
      rngs: draws the weights from its ``params`` stream.
    """

    def __init__(self, in_features: int, hidden: int, out_features: int, *, gain: float, rngs: nnx.Rngs) -> None:
        self.fc1 = _orthogonal(in_features, hidden, math.sqrt(2), rngs)
        self.fc2 = _orthogonal(hidden, hidden, math.sqrt(2), rngs)
        self.fc3 = _orthogonal(hidden, out_features, gain, rngs)

    def __call__(self, x: Array) -> Array:
        return self.fc3(jnp.tanh(self.fc2(jnp.tanh(self.fc1(x)))))


class ActorCritic(nnx.Module):
    """Observations (..., features) -> logits of the actions (..., actions) and values of the states (...).

    The two networks share nothing. The first policy is nearly uniform, which is what the small gain is for.

    Args:
      features: of an observation.
      actions: how many there are to choose from.
      hidden: width of the hidden layers of both.
      rngs: draws the weights from its ``params`` stream.

    Source: Andrychowicz et al. 2020, "What matters in on-policy reinforcement learning?"
    """

    def __init__(self, features: int, actions: int, *, hidden: int = 64, rngs: nnx.Rngs) -> None:
        self.actor = Perceptron(features, hidden, actions, gain=0.01, rngs=rngs)
        self.critic = Perceptron(features, hidden, 1, gain=1.0, rngs=rngs)

    def __call__(self, observation: Array) -> tuple[Array, Array]:
        return self.actor(observation), self.value(observation)

    def value(self, observation: Array) -> Array:
        """What the states are worth, (...)."""
        return self.critic(observation)[..., 0]


def _orthogonal(in_features: int, out_features: int, gain: float, rngs: nnx.Rngs) -> Linear:
    weight: Init = jax.nn.initializers.orthogonal(gain)
    return Linear(in_features, out_features, weight_init=weight, bias_init=_zeros, rngs=rngs)


def _zeros(_: Array, shape: tuple[int, ...]) -> Array:
    return jnp.zeros(shape)
