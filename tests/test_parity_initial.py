"""Initial distributions: torch's own against Flax's defaults and jaxdl's layers."""

import jax
import numpy as np
import pytest
import torch
from flax import linen, nnx

from jaxdl.nn.conv import Conv2d
from jaxdl.nn.linear import Linear
from parity import Pair, initial
from parity.bridge import Group
from parity.verdict import Verdict

SEEDS = 30


def pair(torch_maker, flax_maker, width=6):
    return Pair(torch=torch_maker, flax=flax_maker, inputs=lambda rng: rng.random((2, width)))


class Holder(nnx.Module):
    def __init__(self, layer):
        self.layer = layer

    def __call__(self, x):
        return self.layer(x)


class TorchHolder(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


def linear(layer, **options):
    """A torch Linear(6, 20), and a Flax layer in its place."""
    return pair(
        lambda: TorchHolder(torch.nn.Linear(6, 20)),
        lambda seed=0: Holder(layer(6, 20, rngs=nnx.Rngs(seed), **options)),
    )


def test_jaxdl_linear_passes():
    judgement = initial.check(linear(Linear), seeds=SEEDS)
    assert judgement.verdict is Verdict.PASS
    weight, bias = judgement.phase("initial").leaves
    assert (weight.name, bias.name) == ("layer.weight", "layer.bias")
    bound = 1 / np.sqrt(6)
    for leaf in (weight, bias):
        for told in (leaf.torch, leaf.port):
            low, high = (float(end) for end in told.removeprefix("U(").removesuffix(")").split(", "))
            assert low == pytest.approx(-bound, rel=0.02)
            assert high == pytest.approx(bound, rel=0.02)


def test_jaxdl_conv_passes():
    own = pair(
        lambda: TorchHolder(torch.nn.Conv2d(3, 8, 3)),
        lambda seed=0: Holder(Conv2d(3, 8, 3, rngs=nnx.Rngs(seed))),
    )
    judgement = initial.check(own, seeds=SEEDS)
    assert judgement.verdict is Verdict.PASS
    assert len(judgement.phase("initial").leaves) == 2


def test_flax_default_linear_fails_with_both_distributions_and_the_fix():
    judgement = initial.check(linear(nnx.Linear), seeds=SEEDS)
    assert judgement.verdict is Verdict.FAIL
    weight, bias = judgement.phase("initial").leaves
    assert weight.torch.startswith("U(-0.40")
    assert weight.port.endswith("cut at 2 sigma")
    assert "variance_scaling(1 / 3" in weight.fix
    assert (bias.port, bias.verdict) == ("constant 0", Verdict.FAIL)
    assert bias.torch in bias.reason
    assert "bias_init" in bias.reason


def test_the_named_fix_makes_it_pass():
    bound = 6**-0.5
    options = {
        "kernel_init": nnx.initializers.variance_scaling(1 / 3, "fan_in", "uniform"),
        "bias_init": lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -bound, bound),
    }
    assert initial.check(linear(nnx.Linear, **options), seeds=SEEDS).verdict is Verdict.PASS


def test_linen_is_initialised_with_every_seed():
    own = pair(
        lambda: TorchHolder(torch.nn.Linear(6, 20, bias=False)),
        lambda: linen.Dense(
            20, use_bias=False, kernel_init=linen.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
        ),
    )
    assert initial.check(own, seeds=SEEDS).verdict is Verdict.PASS


def test_constants_are_compared_exactly():
    def port(slope):
        return lambda seed=0: Holder(nnx.PReLU(negative_slope_init=slope))  # noqa: ARG005

    right, wrong = (pair(lambda: TorchHolder(torch.nn.PReLU()), port(slope)) for slope in (0.25, 0.01))
    assert initial.check(right, seeds=3).verdict is Verdict.PASS
    (leaf,) = initial.check(wrong, seeds=3).phase("initial").leaves
    assert leaf.verdict is Verdict.FAIL
    assert (leaf.torch, leaf.port) == ("constant 0.25", "constant 0.01")
    assert "0.25" in leaf.fix


