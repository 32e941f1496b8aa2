"""Linear against torch: values, gradients, names, initial distribution."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from jaxdl.nn.layout import LINEAR, flattened
from jaxdl.nn.linear import Linear


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def twins(features: int, out: int) -> tuple[Linear, torch.nn.Linear]:
    """Our layer with the weights of torch's, in float64."""
    theirs = torch.nn.Linear(features, out).double()
    weight, bias = (value.numpy() for value in theirs.state_dict().values())
    ours = Linear(features, out, rngs=nnx.Rngs(0))
    nnx.update(ours, {"weight": LINEAR.from_torch(weight, (out, features)), "bias": bias})
    return ours, theirs


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5), (0, 5)])
def test_value_and_gradients_are_torchs(shape):
    ours, theirs = twins(5, 3)
    graphdef, params = nnx.split(ours)
    x, cotangent = normal(*shape), normal(*shape[:-1], 3, seed=1)
    value, pullback = jax.vjp(lambda p, x: nnx.merge(graphdef, p)(x), nnx.to_pure_dict(params), jnp.asarray(x))
    grads, grad_x = pullback(jnp.asarray(cotangent))
    leaf = torch.tensor(x, requires_grad=True)
    expected = theirs(leaf)
    expected.backward(torch.tensor(cotangent))
    pairs = [
        (value, expected.detach()),
        (grad_x, leaf.grad),
        (grads["weight"], theirs.weight.grad),
        (grads["bias"], theirs.bias.grad),
    ]
    for our, their in pairs:
        np.testing.assert_allclose(our, np.asarray(their), rtol=1e-12, atol=1e-12)


def test_the_gradient_of_words_copies_nothing_into_another_order():
    linear = Linear(8, 16, rngs=nnx.Rngs(0))
    graphdef, params = nnx.split(linear)

    def loss(params, x):
        return jnp.sum(jnp.sin(nnx.merge(graphdef, params)(x)))

    text = jax.jit(jax.grad(loss)).lower(params, jnp.ones((4, 3, 8))).compile().as_text() or ""
    assert "f32[12,8]" in text
    assert not re.search(r"= \S+ transpose\(", text)


@pytest.mark.usefixtures("x64")
def test_behind_a_flattened_image_it_is_torchs_behind_its_own_flatten():
    height, width, channels, out = 3, 2, 4, 5
    theirs = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(height * width * channels, out)).double()
    weight, bias = (value.numpy() for value in theirs.state_dict().values())
    layout = flattened(height, width, channels, out)
    ours = Linear(height * width * channels, out, layout=layout, rngs=nnx.Rngs(0))
    nnx.update(ours, {"weight": ours.weight.layout.from_torch(weight, ours.weight.shape), "bias": bias})
    x = normal(6, height, width, channels)
    expected = theirs(torch.tensor(x).permute(0, 3, 1, 2)).detach().numpy()
    np.testing.assert_allclose(ours(jnp.asarray(x.reshape(6, -1))), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_jit_vmap_and_scan_agree_with_one_at_a_time():
    layer, _ = twins(5, 3)
    x = jnp.asarray(normal(4, 2, 5))
    expected = np.stack([layer(each) for each in x])
    _, scanned = jax.lax.scan(lambda carry, each: (carry, layer(each)), None, x)
    for found in (jax.jit(layer.__call__)(x), jax.vmap(layer.__call__)(x), scanned):
        np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)


def test_shapes_and_names_are_torchs():
    ours, theirs = Linear(5, 3, rngs=nnx.Rngs(0)), torch.nn.Linear(5, 3)
    assert set(nnx.to_pure_dict(nnx.state(ours))) == set(theirs.state_dict())
    assert ours.weight.layout.to_torch(np.asarray(ours.weight[...])).shape == theirs.weight.shape


def test_draws_weight_and_bias_within_torchs_bound():
    layer = Linear(400, 500, rngs=nnx.Rngs(0))
    for drawn in (layer.weight[...], layer.bias[...]):
        assert drawn.dtype == jnp.float32
        assert 0.04 < jnp.abs(drawn).max() <= 0.05  # 1 / sqrt(400)
    assert jnp.std(layer.weight[...]) == pytest.approx(0.05 / 3**0.5, rel=0.01)


def test_weight_and_bias_are_drawn_apart():
    layer = Linear(1, 50, rngs=nnx.Rngs(0))
    assert (layer.weight[0] != layer.bias[...]).all()


@pytest.mark.parametrize("shape", [(2, 4), (6,), ()])
def test_another_number_of_features_is_refused(shape):
    with pytest.raises(ValueError, match="expected 5 features in the last axis, got shape"):
        Linear(5, 3, rngs=nnx.Rngs(0))(jnp.zeros(shape))
