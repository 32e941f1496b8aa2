"""What parameters are before training. Spreads are standard deviations, in the units that each entry names."""

from typing import Any

import jax
import jax.numpy as jnp
import torch
from flax import nnx

from jaxdl.nn.conv import Conv2d
from jaxdl.nn.init import torch_uniform
from jaxdl.nn.linear import Linear
from parity.catalogue.entry import Facts, Status, entry
from parity.catalogue.facts import array, differs, gives, states
from parity.catalogue.sides import together

HIDDEN = 64
RECURRENT = {
    "RNN": (torch.nn.RNN, nnx.SimpleCell),
    "LSTM": (torch.nn.LSTM, nnx.OptimizedLSTMCell),
    "GRU": (torch.nn.GRU, nnx.GRUCell),
}


@entry(
    1,
    "Linear and Conv: initial weights and biases",
    Status.OPTIONS,
    torch="kaiming_uniform_(a=sqrt 5), which is U(-b, b) with b = 1/sqrt(fan_in), and the same for the bias",
    jax="lecun_normal for the kernel, whose spread is sqrt 3 times as large; the bias is 0",
    instead="""
    kernel_init = nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
    bias_init = lambda key, shape, dtype: jaxdl.nn.init.torch_uniform(key, shape, fan_in)
    # or the layers that have both: jaxdl.nn.linear.Linear, jaxdl.nn.conv.Conv2d
    """,
)
def linear_and_conv() -> Facts:
    linear, conv = torch.nn.Linear(64, 256), torch.nn.Conv2d(16, 256, 3)

    def drawn(key: jax.Array) -> Any:
        rngs = nnx.Rngs(key)
        cured = nnx.Linear(64, 256, kernel_init=_scaled(1 / 3), rngs=rngs)
        ports: list[Any] = [nnx.Linear(64, 256, rngs=rngs), cured, nnx.Conv(16, 256, (3, 3), rngs=rngs)]
        ours: list[Any] = [Linear(64, 256, rngs=rngs), Conv2d(16, 256, 3, rngs=rngs)]
        return [(p.kernel[...], p.bias[...]) for p in ports], [(p.weight[...], p.bias[...]) for p in ours]

    (port, cured, conv_port), (ours, conv_ours) = together(drawn, jax.random.key(0))
    spreads = _spreads(8, linear.weight, port[0], cured[0])
    yield differs("Linear: spread of weights * sqrt(fan_in)", *spreads, least=0.3, most=0.02)
    largest = _largest(8, linear.weight, port[0], ours[0])
    yield differs("Linear: largest weight * sqrt(fan_in)", *largest, least=0.5, most=0.01)
    spreads = _spreads(8, linear.bias, port[1], ours[1])
    yield differs("Linear: spread of biases * sqrt(fan_in)", *spreads, least=0.5, most=0.1)
    spreads = _spreads(12, conv.weight, conv_port[0], conv_ours[0])
    yield differs("Conv: spread of weights * sqrt(fan_in)", *spreads, least=0.3, most=0.02)
    spreads = _spreads(12, conv.bias, conv_port[1], conv_ours[1])
    yield differs("Conv: spread of biases * sqrt(fan_in)", *spreads, least=0.5, most=0.1)


@entry(
    2,
    "Embedding: initial weights",
    Status.OPTIONS,
    torch="N(0, 1)",
    jax="normal with the spread 1/sqrt(features)",
    instead="nnx.Embed(words, features, embedding_init=nnx.initializers.normal(1.0), rngs=rngs)",
)
def embedding() -> Facts:
    def drawn(key: jax.Array) -> Any:
        rngs = nnx.Rngs(key)
        cured = nnx.Embed(256, 64, embedding_init=nnx.initializers.normal(1.0), rngs=rngs)
        return nnx.Embed(256, 64, rngs=rngs).embedding[...], cured.embedding[...]

    spreads = _spreads(1, torch.nn.Embedding(256, 64).weight, *together(drawn, jax.random.key(0)))
    yield differs("spread of 64 features", *spreads, least=0.8, most=0.03)


@entry(
    3,
    "PReLU: initial slope",
    Status.OPTIONS,
    torch="0.25",
    jax="0.01",
    instead="nnx.PReLU(0.25)",
)
def prelu() -> Facts:
    slopes = torch.nn.PReLU().weight[0], nnx.PReLU().negative_slope[...], nnx.PReLU(0.25).negative_slope[...]
    yield differs("slope", *slopes, least=0.2)


