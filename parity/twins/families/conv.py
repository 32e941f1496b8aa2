"""Convolutions of every rank, transposed ones, images that are flattened or dropped."""

from collections.abc import Callable
from typing import Any

import jax
import torch
from flax import linen, nnx
from torch import nn

from parity.pair import Pair, channels_last
from parity.twins.families.parts import TRAINED, Array, Original, Port, drawn


class LinenConvNet(linen.Module):
    """A convolution with BatchNorm; linen's running variance is the biased one, torch's is not."""

    @linen.compact
    def __call__(self, x: Array, train: bool) -> Array:
        x = linen.Conv(8, (3, 3), padding="VALID")(x)
        x = linen.BatchNorm(not train, momentum=0.9, epsilon=1e-5, use_fast_variance=False)(x)
        return linen.Dense(5)(jax.nn.relu(x).mean((1, 2)))


def linen_batch_norm() -> Pair:
    """Right but for the running variance, by ``n / (n - 1)``."""
    return Pair(
        torch=lambda: Original(
            lambda m, x: m.fc(torch.relu(m.bn(m.conv(x))).mean((2, 3))),
            conv=nn.Conv2d(3, 8, 3),
            bn=nn.BatchNorm2d(8),
            fc=nn.Linear(8, 5),
        ),
        flax=LinenConvNet,
        inputs=drawn(4, 3, 7, 6),
        flax_inputs=channels_last,
    )


def _one(original: Callable[[], nn.Module], port: Callable[[nnx.Rngs], Any], *shape: int) -> Pair:
    """One layer, called with channels first in torch and last in Flax."""
    return Pair(
        torch=lambda: Original(lambda m, x: m.layer(x), layer=original()),
        flax=lambda: Port(lambda m, x: m.layer(x), layer=port(nnx.Rngs(0))),
        inputs=drawn(*shape),
        flax_inputs=channels_last,
    )


def conv1d() -> Pair:
    """Depthwise and dilated; as many channels as time steps go in and out."""
    return _one(
        lambda: nn.Conv1d(6, 6, 3, groups=6, padding=2, dilation=2),
        lambda rngs: nnx.Conv(6, 6, (3,), padding=2, kernel_dilation=2, feature_group_count=6, rngs=rngs),
        *(2, 6, 6),
    )


def conv2d() -> Pair:
    """Grouped, with a stride."""
    return _one(
        lambda: nn.Conv2d(4, 8, 3, groups=2, padding=1, stride=2),
        lambda rngs: nnx.Conv(4, 8, (3, 3), strides=2, padding=1, feature_group_count=2, rngs=rngs),
        *(2, 4, 9, 8),
    )


def conv3d() -> Pair:
    """Grouped."""
    return _one(
        lambda: nn.Conv3d(4, 4, 3, groups=2),
        lambda rngs: nnx.Conv(4, 4, (3, 3, 3), padding="VALID", feature_group_count=2, rngs=rngs),
        *(2, 4, 4, 5, 6),
    )


def conv_transpose(mirrored: bool) -> Pair:
    """As many channels go in as out; ``mirrored``: without ``transpose_kernel``."""
    return _one(
        lambda: nn.ConvTranspose2d(4, 4, 3, stride=2),
        lambda rngs: nnx.ConvTranspose(
            4, 4, (3, 3), strides=2, padding="VALID", transpose_kernel=not mirrored, rngs=rngs
        ),
        *(2, 4, 4, 5),
    )


def flattened(channels_first: bool = False) -> Pair:
    """A Linear behind an image and dropout; the port flattens it as it lies, or turns it first."""

    def run(m: Any, x: Array) -> Array:
        x = jax.nn.relu(m.conv(x))
        x = x.transpose(0, 3, 1, 2) if channels_first else x
        return m.out(jax.nn.relu(m.fc(m.dropout(x.reshape(len(x), -1)))))

    def port() -> nnx.Module:
        rngs = nnx.Rngs(0)
        return Port(
            run,
            conv=nnx.Conv(3, 4, (3, 3), padding="VALID", rngs=rngs),
            dropout=nnx.Dropout(0.3, rngs=rngs),
            fc=nnx.Linear(4 * 4 * 3, 6, rngs=rngs),
            out=nnx.Linear(6, 2, rngs=rngs),
        )

    return Pair(
        torch=lambda: Original(
            lambda m, x: m.out(torch.relu(m.fc(m.dropout(torch.relu(m.conv(x)).flatten(1))))),
            conv=nn.Conv2d(3, 4, 3),
            dropout=nn.Dropout(0.3),
            fc=nn.Linear(4 * 4 * 3, 6),
            out=nn.Linear(6, 2),
        ),
        flax=port,
        inputs=drawn(5, 3, 6, 5),
        flax_inputs=channels_last,
        **TRAINED,
    )


def dropped(whole_channels: bool = False) -> Pair:
    """Dropout of an image that is as high and wide as it has channels, or of its channels."""
    shape = (3, 3, 6, 6)

    def port() -> nnx.Module:
        rngs = nnx.Rngs(0)
        return Port(
            lambda m, x: m.point(m.dropout(m.conv(x))),
            conv=nnx.Conv(3, 6, (3, 3), padding=1, rngs=rngs),
            dropout=nnx.Dropout(0.3, broadcast_dims=(1, 2) if whole_channels else (), rngs=rngs),
            point=nnx.Conv(6, 4, (1, 1), rngs=rngs),
        )

    return Pair(
        torch=lambda: Original(
            lambda m, x: m.point(m.dropout(m.conv(x))),
            conv=nn.Conv2d(3, 6, 3, padding=1),
            dropout=nn.Dropout2d(0.3) if whole_channels else nn.Dropout(0.3),
            point=nn.Conv2d(6, 4, 1),
        ),
        flax=port,
        inputs=drawn(*shape),
        flax_inputs=channels_last,
    )
