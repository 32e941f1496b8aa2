"""Perceptrons, embeddings, layers of one's own."""

from typing import Any

import jax
import jax.numpy as jnp
import torch
from flax import linen, nnx
from torch import nn

from parity.pair import Pair
from parity.twins.families.parts import TRAINED, Array, Original, Port, drawn, tokens


def sequential() -> Pair:
    """A Sequential, whose layers with weights are 0, 2 and 4, as a list of three square ones."""

    def run(port: Any, x: Array) -> Array:
        first, second, third = port.layers
        return third(jnp.tanh(second(jax.nn.relu(first(x)))))

    def port() -> nnx.Module:
        return Port(run, layers=nnx.List([nnx.Linear(8, 8, rngs=nnx.Rngs(0)) for _ in range(3)]))

    layers = nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)
    return Pair(torch=lambda: nn.Sequential(*layers), flax=port, inputs=drawn(6, 8), **TRAINED)


class LinenPerceptron(linen.Module):
    """Layers that nobody named, with dropout."""

    @linen.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = linen.Dropout(0.4)(jax.nn.relu(linen.Dense(8)(x)), deterministic=not train)
        return linen.Dense(8)(jnp.tanh(linen.Dense(8)(x)))


def linen_perceptron() -> Pair:
    """The same in linen."""
    layers = nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)
    return Pair(torch=lambda: nn.Sequential(*layers), flax=LinenPerceptron, inputs=drawn(6, 8), **TRAINED)


class Tied(nn.Module):
    """A table of words that is the last layer as well, as in GPT."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(11, 8)
        self.h = nn.Linear(8, 8)
        self.lm_head = nn.Linear(8, 11, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lm_head(torch.tanh(self.h(self.wte(x))))


def tied() -> Pair:
    """One table on both sides."""

    def port() -> nnx.Module:
        rngs = nnx.Rngs(0)
        table, hidden = nnx.Embed(11, 8, rngs=rngs), nnx.Linear(8, 8, rngs=rngs)
        return Port(lambda m, x: m.words.attend(jnp.tanh(m.hidden(m.words(x)))), words=table, hidden=hidden)

    return Pair(torch=Tied, flax=port, inputs=tokens(11, 3, 6), **TRAINED)


class Own(nnx.Module):
    """A layer that its author wrote, with a square weight that lies as torch's does, or not."""

    def __init__(self, turned: bool, rngs: nnx.Rngs) -> None:
        self.kernel = nnx.Param(jax.random.normal(rngs.params(), (7, 7)))
        self.bias = nnx.Param(jnp.zeros(7))
        self.turned = turned

    def __call__(self, x: Array) -> Array:
        return x @ (self.kernel[...].T if self.turned else self.kernel[...]) + self.bias[...]


def own(turned: bool) -> Pair:
    """Two of them."""

    def port() -> nnx.Module:
        first, second = (Own(turned, nnx.Rngs(0)) for _ in range(2))
        return Port(lambda m, x: m.second(jnp.tanh(m.first(x))), first=first, second=second)

    return Pair(
        torch=lambda: Original(lambda m, x: m.b(torch.tanh(m.a(x))), a=nn.Linear(7, 7), b=nn.Linear(7, 7)),
        flax=port,
        inputs=drawn(4, 7),
    )
