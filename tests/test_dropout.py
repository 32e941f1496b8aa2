"""Dropout: how much it drops, what it leaves, when it does nothing, and that it keeps no state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxdl.nn.dropout import Dropout


def rngs(seed: int = 0) -> nnx.Rngs:
    return nnx.Rngs(dropout=seed)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_drops_at_its_rate_and_scales_the_rest(rate):
    x = jnp.full((200, 300), 3.0)
    y = np.asarray(Dropout(rate)(x, rngs()))
    dropped = y == 0
    np.testing.assert_allclose(y[~dropped], 3 / (1 - rate), rtol=1e-6)
    # Five standard errors of 60,000 draws.
    assert dropped.mean() == pytest.approx(rate, abs=5 * (rate * (1 - rate) / x.size) ** 0.5)


@pytest.mark.usefixtures("x64")
def test_is_torchs_dropout_for_the_same_mask():
    x = np.random.default_rng(0).normal(size=(50, 4))
    torch.manual_seed(0)
    theirs = torch.nn.functional.dropout(torch.tensor(x), 0.3).numpy()
    ours = np.asarray(Dropout(0.3)(jnp.asarray(x), rngs()))
    both = (ours != 0) & (theirs != 0)
    assert both.sum() > 50
    np.testing.assert_allclose(ours[both], theirs[both], rtol=1e-15)


def test_elements_and_calls_are_independent():
    x, stream = jnp.ones((4, 5000)), rngs()
    rows = [*np.asarray(Dropout(0.5)(x, stream)), *np.asarray(Dropout(0.5)(x, stream))]
    correlation = np.corrcoef(np.stack(rows)) - np.eye(8)
    assert np.abs(correlation).max() < 5 / 5000**0.5


def test_the_same_randomness_gives_the_same_mask():
    x = jnp.ones((20, 20))
    first, again, other = (Dropout(0.5)(x, rngs(seed)) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_the_gradient_is_the_mask():
    x = jnp.linspace(1, 2, 100)
    y, pullback = jax.vjp(lambda x: Dropout(0.25)(x, rngs()), x)
    np.testing.assert_allclose(pullback(jnp.ones(100))[0], np.where(y != 0, 1 / 0.75, 0), rtol=1e-6)


@pytest.mark.parametrize("layer", [Dropout(0.0), Dropout(0.7, deterministic=True), Dropout(1, deterministic=True)])
def test_does_nothing_without_a_rate_or_when_deterministic(layer):
    x = jnp.arange(5.0)
    assert layer(x) is x


def test_rate_one_drops_all_and_leaves_a_finite_gradient():
    value, grad = jax.value_and_grad(lambda x: Dropout(1.0)(x, rngs()).sum())(jnp.arange(5.0))
    assert value == 0
    assert (grad == 0).all()


def test_a_view_is_deterministic_and_the_model_stays_as_it_was():
    model = nnx.Sequential(Dropout(0.5))
    evaluated = nnx.view(model, deterministic=True)
    x = jnp.ones(100)
    assert (evaluated(x) == x).all()
    with pytest.raises(ValueError, match="needs rngs"):
        model(x)
    with pytest.raises(ValueError, match="needs rngs"):
        nnx.view(evaluated, deterministic=False)(x)


def test_keeps_no_state():
    _, state = nnx.split(nnx.Sequential(Dropout(0.5), Dropout(0.1)))
    assert jax.tree.leaves(state) == []


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("rate", [0.4, 1.0])
def test_keeps_the_dtype(dtype, rate):
    assert Dropout(rate)(jnp.ones(4, dtype), rngs()).dtype == dtype


def test_jit_vmap_and_scan_draw_what_eager_calls_draw():
    layer, keys, x = Dropout(0.5), jax.random.split(jax.random.key(3), 4), jnp.ones(50)

    def one(key):
        return layer(x, nnx.Rngs(dropout=key))

    expected = np.stack([one(key) for key in keys])
    scanned = jax.lax.scan(lambda carry, key: (carry, one(key)), None, keys)[1]
    for found in (jax.jit(jax.vmap(one))(keys), scanned):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_a_rate_that_is_no_probability_is_refused(rate):
    with pytest.raises(ValueError, match=f"expected a dropout rate from 0 to 1, got {rate}"):
        Dropout(rate)


def test_training_without_randomness_is_refused():
    with pytest.raises(ValueError, match="pass them, or view the model with deterministic=True"):
        Dropout(0.5)(jnp.ones(3))
