"""A torch model that casts to float32 within is compared in float64 all the same."""

import jax
import jax.numpy as jnp
import torch
from flax import nnx

from parity import Pair
from parity.prove import prove
from parity.verdict import Verdict


class Original(torch.nn.Module):
    """A norm as transformers writes it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(6))

    def forward(self, x):
        square = x.to(torch.float32).pow(2).mean(-1, keepdim=True) + x.float().mean()
        return self.weight * torch.softmax(x * torch.rsqrt(square + 1e-6), -1, dtype=torch.float32)


class Port(nnx.Module):
    def __init__(self):
        self.weight = nnx.Param(jnp.ones(6))

    def __call__(self, x):
        square = (x**2).mean(-1, keepdims=True) + x.mean()
        return self.weight[...] * jax.nn.softmax(x * jax.lax.rsqrt(square + 1e-6), -1)


def test_casts_within_torch_round_nothing():
    judgement = prove(Pair(torch=Original, flax=Port, inputs=lambda rng: rng.normal(1, 1, (4, 6))))
    assert judgement.verdict is Verdict.PASS
