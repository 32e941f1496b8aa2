"""Attention, alone and in an encoder."""

import jax
import jax.numpy as jnp
from flax import linen, nnx
from torch import nn

from parity.pair import Pair
from parity.twins.families.parts import TRAINED, Array, Original, Port, drawn


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
