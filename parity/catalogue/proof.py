"""What a float64 proof meets on its way: states, names, traces."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from flax import nnx
from flax.errors import TraceContextError
from jax.core import Tracer

from jaxdl.nn.dropout import Dropout
from parity.catalogue.entry import Facts, Status, entry
from parity.catalogue.facts import agrees, array, differs, gives, raises, states
from parity.catalogue.sides import BLANK, loaded, normal, together
from parity.verdict import STRUCTURAL_ZERO


@entry(
    57,
    "nnx: variable[...] = x",
    Status.OPTIONS,
    torch="copy_ keeps the tensor's dtype, too; module.double() changes all",
    jax="variable[...] = x keeps the variable's old dtype (a warning at most), so statistics stay float32",
    instead="variable.set_value(x)",
)
def assignment() -> Facts:
    value = normal(3)
    old, new = (nnx.BatchStat(jnp.zeros(3, jnp.float32)) for _ in range(2))
    old[...] = jnp.asarray(value)
    new.set_value(jnp.asarray(value))
    yield states("the dtypes: float32 and float64", (old.dtype, new.dtype) == (jnp.float32, jnp.float64))
    yield differs("the values", value, old[...], new[...], least=1e-9)


class Counted(nnx.Module):
    """A product that counts its calls."""

    def __init__(self) -> None:
        self.weight, self.calls = nnx.Param(jnp.ones(())), nnx.BatchStat(jnp.zeros(()))

    def __call__(self, x: Any) -> Any:
        self.calls[...] += 1
        return self.weight[...] * x


@entry(
    58,
    "nnx.merge inside grad",
    Status.OPTIONS,
    torch="a buffer is updated wherever the module is called",
    jax="nnx.merge shares its Variables with an outer nnx.State: to update a BatchStat inside grad raises "
    "TraceContextError",
    instead="""
    nnx.merge(graphdef, params, stats, copy=True)
    # or pure dicts, as in jaxdl: params, stats = (nnx.to_pure_dict(part) for part in (params, stats))
    """,
)
def merged() -> Facts:
    graphdef, params, stats = nnx.split(Counted(), nnx.Param, nnx.BatchStat)

    def slope(params: Any, stats: Any, **copied: bool) -> Any:
        def loss(params: Any) -> Any:
            model = nnx.merge(graphdef, params, stats, **copied)
            return model(3.0), nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

        return jax.grad(loss, has_aux=True)(params)

    yield states("shared, it raises", raises(lambda: slope(params, stats), TraceContextError))
    gradient, after = slope(params, stats, copy=True)
    yield gives("copied: the gradient", gradient["weight"][...], 3)
    yield gives("copied: the calls", after["calls"], 1)
    gradient, after = slope(nnx.to_pure_dict(params), nnx.to_pure_dict(stats))
    yield gives("pure dicts: the gradient", gradient["weight"], 3)
    yield gives("pure dicts: the calls", after["calls"], 1)


@entry(
    59,
    "What an nnx.State holds",
    Status.OPTIONS,
    torch="state_dict: dotted names, numbers only; dropout has none",
    jax="nnx.Dropout(rate, rngs=...) keeps a random key, of which np.asarray raises; paths end in .value; places "
    "in lists are ints; attention has biases of (heads, size)",
    instead="""
    nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat)   # in place of nnx.state(model)
    nnx.to_pure_dict(state)                                        # paths without .value
    jaxdl.nn.dropout.Dropout(rate), or nnx.Dropout(rate) and model(x, rngs=rngs)
    """,
)
def leaves() -> Facts:
    state = nnx.state(nnx.Dropout(0.0, rngs=nnx.Rngs(0)))
    keys = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)]
    own = [len(jax.tree.leaves(nnx.state(layer))) for layer in (nnx.Dropout(0.0), Dropout(0.0))]
    yield differs("leaves of a dropout", 0, len(jax.tree.leaves(state)), own[1], least=1)
    yield gives("leaves of nnx.Dropout without rngs", own[0], 0)
    yield states("np.asarray of its key raises", len(keys) == 1 and raises(lambda: np.asarray(keys[0]), TypeError))
    linear = nnx.Linear(2, 3, **BLANK, rngs=nnx.Rngs(0))
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(nnx.state(linear))[0]]
    yield states("paths end in .value", all(jax.tree_util.keystr(path).endswith(".value") for path in paths))
    pure = jax.tree_util.tree_flatten_with_path(nnx.to_pure_dict(nnx.state(linear)))[0]
    yield states("those of a pure dict do not", not any("value" in jax.tree_util.keystr(path) for path, _ in pure))
    listed = nnx.to_flat_state(nnx.state(nnx.Sequential(linear)))
    yield states("places in lists are ints", all(int in map(type, path) for path, _ in listed))
    attention: Any = nnx.MultiHeadAttention(2, 8, **BLANK, rngs=nnx.Rngs(0))
    yield states("attention's biases are (heads, size)", attention.query.bias.shape == (2, 4))


@entry(
    62,
    "Structural zeros behind other layers",
    Status.SAME,
    torch="a BatchNorm bias in front of a 1x1 convolution and BatchNorm has no effect, through a residual sum too",
    jax="the same",
    instead="find them by size against the norm of all gradients (1e-12 separates them), not by a list of layers",
)
def structural_zeros() -> Facts:
    x, weights = normal(4, 3, 5, 5), [normal(3, 3, seed=seed) for seed in (1, 2)]
    start = [torch.tensor(w, requires_grad=True) for w in weights] + [
        torch.zeros(3, dtype=torch.float64, requires_grad=True)
    ]
    for residual in (False, True):
        theirs = torch.autograd.grad(_torch_loss(torch.tensor(x), *start, residual=residual), start)
        loss = functools.partial(_jax_loss, residual=residual)
        port = together(jax.grad(loss, (1, 2, 3)), x, *weights, np.zeros(3))
        through = "through a residual sum" if residual else "straight"
        for side, slopes in (("torch", theirs), ("JAX", port)):
            norms = [float(np.linalg.norm(array(slope))) for slope in slopes]
            limit = STRUCTURAL_ZERO * float(np.linalg.norm(norms))
            yield states(
                f"{side}, {through}: the bias is below, the weights are above",
                norms[2] <= limit < min(norms[:2]) / 1e6,
            )
        yield agrees(
            f"the gradients, {through}",
            *(np.concatenate([array(s).ravel() for s in side]) for side in (theirs, port)),
        )


@entry(
    66,
    "Tied weights",
    Status.OPTIONS,
    torch="named_parameters() gives a shared weight once, state_dict() under both names",
    jax="a shared nnx.Param is one leaf of the state",
    instead="module.named_parameters(remove_duplicate=False)",
)
def tied() -> Facts:
    theirs = torch.nn.Sequential(torch.nn.Embedding(4, 3), torch.nn.Linear(3, 4, bias=False))
    theirs[1].weight = theirs[0].weight
    names = [name for name, _ in theirs.named_parameters()]
    every = [name for name, _ in theirs.named_parameters(remove_duplicate=False)]
    yield differs(
        "names in state_dict and named_parameters()", len(theirs.state_dict()), len(names), len(every), least=1
    )
    embed, linear = nnx.Embed(4, 3, rngs=nnx.Rngs(0)), nnx.Linear(3, 3, use_bias=False, **BLANK, rngs=nnx.Rngs(0))
    linear.kernel = embed.embedding
    shared = nnx.state(nnx.Sequential(embed, linear), nnx.Param)
    yield gives("leaves of the port's state", len(jax.tree.leaves(shared)), 1)


@entry(
    67,
    "Modules inside lax.scan",
    Status.OPTIONS,
    torch="nn.GRU is one fused module: there are no cells to look at",
    jax="what intercepts __call__ of a cell in nnx.RNN sees the tracers of the scan",
    instead="with jax.disable_jit(): ...  # the scan is a Python loop, and every step has its values",
)
def inside_scan() -> Facts:
    layer = torch.nn.GRU(3, 4, dtype=torch.float64)
    yield gives("modules in nn.GRU", len(list(layer.modules())), 1)
    seen: list[Any] = []

    class Seen(nnx.SimpleCell):
        def __call__(self, carry: Any, inputs: Any) -> Any:
            seen.append(inputs)
            return super().__call__(carry, inputs)

    x = jnp.asarray(normal(2, 3, 3))
    settings = {"dtype": jnp.float64, "recurrent_kernel_init": BLANK["kernel_init"], **BLANK}
    cell = Seen(3, 4, **settings, rngs=nnx.Rngs(0))
    rnn: Any = torch.nn.RNN(3, 4, batch_first=True, dtype=torch.float64)
    loaded(cell.dense_i, kernel=array(rnn.weight_ih_l0).T, bias=rnn.bias_ih_l0 + rnn.bias_hh_l0)
    loaded(cell.dense_h, kernel=array(rnn.weight_hh_l0).T)
    made = nnx.RNN(cell)(x)
    yield states("only tracers are seen", seen and all(isinstance(value, Tracer) for value in seen))
    yield agrees("outputs", rnn(torch.tensor(array(x)))[0], made)
    seen.clear()
    with jax.disable_jit():
        nnx.RNN(cell)(x)
    yield agrees("inputs of the 3 steps with disable_jit", x.swapaxes(0, 1), np.stack(seen))


def _torch_loss(x: Any, first: Any, second: Any, bias: Any, *, residual: bool) -> torch.Tensor:
    """1x1 convolution, BatchNorm with this bias, perhaps a residual sum, 1x1 convolution, BatchNorm."""
    made = F.batch_norm(F.conv2d(x, first[..., None, None]), None, None, bias=bias, training=True)
    made = F.conv2d(made + x if residual else made, second[..., None, None])
    return (F.batch_norm(made, None, None, training=True) ** 3).mean()


def _jax_loss(x: Any, first: Any, second: Any, bias: Any, *, residual: bool) -> jax.Array:
    """`_torch_loss`."""

    def normalised(y: Any) -> Any:
        axes = (0, 2, 3)
        return (y - y.mean(axes, keepdims=True)) / jnp.sqrt(y.var(axes, keepdims=True) + 1e-5)

    made = normalised(jnp.einsum("oi,bihw->bohw", first, x)) + bias[:, None, None]
    return (normalised(jnp.einsum("oi,bihw->bohw", second, made + x if residual else made)) ** 3).mean()
