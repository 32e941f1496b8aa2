"""torch's initial distributions: bounds, moments, and that they are torch's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import stats

from jaxdl.nn.init import kaiming_normal, torch_uniform, trunc_normal, xavier_uniform


@pytest.mark.parametrize("fan_in", [1, 25, 784])
def test_fills_the_interval_of_one_over_the_root_of_fan_in(fan_in):
    values, bound = np.asarray(torch_uniform(jax.random.key(0), (100, 100), fan_in)), fan_in**-0.5
    assert -bound <= values.min() < -0.999 * bound
    assert 0.999 * bound < values.max() <= bound


@pytest.mark.parametrize("seed", range(3))
def test_has_the_moments_of_a_uniform_distribution(seed):
    unit = np.asarray(torch_uniform(jax.random.key(seed), (200, 300), 49)) * 7.0
    # Five standard errors of the mean of 60,000 draws of x, x**2 and x**3 on (-1, 1).
    for power, expected, variance in [(1, 0, 1 / 3), (2, 1 / 3, 1 / 5 - 1 / 9), (3, 0, 1 / 7)]:
        assert np.mean(unit**power) == pytest.approx(expected, abs=5 * (variance / unit.size) ** 0.5)


def test_is_distributed_as_torchs_linear_and_convolution():
    torch.manual_seed(0)
    layers = torch.nn.Linear(72, 500), torch.nn.Conv2d(8, 500, 3)
    for seed, layer in enumerate(layers):
        weight, bias = (value.numpy() for value in layer.state_dict().values())
        theirs = weight.ravel()
        ours = np.asarray(torch_uniform(jax.random.key(seed), theirs.shape, 72))
        _, p_value = np.asarray(stats.ks_2samp(ours, theirs))
        assert p_value > 1e-3
        assert np.abs(bias).max() <= 72**-0.5


def test_depends_on_the_key_alone():
    draw = [np.asarray(torch_uniform(jax.random.key(seed), (5, 4), 9)) for seed in (0, 0, 1)]
    assert (draw[0] == draw[1]).all()
    assert (draw[0] != draw[2]).all()


def test_is_float32_of_the_shape_asked_for():
    values = torch_uniform(jax.random.key(0), (2, 3, 4), 5)
    assert values.dtype == jnp.float32
    assert values.shape == (2, 3, 4)


OTHERS = {
    "kaiming_normal": (
        lambda key: kaiming_normal(key, (50, 400), 72),
        lambda: torch.nn.init.kaiming_normal_(torch.empty(400, 72), nonlinearity="relu"),
    ),
    "xavier_uniform": (
        lambda key: xavier_uniform(key, (50, 400)),
        lambda: torch.nn.init.xavier_uniform_(torch.empty(400, 50)),
    ),
    "trunc_normal, narrow": (
        lambda key: trunc_normal(key, (50, 400), 0.1),
        lambda: torch.nn.init.trunc_normal_(torch.empty(400, 50), std=0.1),
    ),
    "trunc_normal, cut": (
        lambda key: trunc_normal(key, (50, 400), 1.5),
        lambda: torch.nn.init.trunc_normal_(torch.empty(400, 50), std=1.5),
    ),
}


@pytest.mark.parametrize(("ours", "theirs"), OTHERS.values(), ids=OTHERS)
def test_the_others_are_distributed_as_torchs(ours, theirs):
    torch.manual_seed(0)
    found, expected = np.asarray(ours(jax.random.key(0))).ravel(), theirs().numpy().ravel()
    assert found.dtype == np.float32
    _, p_value = np.asarray(stats.ks_2samp(found, expected))
    assert p_value > 1e-3
    assert np.abs(found).max() == pytest.approx(np.abs(expected).max(), rel=0.2)