def test_embedding_names_its_row_of_the_catalogue():
    own = Pair(
        torch=lambda: TorchHolder(torch.nn.Embedding(30, 16)),
        flax=lambda seed=0: Holder(nnx.Embed(30, 16, rngs=nnx.Rngs(seed))),
        inputs=lambda rng: rng.integers(0, 30, (4,)),
    )
    (leaf,) = initial.check(own, seeds=SEEDS).phase("initial").leaves
    assert leaf.verdict is Verdict.FAIL
    assert leaf.torch.startswith(("N(0, 1", "N(0, 0.99"))
    assert "normal(1.0)" in leaf.fix


def test_padding_row_has_to_be_constant_on_both_sides():
    own = Pair(
        torch=lambda: TorchHolder(torch.nn.Embedding(30, 16, padding_idx=0)),
        flax=lambda seed=0: Holder(
            nnx.Embed(30, 16, embedding_init=nnx.initializers.normal(1.0), rngs=nnx.Rngs(seed))
        ),
        inputs=lambda rng: rng.integers(0, 30, (4,)),
    )
    (leaf,) = initial.check(own, seeds=SEEDS).phase("initial").leaves
    assert leaf.verdict is Verdict.FAIL
    assert "constant 0 in places" in leaf.torch


def test_truncation_is_seen_and_named():
    rng = np.random.default_rng(0)
    normal = rng.normal(0, 0.02, 20_000)
    cut = normal[np.abs(normal) < 0.04][:15_000]
    assert initial.describe(np.empty(0), cut) == "N(0, 0.02) cut at 2 sigma"
    group = Group("fc", "Linear", {"weight": (4, 4)})
    assert "trunc_normal_" in initial.fix_of(group, "weight", "N(0, 0.02)", "N(0, 0.02) cut at 2 sigma")


@pytest.mark.parametrize(
    ("change", "test"),
    [
        (lambda x: x + 0.05, "the means differ"),
        (lambda x: x * 1.05, "the spreads differ"),
        (lambda x: np.where(np.abs(x) > 2.5, 0, x), "the ranges differ"),
        (lambda x: np.sign(x) * np.sqrt(2 / np.pi), "the distributions differ"),
    ],
)
def test_each_test_sees_what_it_is_for(change, test):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=20_000), change(rng.normal(size=20_000))
    found = initial.compare(a, b)[1]
    assert found[test] < initial.LEVEL / 100


@pytest.mark.parametrize("size", [40, 2000])
def test_false_alarms_stay_below_the_level(size):
    """300 pairs of samples at the level 1 %: 3 alarms are expected, 10 are four sigma more."""
    rng = np.random.default_rng(2)
    draws = [(rng.uniform(-1, 1, size), rng.uniform(-1, 1, size)) for _ in range(300)]
    alarms = sum(min(initial.compare(a, b)[1].values()) < 0.01 / initial.TESTS for a, b in draws)
    assert alarms <= 10


def test_torch_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    initial.check(linear(Linear), seeds=2)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (pair(lambda: torch.nn.Linear(6, 20), lambda: Linear(6, 20, rngs=nnx.Rngs(0))), "takes no seed: write"),
        (pair(torch.nn.Linear(6, 20), lambda seed=0: Linear(6, 20, rngs=nnx.Rngs(seed))), "already made"),
        (pair(lambda: torch.nn.Linear(6, 20), Linear(6, 20, rngs=nnx.Rngs(0))), "already made"),
        (pair(lambda: torch.nn.Linear(6, 20), lambda seed=0: Linear(6, 20, rngs=nnx.Rngs(0))), "same weights under every"),  # noqa: ARG005, E501
        (pair(lambda: torch.nn.Linear(6, 20), lambda seed=0: Linear(6, 7, rngs=nnx.Rngs(seed))), "does not fit"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_one_error(own, message):
    judgement = initial.check(own, seeds=2)
    assert judgement.verdict is Verdict.ERROR
    assert message in judgement.phase("initial").error
