"""Attention with torch's names, masks and initial distribution; the softmax keeps the precision of its input."""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdl.nn.dropout import Dropout
from jaxdl.nn.init import xavier_uniform
from jaxdl.nn.layout import LINEAR
from jaxdl.nn.linear import Linear, affine
from jaxdl.typing import Array


class MultiheadAttention(nnx.Module):
    """Every place of a sequence collects from the others, in several heads; the batch comes first.

    ``in_proj_weight`` (3E, E) makes queries, keys and values, ``out_proj`` joins the heads.

    Args:
      embed_dim: E, the size of the last axis of input and output.
      num_heads: into how many parts of equal size E is divided.
      dropout: rate of the attention weights that are dropped in training.
      rngs: draws the weights from its ``params`` stream.

    Raises:
      ValueError: a width that the heads do not divide.

    Source: Vaswani et al. 2017, https://docs.pytorch.org/docs/stable/generated/torch.nn.MultiheadAttention.html
    """

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, *, rngs: nnx.Rngs) -> None:
        if num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"expected a number of heads that divides the width {embed_dim}, got {num_heads}")
        # Drawn as one matrix, as torch does: the bound is that of 3E outputs.
        packed = xavier_uniform(rngs.params(), (3 * embed_dim, embed_dim))
        self.in_proj_weight = nnx.Param(packed, layout=LINEAR)
        self.in_proj_bias = nnx.Param(jnp.zeros((3 * embed_dim,)))
        self.out_proj = Linear(embed_dim, embed_dim, bias_init=jax.nn.initializers.zeros, rngs=rngs)
        self.dropout = Dropout(dropout)
        self.num_heads = num_heads

    def __call__(
        self,
        query: Array,
        key: Array | None = None,
        value: Array | None = None,
        *,
        key_padding_mask: Array | None = None,
        attn_mask: Array | None = None,
        rngs: nnx.Rngs | None = None,
    ) -> Array:
        """What torch returns first with ``need_weights=False``.

        Args:
          query: (B, L, E).
          key: (B, S, E); the query by default.
          value: (B, S, E); the key by default.
          key_padding_mask: (B, S). True: nobody looks there. Floating-point: added to the scores.
          attn_mask: (L, S) or (B * num_heads, L, S). True: this query does not look there. Or to be added.
          rngs: the ``dropout`` stream, in training.

        Returns:
          (B, L, E). A query that may look nowhere collects zeros.

        Raises:
          ValueError: shapes or masks that do not fit.
        """
        key = query if key is None else key
        value = key if value is None else value
        self._check(query, key, value)
        q, k, v = (self._split(x) for x in self._project(query, key, value))
        mask = self._mask(key_padding_mask, attn_mask, query, key)
        y = scaled_dot_product_attention(q, k, v, mask, dropout=lambda weights: self.dropout(weights, rngs))
        return self.out_proj(y.swapaxes(1, 2).reshape(query.shape))

    def _check(self, query: Array, key: Array, value: Array) -> None:
        width = self.in_proj_weight.shape[1]
        fits = query.ndim == key.ndim == 3 and key.shape == value.shape and query.shape[0] == key.shape[0]
        if not fits or query.shape[2] != width or key.shape[2] != width:
            raise ValueError(
                f"expected a query (B, L, {width}), a key and a value (B, S, {width}), "
                f"got {query.shape}, {key.shape} and {value.shape}"
            )

    def _project(self, query: Array, key: Array, value: Array) -> list[Array]:
        """Queries, keys and values (B, places, E); of one sequence by one matrix product."""
        weight, bias = self.in_proj_weight[...], self.in_proj_bias[...]
        if query is key is value:
            return jnp.split(affine(query, weight, bias), 3, axis=-1)
        weights, biases = jnp.split(weight, 3), jnp.split(bias, 3)
        return [affine(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]

    def _split(self, x: Array) -> Array:
        """(B, places, E) -> (B, heads, places, E / heads)."""
        return x.reshape(*x.shape[:2], self.num_heads, -1).swapaxes(1, 2)

    def _mask(self, padding: Array | None, attn: Array | None, query: Array, key: Array) -> Array | None:
        """Both masks as one that is added to the scores (B, heads, L, S)."""
        (batch, queries, _), keys, dtype = query.shape, key.shape[1], _wide(query)
        parts = []
        if padding is not None:
            _check_mask("key_padding_mask", padding, (batch, keys))
            parts.append(_added(padding, dtype).reshape(batch, 1, 1, keys))
        if attn is not None:
            _check_mask("attn_mask", attn, (queries, keys), (batch * self.num_heads, queries, keys))
            heads = 1 if attn.ndim == 2 else self.num_heads
            parts.append(_added(attn, dtype).reshape(-1, heads, queries, keys))
        return functools.reduce(operator.add, parts) if parts else None


def scaled_dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Array | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    dropout: Callable[[Array], Array] | None = None,
) -> Array:
    """``softmax(query @ key.T * scale + mask) @ value``.

    Scores and softmax are float32 at least, and float64 where the input is.

    Args:
      query: (..., L, D).
      key: (..., S, D).
      value: (..., S, V).
      attn_mask: what broadcasts to (..., L, S). True: this query looks there, the opposite of
        `MultiheadAttention`'s masks, as in torch. Floating-point: added to the scores.
      is_causal: query l looks at keys 0 to l alone.
      scale: ``1 / sqrt(D)`` by default.
      dropout: what becomes of the weights (..., L, S) before they are used.

    Returns:
      (..., L, V). A query that may look nowhere collects zeros.

    Raises:
      ValueError: shapes or a mask that do not fit.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
    """
    _check_attention(query, key, value)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = scale * jnp.einsum("...ld,...sd->...ls", query, key, preferred_element_type=_wide(query))
    if attn_mask is not None:
        scores += _broadcast(~attn_mask if attn_mask.dtype == bool else attn_mask, scores)
    if is_causal:
        scores += _broadcast(~jnp.tri(*scores.shape[-2:], dtype=bool), scores)
    weights = jax.nn.softmax(scores) if attn_mask is None else _softmax(scores)
    if dropout is not None:
        weights = dropout(weights)
    return jnp.einsum("...ls,...sv->...lv", weights.astype(value.dtype), value)


