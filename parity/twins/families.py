"""Correct ports of many kinds of layers, in the words of Flax alone, as people write them: what must pass.

Names differ from torch's on purpose, and so do sizes that are square: nothing but the bridge and its probing tells
which weight goes where.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch
from flax import linen, nnx
from torch import nn

from parity.pair import Pair, channels_last

Array = jax.Array


class Original(nn.Module):
    """A torch module of a function and its layers, which it gets as first argument."""

    def __init__(self, run: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.run(self, *inputs)


class Port(nnx.Module):
    """The same for Flax."""

    def __init__(self, run: Callable[..., Any], **layers: Any) -> None:
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def __call__(self, *inputs: Array) -> Any:
        return self.run(self, *inputs)


def drawn(*shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    """``rng -> array`` of normal numbers whose mean is not zero."""
    return lambda rng: rng.normal(0.3, 1.0, shape)


def tokens(count: int, *shape: int) -> Callable[[np.random.Generator], np.ndarray]:
    """``rng -> integers`` below ``count``."""
    return lambda rng: rng.integers(0, count, shape)


TRAINED: Mapping[str, Any] = {
    "torch_optimizer": lambda module: torch.optim.AdamW(module.parameters(), 1e-2, weight_decay=0.1),
    "tx": optax.adamw(1e-2, weight_decay=0.1),
}


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


def _attending() -> nn.Module:
    """Attention before a layer that is as large as the packed query, key and value."""
    return Original(
        lambda m, x: m.fc(m.attn(x, x, x, need_weights=False)[0]),
        attn=nn.MultiheadAttention(12, 3, dropout=0.2, batch_first=True),
        fc=nn.Linear(12, 36),
    )


def attention() -> Pair:
    """nnx.MultiHeadAttention that pins float32."""

    def port() -> nnx.Module:
        rngs = nnx.Rngs(0)
        options = {"decode": False, "dropout_rate": 0.2, "broadcast_dropout": False, "dtype": jnp.float32}
        return Port(
            lambda m, x: m.fc(m.attn(x)),
            attn=nnx.MultiHeadAttention(3, 12, rngs=rngs, **options),
            fc=nnx.Linear(12, 36, rngs=rngs),
        )

    return Pair(torch=_attending, flax=port, inputs=drawn(2, 5, 12))


class LinenAttention(linen.Module):
    """The port in linen, which pins float32 within."""

    @linen.compact
    def __call__(self, x: Array, deterministic: bool) -> Array:
        attend = linen.MultiHeadDotProductAttention(
            3, dtype=jnp.float32, dropout_rate=0.2, broadcast_dropout=False, deterministic=deterministic
        )
        return linen.Dense(36)(attend(x, x))


def linen_attention() -> Pair:
    """linen.MultiHeadDotProductAttention."""
    return Pair(torch=_attending, flax=LinenAttention, inputs=drawn(2, 5, 12))


class Encoder(nnx.Module):
    """torch's TransformerEncoderLayer."""

    def __init__(self) -> None:
        rngs = nnx.Rngs(0)
        self.attention = nnx.MultiHeadAttention(
            3, 12, decode=False, dropout_rate=0.1, broadcast_dropout=False, rngs=rngs
        )
        self.up, self.down = nnx.Linear(12, 20, rngs=rngs), nnx.Linear(20, 12, rngs=rngs)
        self.before, self.after = (
            nnx.LayerNorm(12, epsilon=1e-5, use_fast_variance=False, rngs=rngs) for _ in range(2)
        )
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = self.before(x + self.dropout(self.attention(x)))
        return self.after(x + self.dropout(self.down(self.dropout(jax.nn.relu(self.up(x))))))


def encoder() -> Pair:
    """Attention, norms, dropout at four places."""
    return Pair(
        torch=lambda: nn.TransformerEncoderLayer(12, 3, 20, dropout=0.1, batch_first=True),
        flax=Encoder,
        inputs=drawn(2, 5, 12),
        **TRAINED,
    )


class Recurrent(nnx.Module):
    """Cells of nnx, one a layer and direction."""

    def __init__(self, cell: Any, width: int, layers: int = 1, both: bool = False) -> None:
        def made(size: int) -> nnx.Module:
            def run() -> nnx.RNN:
                return nnx.RNN(cell(size, width, rngs=nnx.Rngs(0)))

            return nnx.Bidirectional(run(), run()) if both else run()

        self.layers = nnx.List([made(width * (1 + (both and place > 0))) for place in range(layers)])

    def __call__(self, x: Array) -> Array:
        made: Any = x
        for layer in self.layers:
            made = layer(made, rngs=nnx.Rngs(0))
        return made


class LinenRecurrent(linen.Module):
    """Cells of linen."""

    cell: Any
    width: int
    layers: int = 1

    @linen.compact
    def __call__(self, x: Array) -> Array:
        for _ in range(self.layers):
            x = cast(Array, linen.RNN(self.cell(self.width))(x))
        return x


def recurrent(
    kind: str, port: Callable[[], Any], training: Mapping[str, Any] | None = None, **options: Any
) -> Pair:
    """torch's layer of this kind, as wide as its input."""
    width = 5
    return Pair(
        torch=lambda: Original(
            lambda m, x: m.rnn(x)[0], rnn=getattr(nn, kind)(width, width, batch_first=True, **options)
        ),
        flax=port,
        inputs=drawn(3, 4, width),
        **(training or {}),
    )


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


FAMILIES: Mapping[str, Callable[[], Pair]] = {
    "sequential": sequential,
    "linen-perceptron": linen_perceptron,
    "conv1d": conv1d,
    "conv2d": conv2d,
    "conv3d": conv3d,
    "conv-transpose": lambda: conv_transpose(mirrored=False),
    "conv-transpose-mirrored": lambda: conv_transpose(mirrored=True),
    "norms": norms,
    "image-norms": image_norms,
    "tied": tied,
    "attention": attention,
    "linen-attention": linen_attention,
    "encoder": encoder,
    "lstm": lambda: recurrent("LSTM", lambda: Recurrent(nnx.LSTMCell, 5)),
    "lstm-both-ways": lambda: recurrent(
        "LSTM", lambda: Recurrent(nnx.OptimizedLSTMCell, 5, 2, True), num_layers=2, bidirectional=True
    ),
    "linen-lstm": lambda: recurrent("LSTM", lambda: LinenRecurrent(linen.OptimizedLSTMCell, 5, 2), num_layers=2),
    "linen-gru": lambda: recurrent("GRU", lambda: LinenRecurrent(linen.GRUCell, 5), TRAINED),
    "rnn": lambda: recurrent("RNN", lambda: Recurrent(nnx.SimpleCell, 5), TRAINED),
    "own": lambda: own(turned=False),
    "own-turned": lambda: own(turned=True),
    "flattened": flattened,
    "flattened-channels-first": lambda: flattened(channels_first=True),
    "dropped": dropped,
    "dropped-channels": lambda: dropped(whole_channels=True),
}
