import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from flax import nnx

from jaxdl.data import transforms
from jaxdl.methods import quality
from jaxdl.models import Net

RNG = np.random.default_rng(0)


def test_the_distance_is_that_of_its_formula():
    first, second = RNG.normal(size=(50, 4)) @ RNG.normal(size=(4, 4)), 2 + RNG.normal(size=(40, 4))
    one, other = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root = scipy.linalg.sqrtm(one @ other)
    expected = np.square(first.mean(0) - second.mean(0)).sum() + np.trace(one + other - 2 * np.real(root))
    assert quality.frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)


def test_the_distance_of_one_feature_by_hand():
    first, second = np.asarray([[0.0], [2.0]]), np.asarray([[3.0], [9.0]])  # variances 2 and 18, means 1 and 6
    assert quality.frechet_distance(first, second) == pytest.approx(25 + 2 + 18 - 2 * 6)


def test_the_distance_to_itself_is_nothing():
    features = RNG.normal(size=(30, 5))
    features[:, 4] = features[:, 0]  # a covariance without an inverse
    assert quality.frechet_distance(features, features) == pytest.approx(0, abs=1e-6)


def test_sets_that_cannot_be_compared_are_an_error():
    with pytest.raises(ValueError, match=r"expected two or more rows each, of the same features; got \(1, 3\)"):
        quality.frechet_distance(np.zeros((1, 3)), np.zeros((4, 3)))


def test_confidence_and_balance():
    sure = np.asarray([[0.98, 0.02], [0.96, 0.04], [0.4, 0.6], [0.97, 0.03]])
    real = np.asarray([[1.0, 0.0], [0.0, 1.0]])
    features = RNG.normal(size=(4, 2))
    found = quality.measured((features, real), (features, sure), 0.95)
    assert found["confident"] == 0.75
    assert found["classes"] == [0.75, 0.25]
    assert found["imbalance"] == pytest.approx(0.25)


def test_looking_gives_the_layer_and_the_probabilities():
    net = nnx.view(Net((8, 8, 1), 3, hidden=6, rngs=nnx.Rngs(0)), deterministic=True)
    images = RNG.integers(0, 256, (quality.BATCH + 7, 8, 8, 1), np.uint8)
    look = quality.looking(net, lambda batch: transforms.to_float(jax.random.key(0), batch), "fc1")
    features, probabilities = look(images)
    floats = jnp.asarray(images, jnp.float32) / 255
    np.testing.assert_allclose(features, net.fc1(floats.reshape(len(images), -1)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(probabilities, jax.nn.softmax(net(floats)), rtol=1e-4)
    assert features.dtype == probabilities.dtype == np.float64