@entry(
    4,
    "RNN, LSTM and GRU: initial weights and biases",
    Status.OPTIONS,
    torch="U(-b, b) with b = 1/sqrt(hidden) for all weights and both biases",
    jax="lecun_normal from the input, orthogonal from the state, one bias, which is 0",
    instead="""
    uniform = lambda key, shape, dtype: jaxdl.nn.init.torch_uniform(key, shape, hidden)
    # flax has one bias where torch adds two
    both = lambda key, shape, dtype: sum(uniform(k, shape, dtype) for k in jax.random.split(key))
    nnx.LSTMCell(i, hidden, kernel_init=uniform, recurrent_kernel_init=uniform, bias_init=both, rngs=rngs)
    """,
)
def recurrent() -> Facts:
    settings = {"kernel_init": _uniform, "recurrent_kernel_init": _uniform, "bias_init": _two_biases}
    unit = HIDDEN**0.5
    for name, (theirs, cell) in RECURRENT.items():
        layer = theirs(16, HIDDEN)

        def drawn(key: jax.Array, cell: Any = cell, lstm: bool = name == "LSTM") -> Any:
            ports = [cell(16, HIDDEN, **given, rngs=nnx.Rngs(key)) for given in ({}, settings)]
            others = [(port.dense_i.kernel[...], port.dense_h.bias[...]) for port in ports] if lstm else None
            return [port.dense_h.kernel[...] for port in ports], others

        state, others = together(drawn, jax.random.key(0))
        largest = _largest(unit, layer.weight_hh_l0, *state)
        yield differs(f"{name}: largest weight from the state * sqrt(hidden)", *largest, least=0.5, most=0.01)
        if others:
            given, biases = zip(*others, strict=True)
            spreads = _spreads(unit, layer.weight_ih_l0, *given)
            yield differs("LSTM: spread of weights from the input * sqrt(hidden)", *spreads, least=1, most=0.05)
            spreads = _spreads(unit, layer.bias_ih_l0 + layer.bias_hh_l0, *biases)
            yield differs("LSTM: spread of biases, added, * sqrt(hidden)", *spreads, least=0.5, most=0.2)


@entry(
    5,
    "MultiheadAttention: initial weights",
    Status.OPTIONS,
    torch="xavier_uniform_ on the packed (3E, E), so the bound is sqrt(6 / 4E); out_proj as Linear; biases 0",
    jax="lecun_normal for each of query, key, value and out; biases 0",
    instead="""
    nnx.MultiHeadAttention(
        heads, width, rngs=rngs,
        kernel_init=nnx.initializers.variance_scaling(1 / 2, "fan_in", "uniform"),
        out_kernel_init=nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
    )
    # or jaxdl.nn.attention.MultiheadAttention
    """,
)
def attention() -> Facts:
    theirs = torch.nn.MultiheadAttention(64, 4)
    settings: dict[str, Any] = {"kernel_init": _scaled(1 / 2), "out_kernel_init": _scaled(1 / 3)}

    def drawn(key: jax.Array) -> Any:
        rngs = nnx.Rngs(key)
        ports: list[Any] = [nnx.MultiHeadAttention(4, 64, **given, rngs=rngs) for given in ({}, settings)]
        biases = ports[0].query.bias[...], ports[0].out.bias[...]
        return [port.query.kernel[...] for port in ports], [port.out.kernel[...] for port in ports], biases

    query, out, biases = together(drawn, jax.random.key(0))
    packed = theirs.in_proj_weight
    yield differs("spread of q, k, v * sqrt(E)", *_spreads(8, packed, *query), least=0.2, most=0.03)
    largest = _largest((256 / 6) ** 0.5, packed, *query)
    yield differs("largest of q, k, v * sqrt(4E / 6)", *largest, least=0.5, most=0.02)
    spreads = _spreads(8, theirs.out_proj.weight, *out)
    yield differs("spread of out * sqrt(E)", *spreads, least=0.3, most=0.03)
    own = theirs.in_proj_bias, theirs.out_proj.bias
    yield states("all biases are 0", not any(array(bias).any() for bias in (*own, *biases)))


@entry(
    6,
    "Truncated normal",
    Status.OPTIONS,
    torch="trunc_normal_ cuts at -2 and 2 whatever std is, so a std of 0.02 cuts nothing",
    jax="truncated_normal cuts at -2 and 2 standard deviations and does not correct: stddev 0.02 gives 0.0176",
    instead="nnx.initializers.truncated_normal(std, lower=-2 / std, upper=2 / std)",
)
def truncated() -> Facts:
    theirs = torch.nn.init.trunc_normal_(torch.empty(200, 200), std=0.02)
    initializers = [nnx.initializers.truncated_normal(0.02, **cut) for cut in ({}, {"lower": -100, "upper": 100})]
    made = together(lambda key: [draw(key, (200, 200)) for draw in initializers], jax.random.key(0))
    yield differs("spread / 0.02", *_spreads(50, theirs, *made), least=0.1, most=0.02)
    yield gives("flax: the spread", _spreads(1, made[0]), [0.0176], most=2e-4)


def _spreads(unit: float, *values: Any) -> list[float]:
    return [float(array(value).std() * unit) for value in values]


def _largest(unit: float, *values: Any) -> list[float]:
    return [float(abs(array(value)).max() * unit) for value in values]


def _scaled(variance: float) -> Any:
    return nnx.initializers.variance_scaling(variance, "fan_in", "uniform")


def _uniform(key: jax.Array, shape: tuple[int, ...], _dtype: Any = None) -> jax.Array:
    return torch_uniform(key, shape, HIDDEN)


def _two_biases(key: jax.Array, shape: tuple[int, ...], _dtype: Any = None) -> jax.Array:
    return jnp.sum(jnp.stack([_uniform(part, shape) for part in jax.random.split(key)]), 0)
