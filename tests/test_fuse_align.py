import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl import tree
from jaxdl.engine import weights as files
from jaxdl.methods.fuse import align
from jaxdl.models import CNN, Net

IMAGES = np.random.default_rng(0).random((5, 8, 8, 1)).astype(np.float32)
NET = nnx.view(Net((8, 8, 1), 3, hidden=12, depth=2, rngs=nnx.Rngs(0)), deterministic=True)
CNN_ = nnx.view(CNN((8, 8, 1), 3, channels=(3, 5), hidden=7, rngs=nnx.Rngs(0)), deterministic=True)
CHAIN = {"net": ["fc1", "fc2", "fc3"], "cnn": ["conv1", "conv2", "fc1", "fc2"]}
MODELS = {"net": NET, "cnn": CNN_}


def state_dict(model):
    values = tree.flatten(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    return files.to_torch(model, {name: np.asarray(value) for name, value in values.items()})


def outputs(model, values):
    graph, params = nnx.split(model)
    own = files.from_torch(model, values)
    params = tree.map_named(lambda name, _: own[name], nnx.to_pure_dict(params))
    return nnx.merge(graph, params)(IMAGES, None)


def shuffled(values, chain, seed):
    rng = np.random.default_rng(seed)
    return align.permuted(
        values, chain, {one: rng.permutation(len(values[f"{one}.weight"])) for one in chain[:-1]}
    )


@pytest.mark.parametrize("name", MODELS)
def test_other_orders_are_the_same_function(name):
    values = state_dict(MODELS[name])
    other = shuffled(values, CHAIN[name], 1)
    assert not np.array_equal(other[f"{CHAIN[name][1]}.weight"], values[f"{CHAIN[name][1]}.weight"])
    np.testing.assert_allclose(outputs(MODELS[name], other), outputs(MODELS[name], values), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), noise=st.floats(0, 0.02))
def test_shuffled_units_are_found_again(name, seed, noise):
    values, rng = state_dict(MODELS[name]), np.random.default_rng(seed)
    other = shuffled(values, CHAIN[name], seed)
    noisy = {key: value + noise * rng.normal(size=value.shape).astype(np.float32) for key, value in other.items()}
    back = align.permuted(noisy, CHAIN[name], align.match(values, noisy, CHAIN[name], seed))
    assert align.distance(values, back) <= 1.01 * align.distance(other, noisy)


def test_the_order_is_the_best_of_all():
    """Two hidden units and every order tried by hand: the inner product of the weights decides."""
    first = {"fc1.weight": np.array([[1.0, 0.0], [0.0, 1.0]]), "fc1.bias": np.array([0.0, 1.0])}
    first["fc2.weight"], first["fc2.bias"] = np.array([[2.0, -1.0]]), np.zeros(1)
    second = {"fc1.weight": np.array([[0.2, 1.0], [0.9, 0.1]]), "fc1.bias": np.array([0.5, 0.0])}
    second["fc2.weight"], second["fc2.bias"] = np.array([[-1.0, 1.5]]), np.zeros(1)
    # As they are: 0.2 + 0.1 + 0 + (-2 - 1.5) = -3.2; exchanged: 0.9 + 1.0 + 0.5 + (3 + 1) = 6.4.
    assert align.match(first, second, ["fc1", "fc2"])["fc1"].tolist() == [1, 0]
    assert align.match(first, first, ["fc1", "fc2"])["fc1"].tolist() == [0, 1]


def test_matching_never_takes_weights_apart():
    one, two = (state_dict(Net((8, 8, 1), 3, hidden=12, rngs=nnx.Rngs(seed))) for seed in (1, 2))
    found = align.permuted(two, ["fc1", "fc2"], align.match(one, two, ["fc1", "fc2"]))
    assert align.distance(one, found) < align.distance(one, two)


def test_many_are_brought_together():
    values = state_dict(NET)
    members = [values, *(shuffled(values, CHAIN["net"], seed) for seed in (1, 2, 3))]
    for member in align.merge(members, CHAIN["net"])[1:]:
        np.testing.assert_allclose(outputs(NET, member), outputs(NET, values), rtol=1e-4, atol=1e-5)
    merged = align.merge(members, CHAIN["net"])
    assert max(align.distance(merged[0], one) for one in merged) < 1e-4
    two = align.merge(members[:2], CHAIN["net"])
    np.testing.assert_array_equal(two[0]["fc1.weight"], values["fc1.weight"])