def _softmax(scores: Array) -> Array:
    """The softmax over the last axis; zeros, and a gradient of zero, where all scores are minus infinity."""
    nowhere = (scores == -jnp.inf).all(-1, keepdims=True)
    weights = jax.nn.softmax(jnp.where(nowhere, 0, scores))
    return jnp.where(nowhere, 0, weights)


def _wide(x: Array) -> Any:
    """The type of the scores."""
    return np.promote_types(x.dtype, np.float32)


def _added(mask: Array, dtype: Any) -> Array:
    """What a mask adds to the scores: minus infinity where it is True; a floating-point one itself."""
    if mask.dtype != bool and not jnp.issubdtype(mask.dtype, jnp.floating):
        raise ValueError(f"expected a mask of bool or floating-point, got {mask.dtype}")
    return (jnp.where(mask, -jnp.inf, 0.0) if mask.dtype == bool else mask).astype(dtype)


def _broadcast(mask: Array, scores: Array) -> Array:
    added = _added(mask, scores.dtype)
    try:
        return jnp.broadcast_to(added, scores.shape)
    except ValueError as error:
        raise ValueError(f"expected a mask for scores of shape {scores.shape}, got {mask.shape}") from error


def _check_mask(name: str, mask: Array, *shapes: tuple[int, ...]) -> None:
    if mask.shape not in shapes:
        raise ValueError(f"expected {name} of shape {' or '.join(map(str, shapes))}, got {mask.shape}")


def _check_attention(query: Array, key: Array, value: Array) -> None:
    shapes = query.shape, key.shape, value.shape
    if min(map(len, shapes)) < 2 or query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        raise ValueError("expected (..., L, D), (..., S, D) and (..., S, V), got {}, {} and {}".format(*shapes))
