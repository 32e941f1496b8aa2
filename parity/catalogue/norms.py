"""Normalisation: what is averaged, and what is added to the variance."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from flax import nnx

from jaxdl.nn.norm import BatchNorm
from parity.catalogue.entry import Facts, Status, entry
from parity.catalogue.facts import agrees, differs, lacks, raises, states
from parity.catalogue.sides import FLOAT64, channels_first, channels_last, loaded, normal, together

SMALL = float(np.finfo(np.float64).eps)


@entry(
    11,
    "BatchNorm: momentum",
    Status.OPTIONS,
    torch="the weight of the new batch, 0.1",
    jax="the weight of the old statistics, 0.99, which is torch's 0.01",
    instead="nnx.BatchNorm(features, momentum=1 - torch_momentum, ...)  # 0.9 for torch's default",
)
def momentum() -> Facts:
    x = normal(8, 3) + 1
    theirs, hundredth = (torch.nn.BatchNorm1d(3, momentum=m, dtype=torch.float64) for m in (0.1, 0.01))
    for layer in (theirs, hundredth):
        layer(torch.tensor(x))
    default, same, cured = together(
        lambda x: [_statistics(x, **m)[0] for m in ({}, {"momentum": 0.1}, {"momentum": 0.9})], x
    )
    yield differs("running mean, momentum=0.1 on both sides", theirs.running_mean, same, cured, least=0.1)
    yield differs("running mean, the defaults", theirs.running_mean, default, cured, least=0.01)
    yield agrees("flax's default and torch's 0.01", hundredth.running_mean, default)
    yield agrees("jaxdl's default", theirs.running_mean, together(_of_jaxdl, x)[0])


@entry(
    12,
    "BatchNorm: running variance",
    Status.CURED,
    torch="the unbiased variance, over n - 1 (it normalises with the biased one)",
    jax="the biased variance, over n",
    instead="jaxdl.nn.norm.BatchNorm(features)",
)
def running_variance() -> Facts:
    x = normal(4, 3)
    theirs = torch.nn.BatchNorm1d(3, dtype=torch.float64)
    output = theirs(torch.tensor(x))
    (_, port, made), (_, cured) = together(lambda x: (_statistics(x, momentum=0.9), _of_jaxdl(x)), x)
    yield differs("running variance after a batch of 4", theirs.running_var, port, cured, least=0.01)
    yield agrees("output in training", output, made)
    yield lacks(nnx.BatchNorm, "unbias", "bessel", "ddof", "correct")


@entry(
    13,
    "Norms: eps",
    Status.OPTIONS,
    torch="1e-5 for BatchNorm, LayerNorm, GroupNorm, InstanceNorm; RMSNorm's None is finfo(dtype).eps",
    jax="1e-5 for BatchNorm, 1e-6 for LayerNorm, GroupNorm, InstanceNorm and RMSNorm",
    instead="""
    nnx.LayerNorm(features, epsilon=1e-5, ...)  # GroupNorm and InstanceNorm as well
    nnx.RMSNorm(features, epsilon=jnp.finfo(x.dtype).eps, ...)
    """,
)
def epsilon() -> Facts:
    x = 1e-3 * normal(4, 6, 5)
    t, groups = torch.tensor(x), {"num_groups": 2}
    last = t.transpose(1, 2)  # what is normalised over the last axis
    cases: list[tuple[str, torch.Tensor, Any, dict[str, Any], float]] = [
        ("LayerNorm", F.layer_norm(last, (6,)).transpose(1, 2), nnx.LayerNorm, {}, 1e-5),
        ("RMSNorm", F.rms_norm(last, (6,)).transpose(1, 2), nnx.RMSNorm, {}, SMALL),
        ("GroupNorm", torch.nn.GroupNorm(2, 6, dtype=torch.float64)(t), nnx.GroupNorm, groups, 1e-5),
        ("InstanceNorm", torch.nn.InstanceNorm1d(6, dtype=torch.float64)(t), nnx.InstanceNorm, {}, 1e-5),
    ]

    def ports(x: Any) -> Any:
        found = [
            [channels_first(_norm(layer, **options, **eps)(channels_last(x))) for eps in ({}, {"epsilon": value})]
            for _, _, layer, options, value in cases
        ]
        return found, channels_first(_norm(nnx.BatchNorm)(channels_last(x)))

    made, batch = together(ports, x)
    for (name, theirs, *_), values in zip(cases, made, strict=True):
        yield differs(f"{name} of inputs of size 1e-3", theirs, *values, least=0.1, most=1e-9)
    yield agrees("BatchNorm as it comes", torch.nn.BatchNorm1d(6, dtype=torch.float64)(t), batch, most=1e-9)


@entry(
    14,
    "Norms: use_fast_variance",
    Status.OPTIONS,
    torch="the mean of the squared distances from the mean",
    jax="E[x^2] - E[x]^2, which loses its digits where the mean is large against the spread",
    instead="nnx.LayerNorm(features, use_fast_variance=False, ...)  # every norm of flax has it",
)
def fast_variance() -> Facts:
    for mean, least, most in ((1e2, 1e-4, 1e-4), (1e4, 0.1, 1e-2)):
        x = (mean + normal(8, 64)).astype(np.float32)
        exact = F.layer_norm(torch.tensor(x).double(), (64,))
        made = _fast_or_not(nnx.LayerNorm, x, param_dtype=jnp.float32)
        yield differs(f"LayerNorm in float32, mean {mean:g}", exact, *made, least=least, most=most)
    x = (100 + normal(64, 3)).astype(np.float32)
    exact = F.batch_norm(torch.tensor(x).double(), None, None, training=True)
    made = _fast_or_not(nnx.BatchNorm, x, param_dtype=jnp.float32)
    yield differs("BatchNorm in float32, mean 100", exact, *made, least=1e-4, most=1e-4)


@entry(
    15,
    "GroupNorm's groups, InstanceNorm's affine",
    Status.OPTIONS,
    torch="GroupNorm must be told its groups; InstanceNorm has no weight and bias unless affine=True",
    jax="GroupNorm makes 32 groups; InstanceNorm has scale and bias",
    instead="""
    nnx.GroupNorm(features, num_groups=groups, epsilon=1e-5, use_fast_variance=False, rngs=rngs)
    nnx.InstanceNorm(features, use_scale=False, use_bias=False, epsilon=1e-5, use_fast_variance=False, rngs=rngs)
    """,
)
def groups_and_affine() -> Facts:
    x = normal(2, 64, 3)
    theirs = torch.nn.GroupNorm(8, 64, dtype=torch.float64)(torch.tensor(x))
    made = together(
        lambda x: [_norm(nnx.GroupNorm, 64, epsilon=1e-5, **groups)(x) for groups in ({}, {"num_groups": 8})],
        channels_last(x),
    )
    yield differs("GroupNorm(8, 64)", theirs, *map(channels_first, made), least=0.1)
    yield states("32 groups do not fit 6 channels", raises(lambda: _norm(nnx.GroupNorm), ValueError))
    ports = _norm(nnx.InstanceNorm), _norm(nnx.InstanceNorm, use_scale=False, use_bias=False)
    counts = [len(nnx.to_flat_state(nnx.state(port, nnx.Param))) for port in ports]
    own = len(list(torch.nn.InstanceNorm1d(6).parameters()))
    yield differs("InstanceNorm: parameters", own, *counts, least=2)


@entry(
    61,
    "Norms: fast variance in float64",
    Status.OPTIONS,
    torch="loses nothing that shows",
    jax="E[x^2] - E[x]^2 loses 1e-8 at the mean 1e4 in float64 as well",
    instead="use_fast_variance=False",
)
def fast_variance_in_float64() -> Facts:
    x = 1e4 + normal(64, 6)
    theirs = F.batch_norm(torch.tensor(x), None, None, training=True)
    yield differs("BatchNorm, mean 1e4", theirs, *_fast_or_not(nnx.BatchNorm, x), least=1e-10, most=1e-11)
    x = x.reshape(4, 6, 16)
    theirs, made = F.group_norm(torch.tensor(x), 2), _fast_or_not(nnx.GroupNorm, channels_last(x), num_groups=2)
    yield differs("GroupNorm, mean 1e4", theirs, *map(channels_first, made), least=1e-10, most=1e-11)


def _norm(layer: Any, features: Any = 6, **settings: Any) -> Any:
    return layer(features, **{**FLOAT64, **settings}, rngs=nnx.Rngs(0))


def _fast_or_not(layer: Any, x: np.ndarray, **settings: Any) -> Any:
    given = {"features": x.shape[-1], "epsilon": 1e-5, **settings}
    return together(lambda x: [_norm(layer, use_fast_variance=fast, **given)(x) for fast in (True, False)], x)


def _statistics(x: Any, **settings: Any) -> tuple[Any, Any, Any]:
    """The mean and variance of flax's BatchNorm after a batch, in float64, and its output."""
    port = loaded(_norm(nnx.BatchNorm, x.shape[-1], **settings), mean=np.zeros(3), var=np.ones(3))
    made = port(x)
    return port.mean[...], port.var[...], made


def _of_jaxdl(x: Any) -> tuple[Any, Any]:
    port = BatchNorm(x.shape[-1])
    port(x)
    return port.running_mean[...], port.running_var[...]
