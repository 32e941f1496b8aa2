"""The vision transformer, named and initialised as torchvision's."""

import functools
import math

import jax.numpy as jnp
from flax import nnx
from jax.nn.initializers import zeros

from jaxdl.nn.activations import gelu
from jaxdl.nn.attention import MultiheadAttention
from jaxdl.nn.conv import Conv2d
from jaxdl.nn.dropout import Dropout
from jaxdl.nn.init import normal, trunc_normal, xavier_uniform
from jaxdl.nn.linear import Linear
from jaxdl.nn.norm import LayerNorm
from jaxdl.typing import Array

EPS = 1e-6  # of torchvision's norms here, unlike torch's own 1e-5


class VisionTransformer(nnx.Module):
    """Patches as words, a transformer encoder, Linear on the class token: images (B, H, W, C) -> logits.

    The defaults are for images of about 32x32, of which patches of 16x16 would leave 4 words and those of 4x4 make
    64. Width and heads are those of DeiT-Ti, its depth is halved: 2.7 million parameters for some 50,000 images.
    torchvision's vit_b_16 is ``VisionTransformer((224, 224, 3), 1000, patch=16, hidden=768, depth=12, heads=12)``.

    Args:
      image_shape: (H, W, C).
      classes: the number of classes.
      patch: pixels along a patch.
      hidden: width of the tokens; the MLPs between are 4 times as wide.
      depth: the number of encoder blocks.
      heads: of the attention.
      dropout: rate behind the embedding, the attention and both layers of the MLP.
      rngs: draws the weights from its ``params`` stream.

    Raises:
      ValueError: patches that do not fill the image, heads that do not divide the width; when called, images of
        another size.

    Source: Dosovitskiy et al. 2020, Touvron et al. 2020 (DeiT),
    https://docs.pytorch.org/vision/stable/models/vision_transformer.html
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (32, 32, 3),
        classes: int = 10,
        *,
        patch: int = 4,
        hidden: int = 192,
        depth: int = 6,
        heads: int = 3,
        dropout: float = 0.0,
        rngs: nnx.Rngs,
    ) -> None:
        height, width, channels = image_shape
        _check_patch(patch, height, width)
        words = (height // patch) * (width // patch)
        patches = functools.partial(trunc_normal, std=1 / patch / math.sqrt(channels))
        self.conv_proj = Conv2d(
            channels, hidden, patch, stride=patch, weight_init=patches, bias_init=zeros, rngs=rngs
        )
        self.class_token = nnx.Param(jnp.zeros((1, 1, hidden)))
        self.encoder = Encoder(1 + words, depth, hidden, heads, dropout, rngs=rngs)
        self.heads = nnx.Dict(head=Linear(hidden, classes, weight_init=zeros, bias_init=zeros, rngs=rngs))
        self.image_shape = tuple(image_shape)

    def __call__(self, x: Array, rngs: nnx.Rngs | None = None) -> Array:
        if x.shape[1:] != self.image_shape:
            raise ValueError(
                f"expected images of shape (B, {', '.join(map(str, self.image_shape))}), got {x.shape}"
            )
        x = self.conv_proj(x)  # (B, 8, 8, 192)
        x = x.reshape(x.shape[0], -1, x.shape[-1])  # (B, 64, 192)
        token = jnp.broadcast_to(self.class_token[...], (x.shape[0], 1, x.shape[-1]))
        x = self.encoder(jnp.concatenate([token, x], 1), rngs)  # (B, 65, 192)
        return self.heads["head"](x[:, 0])  # (B, 10)


class Encoder(nnx.Module):
    """Learned positions, blocks, a norm: (B, T, E) -> (B, T, E).

    Args:
      tokens: T.
      depth: the number of blocks.
      hidden: E.
      heads, dropout: as in `VisionTransformer`.
      rngs: draws the weights.
    """

    def __init__(
        self, tokens: int, depth: int, hidden: int, heads: int, dropout: float, *, rngs: nnx.Rngs
    ) -> None:
        self.pos_embedding = nnx.Param(normal(rngs.params(), (1, tokens, hidden), 0.02))
        blocks = [EncoderBlock(hidden, heads, dropout, rngs=rngs) for _ in range(depth)]
        self.layers = nnx.Dict({f"encoder_layer_{place}": block for place, block in enumerate(blocks)})
        self.ln = LayerNorm(hidden, eps=EPS)
        self.dropout = Dropout(dropout)
        self.depth = depth

    def __call__(self, x: Array, rngs: nnx.Rngs | None = None) -> Array:
        x = self.dropout(x + self.pos_embedding[...], rngs)
        for place in range(self.depth):  # not in the order of a dict, where 10 may come before 2
            x = self.layers[f"encoder_layer_{place}"](x, rngs)
        return self.ln(x)


class EncoderBlock(nnx.Module):
    """Attention and an MLP, each behind a norm and beside a shortcut: (B, T, E) -> (B, T, E)."""

    def __init__(self, hidden: int, heads: int, dropout: float, *, rngs: nnx.Rngs) -> None:
        self.ln_1 = LayerNorm(hidden, eps=EPS)
        self.self_attention = MultiheadAttention(hidden, heads, rngs=rngs)
        self.ln_2 = LayerNorm(hidden, eps=EPS)
        # The places in torchvision's Sequential, where GELU and dropout stand between.
        self.mlp = nnx.Dict({"0": _linear(hidden, 4 * hidden, rngs), "3": _linear(4 * hidden, hidden, rngs)})
        self.dropout = Dropout(dropout)

    def __call__(self, x: Array, rngs: nnx.Rngs | None = None) -> Array:
        x = x + self.dropout(self.self_attention(self.ln_1(x), rngs=rngs), rngs)
        y = gelu(self.mlp["0"](self.ln_2(x)))
        y = self.mlp["3"](self.dropout(y, rngs))
        return x + self.dropout(y, rngs)


def _linear(inputs: int, outputs: int, rngs: nnx.Rngs) -> Linear:
    small = functools.partial(normal, std=1e-6)
    return Linear(inputs, outputs, weight_init=xavier_uniform, bias_init=small, rngs=rngs)


def _check_patch(patch: int, height: int, width: int) -> None:
    if patch < 1 or height % patch or width % patch:
        common = math.gcd(height, width)
        fitting = ", ".join(str(size) for size in range(1, common + 1) if common % size == 0)
        raise ValueError(f"patches of {patch} pixels do not fill an image of {height}x{width}; {fitting} do")
