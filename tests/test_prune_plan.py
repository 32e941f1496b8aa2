"""What a plan chooses, and that what is gone stays gone."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch.nn.utils import prune

from jaxdl.methods.prune.plan import Plan

PARAMS = {
    "conv1.weight": (4, 1, 3, 3),
    "conv1.bias": (4,),
    "conv2.weight": (6, 4, 3, 3),
    "conv2.bias": (6,),
    "fc1.weight": (8, 24),
    "fc1.bias": (8,),
    "fc2.weight": (5, 8),
    "fc2.bias": (5,),
}


def values(seed=0):
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(rng.normal(size=shape), jnp.float32) for name, shape in PARAMS.items()}


def test_the_weights_that_can_be_pruned():
    params = values()
    weights = [name for name in PARAMS if name.endswith("weight")]
    assert Plan().names("cnn", params) == weights
    assert Plan(pattern="conv.*").names("cnn", params) == weights[:2]
    assert Plan("units").names("cnn", params) == weights[:3]  # the last layer's units are the classes
    assert Plan("2:4").names("cnn", params) == weights[1:]  # conv1 has one input channel


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_masks_of_all_places_are_torchs(scope):
    params, amounts = values(), (0.0, 0.35, 0.9)
    find = Plan(scope=scope).find("cnn", params, amounts)
    for place, amount in enumerate(amounts):
        modules = {name: torch.nn.Module() for name in Plan().names("cnn", params)}
        for name, module in modules.items():
            module.w = torch.nn.Parameter(torch.tensor(np.asarray(params[name])))
            if scope == "layer":
                prune.l1_unstructured(module, "w", amount)
        if scope == "global":
            prune.global_unstructured([(m, "w") for m in modules.values()], prune.L1Unstructured, amount=amount)
        found = find(params, jnp.int32(place))
        for name, module in modules.items():
            np.testing.assert_array_equal(found[name], module.w_mask.bool().numpy())


def test_units_go_with_their_biases_and_as_torchs():
    params = values()
    found = Plan("units").find("cnn", params, (0.5,))(params, jnp.int32(0))
    assert set(found) == {f"{layer}.{part}" for layer in ("conv1", "conv2", "fc1") for part in ("weight", "bias")}
    for layer in ("conv1", "conv2", "fc1"):
        module = torch.nn.Module()
        module.w = torch.nn.Parameter(torch.tensor(np.asarray(params[f"{layer}.weight"])))
        prune.ln_structured(module, "w", 0.5, n=2, dim=0)
        np.testing.assert_array_equal(found[f"{layer}.weight"], module.w_mask.bool().numpy())
        np.testing.assert_array_equal(found[f"{layer}.bias"], module.w_mask.bool().flatten(1).any(1).numpy())


@pytest.mark.parametrize("structure", ["weights", "units"])
def test_what_is_drawn_is_drawn_once(structure):
    params, amounts = values(), (0.2, 0.5, 0.8)
    find = Plan(structure, criterion="random", seed=3).find("cnn", params, amounts)
    places = [find(values(seed), jnp.int32(place)) for seed, place in ((0, 0), (1, 1), (2, 2))]
    for earlier, later in itertools.pairwise(places):
        for name in earlier:
            assert not (np.asarray(later[name]) & ~np.asarray(earlier[name])).any()
    other = Plan(structure, criterion="random", seed=4).find("cnn", params, amounts)(params, jnp.int32(1))
    assert any((np.asarray(other[name]) != np.asarray(places[1][name])).any() for name in other)


def test_sizes_that_are_left():
    assert Plan("units").sizes("cnn", values(), 0.5) == {"conv1": 2, "conv2": 3, "fc1": 4}
    assert Plan("units", pattern="fc1.*").sizes("cnn", values(), 0.75) == {"conv1": 4, "conv2": 6, "fc1": 2}
    with pytest.raises(ValueError, match=r"an amount of 0.9 leaves no unit of conv1"):
        Plan("units").sizes("cnn", values(), 0.9)


def test_what_cannot_be_pruned_so_is_an_error():
    with pytest.raises(ValueError, match=r"no weight to prune matches 'fc9.*'; there are conv1.weight"):
        Plan(pattern="fc9.*").names("cnn", values())
    with pytest.raises(ValueError, match=r"2:4 needs an axis that 4 divides .* got axis 1 of \(4, 1, 3, 3\)"):
        Plan("2:4", pattern="conv1.*").find("cnn", values(), (0.5,))
