"""Attention, its masks, and torch's encoder layer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from flax import nnx

from jaxdl.nn.attention import MultiheadAttention, scaled_dot_product_attention
from parity.catalogue.entry import Facts, Status, entry
from parity.catalogue.facts import agrees, array, differs, states
from parity.catalogue.sides import BLANK, FLOAT64, loaded, normal, together
from parity.flax_side.precision import exact_attention

WIDTH, HEADS, STEPS = 8, 2, 5
CAUSAL = np.tril(np.ones((STEPS, STEPS), bool))  # True: may be seen


@entry(
    21,
    "MultiheadAttention: weights and masks",
    Status.OPTIONS,
    torch="in_proj_weight holds q, k and v; in a bool mask of MultiheadAttention True blocks, "
    "in scaled_dot_product_attention True keeps",
    jax="query, key, value of (E, heads, size), out of (heads, size, E); True keeps",
    instead="""
    kernel = part.T.reshape(E, heads, -1) for part in jnp.split(in_proj_weight, 3)  # biases: reshape(heads, -1)
    out = out_proj.weight.T.reshape(heads, -1, E)
    attention(x, mask=~attn_mask)
    # or jaxdl.nn.attention, with torch's packed weights and both of torch's masks
    """,
)
def weights_and_masks() -> Facts:
    layer, x = _layer(), normal(3, STEPS, WIDTH)
    t = torch.tensor(x)
    q = normal(3, STEPS, HEADS, 4)

    def ports(x: Any, q: Any) -> Any:
        port, causal = _port(layer), jnp.asarray(CAUSAL)
        ours = _of_jaxdl(layer)(x, attn_mask=~causal), _attended_by_jaxdl(q, causal)
        return port(x), port(x, mask=~causal), port(x, mask=causal), _attended(q, causal), ours

    with exact_attention():
        plain, handed, inverted, kept, ours = together(ports, x, q)
    yield agrees("without a mask", layer(t, t, t)[0], plain)
    theirs = layer(t, t, t, attn_mask=torch.tensor(~CAUSAL))[0]
    yield differs("torch's mask handed over, or inverted", theirs, handed, inverted, least=0.01)
    yield agrees("jaxdl's, torch's mask handed over", theirs, ours[0])
    yield agrees("scaled_dot_product_attention, the same mask", _attended_by_torch(q, CAUSAL), kept)
    yield agrees("jaxdl's", _attended_by_torch(q, CAUSAL), ours[1])


@entry(
    22,
    "A row that is masked whole",
    Status.CURED,
    torch="scaled_dot_product_attention gives 0, and so does MultiheadAttention with need_weights=False; NaN with "
    "True, its default",
    jax="the average of all values, as if nothing were masked",
    instead="""
    jaxdl.nn.attention.scaled_dot_product_attention(query, key, value, mask)  # and MultiheadAttention: 0
    jnp.where(mask.any(-1)[..., None], attended, jnp.nan)                     # what MultiheadAttention shows
    """,
)
def masked_row() -> Facts:
    layer = _layer()
    mask: Any = CAUSAL.copy()
    mask[0] = False
    t = torch.tensor(normal(1, STEPS, WIDTH))
    theirs = layer(t, t, t, attn_mask=torch.tensor(~mask))[0]
    yield states(
        "torch's MultiheadAttention: NaN there and only there",
        theirs[0].isnan().all(-1).tolist() == [True] + 4 * [False],
    )
    without = layer(t, t, t, attn_mask=torch.tensor(~mask), need_weights=False)[0]
    yield states("with need_weights=False nowhere", not without.isnan().any())
    q = normal(1, STEPS, 1, 4)
    made, cured = together(lambda q, mask: (_attended(q, mask), _attended_by_jaxdl(q, mask)), q, mask)
    yield agrees("JAX: the average", q.mean(1, keepdims=True)[:, :1], made[:, :1], most=1e-6)
    yield differs("scaled_dot_product_attention", _attended_by_torch(q, mask), made, cured, least=0.01)


@entry(
    27,
    "TransformerEncoderLayer: defaults",
    Status.OPTIONS,
    torch="norms behind the sums, relu, axes (time, batch, features), 2048 hidden features",
    jax="flax has no such layer; what is written today has the norms in front, gelu, and the batch first",
    instead="""
    x = norm1(x + attention(x))
    x = norm2(x + linear2(jax.nn.relu(linear1(x))))  # eps 1e-5; axes (batch, time, features)
    """,
)
def encoder_layer() -> Facts:
    layer = torch.nn.TransformerEncoderLayer(WIDTH, HEADS, dropout=0.0, dtype=torch.float64)
    yield states("2048 hidden features", layer.linear1.out_features == 2048)
    x = normal(STEPS, 3, WIDTH)
    theirs = array(layer(torch.tensor(x)))

    others: list[dict[str, Any]] = [{}, {"front": True}, {"activation": jax.nn.gelu}]

    def ports(x: Any) -> Any:
        turned = x.swapaxes(0, 1)
        made = [_encoded(layer, turned, **other) for other in others]
        return _encoded(layer, x), *(each.swapaxes(0, 1) for each in made)

    with exact_attention():
        batch_first, right, front, smooth = together(ports, x)
    yield differs("the batch first, or second", theirs, batch_first, right, least=0.1)
    yield differs("the norms in front, or behind", theirs, front, right, least=0.1)
    yield differs("gelu, or relu", theirs, smooth, right, least=1e-3)


@entry(
    53,
    "Attention in float64",
    Status.CURED,
    torch="the softmax in the dtype of its input",
    jax="jax.nn.dot_product_attention takes it in float32 always: a float64 proof stops near 4e-8, "
    "a limit of precision and no fault",
    instead="""
    jaxdl.nn.attention
    with parity.flax_side.precision.exact_attention(): ...  # a proof of flax's own, as parity.prove makes it
    """,
)
def attention_in_float64() -> Facts:
    q = normal(2, STEPS, HEADS, 4)
    layer, x = _layer(), normal(3, STEPS, WIDTH)

    def ports(q: Any, x: Any) -> Any:
        return _attended(q), _port(layer)(x), _attended_by_jaxdl(q)

    plain, plain_layer, ours = together(ports, q, x)
    yield states("the output is float64 all the same", plain.dtype == jnp.float64)
    with exact_attention():
        exact, exact_layer, _ = together(ports, q, x)
    yield differs("attended", _attended_by_torch(q), plain, exact, least=1e-10)
    yield agrees("jaxdl's", _attended_by_torch(q), ours)
    t = torch.tensor(x)
    yield differs("nnx.MultiHeadAttention", layer(t, t, t)[0], plain_layer, exact_layer, least=1e-10)


def _layer() -> torch.nn.MultiheadAttention:
    layer = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True, dtype=torch.float64)
    torch.nn.init.normal_(layer.in_proj_bias)  # both start as 0
    torch.nn.init.normal_(layer.out_proj.bias)
    return layer


def _port(layer: torch.nn.MultiheadAttention) -> nnx.MultiHeadAttention:
    port = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, **BLANK, rngs=nnx.Rngs(0))
    weights, biases = (np.split(array(packed), 3) for packed in (layer.in_proj_weight, layer.in_proj_bias))
    for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
        loaded(getattr(port, name), kernel=weight.T.reshape(WIDTH, HEADS, -1), bias=bias.reshape(HEADS, -1))
    loaded(port.out, kernel=array(layer.out_proj.weight).T.reshape(HEADS, -1, WIDTH), bias=layer.out_proj.bias)
    return port


def _of_jaxdl(layer: torch.nn.MultiheadAttention) -> MultiheadAttention:
    port = MultiheadAttention(WIDTH, HEADS, rngs=nnx.Rngs(0))
    loaded(port, in_proj_weight=array(layer.in_proj_weight), in_proj_bias=layer.in_proj_bias)
    loaded(port.out_proj, weight=layer.out_proj.weight, bias=layer.out_proj.bias)
    return port


def _attended(q: Any, mask: Any = None) -> jax.Array:
    return jax.nn.dot_product_attention(q, q, q, mask=None if mask is None else mask[None, None])


def _attended_by_jaxdl(q: Any, mask: Any = None) -> jax.Array:
    heads = q.swapaxes(1, 2)
    return scaled_dot_product_attention(heads, heads, heads, mask).swapaxes(1, 2)


def _attended_by_torch(q: Any, mask: Any = None) -> torch.Tensor:
    heads = torch.tensor(q).transpose(1, 2)
    kept = None if mask is None else torch.tensor(mask)
    return F.scaled_dot_product_attention(heads, heads, heads, kept).transpose(1, 2)


def _encoded(layer: Any, x: Any, *, front: bool = False, activation: Any = jax.nn.relu) -> jax.Array:
    """A transformer layer on (batch, time, features), with the norms in front of each part or behind it."""
    attend = _port(layer.self_attn)

    def norm(which: Any, x: Any) -> Any:
        port = nnx.LayerNorm(WIDTH, epsilon=1e-5, use_fast_variance=False, **FLOAT64, rngs=nnx.Rngs(0))
        return loaded(port, scale=which.weight, bias=which.bias)(x)

    def linear(which: Any, x: Any) -> Any:
        return x @ array(which.weight).T + array(which.bias)

    def fed(x: Any) -> Any:
        return linear(layer.linear2, activation(linear(layer.linear1, x)))

    for part, which in ((attend, layer.norm1), (fed, layer.norm2)):
        x = x + part(norm(which, x)) if front else norm(which, x + part(x))
    return x
