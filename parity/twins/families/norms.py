"""Norms of features and of images."""

import jax.numpy as jnp
import torch
from flax import nnx
from torch import nn

from parity.pair import Pair, channels_last
from parity.twins.families.parts import TRAINED, Original, Port, drawn


def norms() -> Pair:
    """LayerNorm and RMSNorm between two layers of one shape, all under other names."""

    def port() -> nnx.Module:
        rngs = nnx.Rngs(0)
        return Port(
            lambda m, x: m.last(m.rms_norm(jnp.tanh(m.norm(m.first(x))))),
            first=nnx.Linear(8, 8, rngs=rngs),
            norm=nnx.LayerNorm(8, epsilon=1e-5, use_fast_variance=False, rngs=rngs),
            rms_norm=nnx.RMSNorm(8, epsilon=1e-6, rngs=rngs),
            last=nnx.Linear(8, 8, rngs=rngs),
        )

    return Pair(
        torch=lambda: Original(
            lambda m, x: m.o(m.rms(torch.tanh(m.ln(m.i(x))))),
            i=nn.Linear(8, 8),
            ln=nn.LayerNorm(8),
            rms=nn.RMSNorm(8, eps=1e-6),
            o=nn.Linear(8, 8),
        ),
        flax=port,
        inputs=drawn(4, 8),
        **TRAINED,
    )


def image_norms() -> Pair:
    """GroupNorm and InstanceNorm behind convolutions."""

    def port() -> nnx.Module:
        rngs = nnx.Rngs(0)
        return Port(
            lambda m, x: m.instance(m.point(m.group(m.conv(x)))),
            conv=nnx.Conv(3, 8, (3, 3), padding="VALID", rngs=rngs),
            group=nnx.GroupNorm(8, 2, epsilon=1e-5, use_fast_variance=False, rngs=rngs),
            point=nnx.Conv(8, 6, (1, 1), rngs=rngs),
            instance=nnx.InstanceNorm(6, epsilon=1e-5, use_fast_variance=False, rngs=rngs),
        )

    return Pair(
        torch=lambda: Original(
            lambda m, x: m.norm2(m.conv2(m.norm1(m.conv1(x)))),
            conv1=nn.Conv2d(3, 8, 3),
            norm1=nn.GroupNorm(2, 8),
            conv2=nn.Conv2d(8, 6, 1),
            norm2=nn.InstanceNorm2d(6, affine=True),
        ),
        flax=port,
        inputs=drawn(2, 3, 7, 6),
        flax_inputs=channels_last,
    )
