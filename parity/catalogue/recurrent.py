"""Gates and biases of recurrent layers."""

from typing import Any

import jax
import jax.numpy as jnp
import torch
from flax import linen, nnx

from parity.catalogue.entry import Facts, Status, entry
from parity.catalogue.facts import agrees, array, differs, states
from parity.catalogue.sides import BLANK, jax_gradient, loaded, normal, together

SIZES = 3, 4  # features, hidden
CELL = {**BLANK, "recurrent_kernel_init": BLANK["kernel_init"]}


@entry(
    9,
    "LSTM: gates and biases",
    Status.OPTIONS,
    torch="gates i, f, g, o in one matrix; two biases, which are added",
    jax="a layer for each gate, or one matrix in the same order; one bias: their sum. "
    "It has one gradient where torch moves both, so torch's sum moves twice as far",
    instead="""
    bias = bias_ih + bias_hh
    # plain SGD: twice the learning rate for this bias; with other optimizers keep two biases in a cell of your own
    """,
)
def lstm() -> Facts:
    layer: Any = torch.nn.LSTM(*SIZES, dtype=torch.float64)
    x, first, both = normal(3, 2, 3), array(layer.bias_ih_l0), array(layer.bias_ih_l0 + layer.bias_hh_l0)
    theirs = layer(torch.tensor(x))[0]
    one, summed, other = together(
        lambda x: (_lstm(layer, first, x), _lstm(layer, both, x), _lstm(layer, both, x, order="ifog")), x
    )
    yield differs("outputs, one bias or their sum", theirs, one, summed, least=1e-2)
    yield differs("outputs, the gates in the order i, f, o, g", theirs, other, summed, least=1e-2)
    theirs.sum().backward()
    gradient = together(lambda bias: jax_gradient(lambda bias: _lstm(layer, bias, x), bias), both)
    yield agrees("gradient of either bias and of the sum", layer.bias_ih_l0.grad, gradient)
    moved = layer.bias_ih_l0.grad + layer.bias_hh_l0.grad
    yield differs("what one step of SGD takes off the sum", moved, gradient, 2 * gradient, least=0.1)


@entry(
    10,
    "GRU: gates and biases",
    Status.OPTIONS,
    torch="gates r, z, n; the bias b_hn is inside r * (...)",
    jax="linen.GRUCell is the same, with the biases of r and z added; nnx.GRUCell has no b_hn, see row 60",
    instead="""
    params["ir"]["bias"] = b_ir + b_hr
    params["iz"]["bias"] = b_iz + b_hz
    params["in"]["bias"], params["hn"]["bias"] = b_in, b_hn  # of linen.GRUCell
    """,
)
def gru() -> Facts:
    layer: Any = torch.nn.GRU(*SIZES, dtype=torch.float64)
    x = normal(3, 2, 3)
    theirs = layer(torch.tensor(x))[0]
    made = together(lambda x: (_gru(layer, x, apart=False), _gru(layer, x)), x)
    yield differs("outputs, b_hn added to b_in or kept", theirs, *made, least=1e-3)


@entry(
    60,
    "PReLU's shape, and nnx.GRUCell's missing bias",
    Status.OPTIONS,
    torch="nn.PReLU: 0.25, shape (1,); nn.GRU adds b_hn inside r * (...)",
    jax="nnx.PReLU: 0.01, shape (); nnx.GRUCell has no bias there, so trained weights cannot be carried over",
    instead="""
    nnx.PReLU(0.25), and weight.reshape(()) when it is loaded
    flax.linen.GRUCell(hidden)  # has b_hn
    """,
)
def shapes_and_missing_bias() -> Facts:
    slope, port = torch.nn.PReLU().weight, nnx.PReLU().negative_slope[...]
    yield states("shapes of the slope: (1,) and ()", (tuple(slope.shape), port.shape) == ((1,), ()))
    yield differs("slope", slope[0], port, nnx.PReLU(0.25).negative_slope[...], least=0.2)
    layer: Any = torch.nn.GRU(*SIZES, dtype=torch.float64)
    cell = nnx.GRUCell(*SIZES, **CELL, rngs=nnx.Rngs(0))
    yield states("nnx.GRUCell has no bias in the layer of the state", cell.dense_h.bias is None)
    x = normal(3, 2, 3)
    made = together(lambda x: (_nnx_gru(layer, x), _gru(layer, x)), x)
    yield differs("GRU outputs", layer(torch.tensor(x))[0], *made, least=1e-3)


def _lstm(layer: Any, bias: Any, x: Any, order: str = "ifgo") -> jax.Array:
    cell = nnx.LSTMCell(*SIZES, **CELL, rngs=nnx.Rngs(0))
    weights = (jnp.split(array(weight), 4) for weight in (layer.weight_ih_l0, layer.weight_hh_l0))
    for gate, from_input, from_state, part in zip(order, *weights, jnp.split(bias, 4), strict=True):
        loaded(getattr(cell, "if_" if gate == "f" else f"i{gate}"), kernel=from_input.T)
        loaded(getattr(cell, f"h{gate}"), kernel=from_state.T, bias=part)
    return _unrolled(cell, x, (jnp.zeros((2, 4)), jnp.zeros((2, 4))))


def _gru(layer: Any, x: Any, *, apart: bool = True) -> jax.Array:
    weights = [jnp.split(array(weight), 3) for weight in (layer.weight_ih_l0, layer.weight_hh_l0)]
    first, second = (jnp.split(array(bias), 3) for bias in (layer.bias_ih_l0, layer.bias_hh_l0))
    params = {}
    for gate, of_input, of_state, b_i, b_h in zip("rzn", *weights, first, second, strict=True):
        kept = apart and gate == "n"
        params[f"i{gate}"] = {"kernel": of_input.T, "bias": b_i if kept else b_i + b_h}
        params[f"h{gate}"] = {"kernel": of_state.T}
    params["hn"]["bias"] = second[2] if apart else jnp.zeros(4)
    cell = linen.GRUCell(4, param_dtype=jnp.float64)
    return _unrolled(lambda h, x: cell.apply({"params": params}, h, x), x, jnp.zeros((2, 4)))


def _nnx_gru(layer: Any, x: Any) -> jax.Array:
    cell = nnx.GRUCell(*SIZES, **CELL, rngs=nnx.Rngs(0))
    loaded(cell.dense_i, kernel=array(layer.weight_ih_l0).T, bias=layer.bias_ih_l0 + layer.bias_hh_l0)
    loaded(cell.dense_h, kernel=array(layer.weight_hh_l0).T)
    return _unrolled(cell, x, jnp.zeros((2, 4)))


def _unrolled(cell: Any, x: Any, carry: Any) -> jax.Array:
    made = []
    for step in x:
        carry, y = cell(carry, step)
        made.append(y)
    return jnp.stack(made)
