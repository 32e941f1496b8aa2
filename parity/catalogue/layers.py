"""Activations, embeddings, indices and dropout."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from flax import nnx
from jax.experimental import checkify

from jaxdl.nn.dropout import Dropout
from parity import masks
from parity.catalogue.entry import Facts, Status, entry
from parity.catalogue.facts import agrees, differs, gives, lacks, raises, states
from parity.catalogue.sides import BLANK, jax_gradient, loaded, normal, together, torch_gradient

# torch's name -> JAX's, of those whose slopes agree.
ACTIVATIONS = {
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "celu": jax.nn.celu,
    "silu": jax.nn.silu,
    "mish": jax.nn.mish,
    "softplus": jax.nn.softplus,
    "softsign": jax.nn.soft_sign,
    "logsigmoid": jax.nn.log_sigmoid,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "hardswish": jax.nn.hard_swish,
    "leaky_relu": jax.nn.leaky_relu,
}


@entry(
    16,
    "GELU",
    Status.OPTIONS,
    torch="the exact form, by erf",
    jax="the approximation by tanh",
    instead="jax.nn.gelu(x, approximate=False)",
)
def gelu() -> Facts:
    x = np.linspace(-4, 4, 81)
    made = together(lambda x: (jax.nn.gelu(x), jax.nn.gelu(x, approximate=False)), x)
    yield differs("values from -4 to 4", F.gelu(torch.tensor(x)), *made, least=1e-4)
    yield agrees("torch's approximate='tanh'", F.gelu(torch.tensor(x), approximate="tanh"), made[0])


@entry(
    23,
    "Embedding: padding_idx",
    Status.NO_OPTION,
    torch="the row starts as 0 and gets no gradient",
    jax="there is no such row",
    instead="""
    rows = embed(ids)
    rows = jnp.where((ids == pad)[..., None], jax.lax.stop_gradient(rows), rows)  # the row starts as 0
    """,
)
def padding_index() -> Facts:
    ids, weight = np.array([[1, 0, 2], [0, 0, 1]]), normal(4, 3)
    layer = torch.nn.Embedding(4, 3, padding_idx=0)
    yield states("torch's row starts as 0", not layer.weight[0].any())
    scale = normal(2, 3, 3, seed=1)

    def theirs(w: torch.Tensor) -> torch.Tensor:
        return F.embedding(torch.tensor(ids), w, padding_idx=0) * torch.tensor(scale)

    def port(w: jax.Array) -> jax.Array:
        return w[ids] * scale

    def cured(w: jax.Array) -> jax.Array:
        rows = w[ids]
        return jnp.where((ids == 0)[..., None], jax.lax.stop_gradient(rows), rows) * scale

    *slopes, made = together(lambda w: (jax_gradient(port, w), jax_gradient(cured, w), cured(w)), weight)
    yield differs("gradient of the weights", torch_gradient(theirs, weight), *slopes, least=0.1)
    yield agrees("outputs", theirs(torch.tensor(weight)), made)
    yield lacks(nnx.Embed, "pad")


@entry(
    24,
    "An index out of bounds",
    Status.OPTIONS,
    torch="an error",
    jax="x[i] takes the last, take and nnx.Embed give NaN, .at[i].set does nothing, one_hot gives zeros",
    instead="""
    checked = checkify.checkify(f, errors=checkify.index_checks)  # jax.experimental.checkify, while looking for it
    error, made = checked(x, i); error.throw()
    # in training: check the ids of the data once, on the host
    """,
)
def out_of_bounds() -> Facts:
    x, far = np.arange(1.0, 4.0), np.asarray(7)
    t = torch.arange(1.0, 4.0)
    yield states("torch: x[7] raises", raises(lambda: t[torch.tensor(7)], IndexError))
    yield states("torch: embedding raises", raises(lambda: F.embedding(torch.tensor(7), t[:, None]), IndexError))
    yield states("torch: one_hot raises", raises(lambda: F.one_hot(torch.tensor(7), 3), RuntimeError))
    check = checkify.checkify(lambda x, i: x[i], errors=checkify.index_checks)

    def ports(x: Any, i: Any) -> Any:
        embed = nnx.Embed(3, 1, embedding_init=BLANK["kernel_init"], rngs=nnx.Rngs(0))
        return x[i], jnp.take(x, i), embed(i), x.at[i].set(0), jax.nn.one_hot(i, 3), check(x, i)[0]

    last, taken, embedded, kept, hot, error = together(ports, x, far)
    yield gives("JAX: x[7] of [1, 2, 3]", last, 3)
    yield gives("JAX: take", taken, np.nan)
    yield gives("JAX: nnx.Embed", embedded, [np.nan])
    yield gives("JAX: x.at[7].set(0)", kept, [1, 2, 3])
    yield gives("JAX: one_hot", hot, [0, 0, 0])
    yield states("checkify finds it", "out-of-bounds" in (error.get() or ""))


@entry(
    26,
    "Dropout",
    Status.CURED,
    torch="keeps with probability 1 - p and divides by 1 - p, by its own random numbers",
    jax="the same scale; its random numbers are others, whatever the seeds",
    instead="""
    jaxdl.nn.dropout.Dropout(rate)           # or nnx.Dropout
    # a proof feeds both sides the same masks: parity.masks.in_torch, parity.masks.in_jax; parity.prove does
    """,
)
def dropout() -> Facts:
    x, shape = 1 + normal(4, 50) ** 2, (4, 50)
    plain, ours = F.dropout(torch.tensor(x), 0.4), together(_dropped, x)
    both = (np.asarray(plain) != 0) & (np.asarray(ours) != 0)
    yield agrees("what both keep", np.asarray(plain)[both], np.asarray(ours)[both])
    with masks.in_torch(0, 0):
        theirs = F.dropout(torch.tensor(x), 0.4)
    with masks.in_jax(masks.draws(0, 0, [shape], [shape])):
        shared = together(_dropped, x)
    yield differs("outputs, with own masks or shared ones", theirs, ours, shared, least=1)


@entry(
    55,
    "hardsigmoid: torch's own backward",
    Status.NO_OPTION,
    torch="1/6 as a float32 number in the backward of float64 on the CPU: 3e-8 off; the forward is exact",
    jax="1/6",
    instead="nothing: here the reference is wrong. A proof of such a layer stops near 3e-8",
)
def hardsigmoid() -> Facts:
    x = np.linspace(-2, 2, 9)
    points = np.linspace(-4.05, 4.05, 40)  # on no kink

    def ports(x: Any, points: Any) -> Any:
        hard = jax.nn.hard_sigmoid
        return jax_gradient(hard, x), hard(x), [jax_gradient(other, points) for other in ACTIVATIONS.values()]

    slope, values, slopes = together(ports, x, points)
    yield differs("gradient", torch_gradient(F.hardsigmoid, x), slope, least=1e-9)
    yield agrees("JAX's gradient", np.full(9, 1 / 6), slope)
    yield agrees("values", F.hardsigmoid(torch.tensor(x)), values)
    theirs = [torch_gradient(getattr(F, name), points).numpy() for name in ACTIVATIONS]
    yield agrees(f"gradients of {len(theirs)} other activations", np.stack(theirs), np.stack(slopes), most=1e-14)


@entry(
    56,
    "nnx.Embed: its dtype",
    Status.OPTIONS,
    torch="computes in the dtype of its weights",
    jax="pins dtype to that of the first weights, so float64 weights put in later give float32",
    instead="embed.dtype = jnp.float64  # parity.prove does it; or nnx.Embed(..., param_dtype=jnp.float64)",
)
def pinned_dtype() -> Facts:
    weight, ids = normal(4, 3), np.array([0, 2, 3])
    theirs = F.embedding(torch.tensor(ids), torch.tensor(weight))
    port = loaded(nnx.Embed(4, 3, embedding_init=BLANK["kernel_init"], rngs=nnx.Rngs(0)), embedding=weight)
    narrow = port(jnp.asarray(ids))
    yield states("the output of float64 weights is float32", narrow.dtype == jnp.float32)
    port.dtype = jnp.float64
    yield differs("rows", theirs, narrow, port(jnp.asarray(ids)), least=1e-9)


def _dropped(x: Any) -> Any:
    return Dropout(0.4)(x, nnx.Rngs(dropout=0))
