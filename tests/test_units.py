"""The smaller model computes what the larger one computes with its other units at zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxdl import tree
from jaxdl.engine import weights
from jaxdl.methods.prune import masks, units
from jaxdl.models import CNN, Net

KEY = jax.random.key(0)


def nets(**sizes):
    return Net((4, 4, 3), 5, rngs=nnx.Rngs(0), **sizes)


def cnns(**sizes):
    return CNN((8, 12, 3), 4, rngs=nnx.Rngs(0), **sizes)


CASES = [
    ("net", nets, {"hidden": 8}, {"hidden": 3}),
    (
        "net",
        nets,
        {"hidden": 8, "depth": 3, "activation": "tanh"},
        {"hidden": 5, "depth": 3, "activation": "tanh"},
    ),
    ("cnn", cnns, {"channels": (4, 6), "hidden": 7}, {"channels": (2, 5), "hidden": 3}),
]


def params_of(model):
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


def whole_numbers(model):
    """The model with small whole numbers as parameters: sums of them are exact in whatever order."""
    rng = np.random.default_rng(1)
    changed = jax.tree.map(
        lambda leaf: jnp.asarray(rng.integers(-3, 4, leaf.shape), jnp.float32), params_of(model)
    )
    nnx.update(model, changed)
    return model


def logits(model, params, x):
    nnx.update(model, params)
    return np.asarray(jax.jit(lambda x: nnx.view(model, deterministic=True)(x))(x))


@pytest.mark.parametrize(("name", "make", "sizes", "left"), CASES)
def test_removal_leaves_the_function_of_the_masked_model(name, make, sizes, left):
    whole, small = whole_numbers(make(**sizes)), make(**left)
    params = params_of(whole)
    counts = {layer: params_of(small)[layer]["bias"].size for layer in list(params)[:-1]}
    flat = weights.to_torch(whole, tree.flatten(params))
    keep = units.strongest(flat, counts)
    masked = units.masks(
        flat, {layer: jnp.zeros(len(flat[f"{layer}.bias"]), bool).at[k].set(True) for layer, k in keep.items()}
    )
    zeroed = masks.apply(params, weights.from_torch(whole, masked))
    removed, _ = jax.jit(units.removal(name, whole, small))((zeroed, {}))
    x = (
        np.random.default_rng(0)
        .integers(-2, 3, (3, *((4, 4, 3) if name == "net" else (8, 12, 3))))
        .astype(np.float32)
    )
    ours, theirs = logits(small, removed, x), logits(whole, zeroed, x)
    if sizes.get("activation", "relu") == "relu":
        np.testing.assert_array_equal(ours, theirs)
    else:
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    assert np.abs(theirs).max() > 0


def test_layers_are_read_in_the_order_of_the_forward_pass():
    deep = sorted(f"fc{number}.{part}" for number in range(1, 12) for part in ("weight", "bias"))
    assert list(units.readers("net", deep)) == [f"fc{number}" for number in range(1, 11)]
    names = [f"{layer}.{part}" for layer in ("fc2", "fc1", "conv2", "conv1") for part in ("bias", "weight")]
    assert units.readers("cnn", names) == {
        "conv1": "conv2",
        "conv2": "fc1",
        "fc1": "fc2",
    }


def test_options_say_the_sizes():
    assert units.options({"fc1": 51}) == {"hidden": 51, "channels": None}
    assert units.options({"conv1": 3, "conv2": 5, "fc1": 7}) == {"hidden": 7, "channels": (3, 5)}
    with pytest.raises(ValueError, match=r"all hidden layers have the same width; got \{'fc1': 3, 'fc2': 4\}"):
        units.options({"fc1": 3, "fc2": 4})


def test_what_has_no_units_to_lose_is_an_error():
    with pytest.raises(ValueError, match="whole units can be pruned of net and cnn; got vit"):
        units.readers("vit", [])
    params = weights.to_torch(nets(), tree.flatten(params_of(nets())))
    with pytest.raises(ValueError, match="net can lose units of fc1; got fc2"):
        units.shrink("net", params, {"fc2": jnp.arange(2)})
