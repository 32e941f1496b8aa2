"""Factored layers against torch's SVD and two torch layers in a row, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxdl.engine import weights
from jaxdl.methods import low_rank
from jaxdl.models import CNN, Net
from jaxdl.nn.conv import Conv2d
from jaxdl.nn.linear import Linear
from jaxdl.nn.norm import BatchNorm


@pytest.fixture(autouse=True)
def _float64(x64):
    del x64


def forward(model, x):
    return jax.jit(lambda x: nnx.view(model, deterministic=True)(x))(x)


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (5, 3, 3, 3)])
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_the_product_is_torchs_truncated_svd(shape, rank):
    weight = np.random.default_rng(0).normal(size=shape)
    left, right = low_rank.factors(jnp.asarray(weight), rank)
    assert left.shape == (shape[0], rank)
    assert right.shape == (rank, *shape[1:])
    u, s, v = torch.linalg.svd(torch.tensor(weight).flatten(1), full_matrices=False)
    theirs = (u[:, :rank] * s[:rank]) @ v[:rank]
    ours = low_rank.product(left, right)
    np.testing.assert_allclose(ours.reshape(shape[0], -1), theirs.numpy(), rtol=1e-10, atol=1e-12)
    # Eckart and Young: what is lost is what the other singular values hold.
    np.testing.assert_allclose(((ours - weight) ** 2).sum(), (s[rank:] ** 2).sum(), rtol=1e-10, atol=1e-20)
    np.testing.assert_allclose(jnp.linalg.norm(left), jnp.linalg.norm(right), rtol=1e-10)


def test_a_full_rank_is_the_weight_itself():
    weight = np.random.default_rng(0).normal(size=(4, 7))
    np.testing.assert_allclose(low_rank.product(*low_rank.factors(jnp.asarray(weight), 4)), weight, rtol=1e-10)


def test_a_factored_linear_layer_is_two_of_torchs():
    layer = Linear(7, 5, rngs=nnx.Rngs(0))
    ours = low_rank.LowRank(layer, 3)
    theirs = torch.nn.Sequential(torch.nn.Linear(7, 3, bias=False), torch.nn.Linear(3, 5)).double()
    values = {"0.weight": ours.right_weight, "1.weight": ours.left_weight, "1.bias": ours.bias}
    theirs.load_state_dict({name: torch.tensor(np.asarray(value[...])) for name, value in values.items()})
    x = np.random.default_rng(0).normal(size=(4, 7))
    np.testing.assert_allclose(ours(x), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_a_factored_convolution_is_two_of_torchs(bias):
    layer = Conv2d(3, 6, 3, stride=2, padding=1, bias=bias, rngs=nnx.Rngs(0))
    ours = low_rank.LowRank(layer, 4)
    theirs = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=False), torch.nn.Conv2d(4, 6, 1, bias=bias)
    ).double()
    kernel = np.asarray(ours.right_weight[...]).transpose(3, 2, 0, 1)
    values = {"0.weight": kernel, "1.weight": np.asarray(ours.left_weight[...])[:, :, None, None]}
    if bias:
        values["1.bias"] = np.asarray(ours.bias[...])
    theirs.load_state_dict({name: torch.tensor(value) for name, value in values.items()})
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    expected = theirs(torch.tensor(x.transpose(0, 3, 1, 2))).detach().numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(jax.jit(lambda x: ours(x))(x), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "ranks", "shape"),
    [
        (lambda: Net((4, 4, 3), 5, hidden=8, rngs=nnx.Rngs(0)), {"fc1": 3}, (4, 4, 3)),
        (
            lambda: CNN((8, 12, 3), 4, channels=(4, 6), hidden=7, rngs=nnx.Rngs(0)),
            {"conv2": 2, "fc1": 4, "fc2": 3},
            (8, 12, 3),
        ),
    ],
)
def test_merged_weights_are_the_factored_models_function(make, ranks, shape):
    plain, model = make(), make()
    low_rank.factorize(model, ranks)
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    x = np.random.default_rng(0).normal(size=(3, *shape))
    factored = forward(model, x)
    nnx.update(plain, jax.jit(lambda params: low_rank.merge(model, plain, params))(params))
    np.testing.assert_allclose(forward(plain, x), factored, rtol=1e-10, atol=1e-12)
    assert set(weights.layouts(plain)) == set(weights.layouts(make()))


def test_the_rank_of_a_share_has_at_most_so_many_numbers():
    assert low_rank.rank_for((128, 784), 0.5) == 55  # 55 * 912 = 50160 of 100352
    assert low_rank.rank_for((64, 32, 3, 3), 0.25) == 13  # 13 * 352 = 4576 of 18432
    assert low_rank.rank_for((10, 128), 0.01) == 1


def test_what_cannot_be_factored_is_an_error():
    with pytest.raises(ValueError, match=r"the rank of a weight \(4, 7\) lies between 1 and 4; got 5"):
        low_rank.factors(jnp.ones((4, 7)), 5)
    with pytest.raises(TypeError, match="expected a Linear, or a Conv2d without groups; got BatchNorm"):
        low_rank.LowRank(BatchNorm(3), 1)
    with pytest.raises(TypeError, match="expected a Linear, or a Conv2d without groups; got Conv2d"):
        low_rank.LowRank(Conv2d(4, 4, 3, groups=2, rngs=nnx.Rngs(0)), 1)
    with pytest.raises(ValueError, match="the model has no layer fc9"):
        low_rank.factorize(Net((4, 4, 1), 5, rngs=nnx.Rngs(0)), {"fc9": 2})
