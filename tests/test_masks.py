"""Masks against torch.nn.utils.prune and torch.ao.pruning, in float64, and the mistakes that are refused."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.ao.pruning.sparsifier.weight_norm_sparsifier import WeightNormSparsifier
from torch.nn.utils import prune

from jaxdl.methods.prune import masks

AMOUNTS = (0.0, 0.05, 0.125, 0.3, 0.375, 0.5, 0.9, 1.0, 0, 3, 7)  # 0.125 of 20 is 2.5, which torch rounds to 2


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def torch_mask(method: Callable, weight: np.ndarray, **arguments) -> np.ndarray:
    """The mask that a function of torch.nn.utils.prune makes."""
    module = torch.nn.Module()
    module.w = torch.nn.Parameter(torch.tensor(weight))
    method(module, "w", **arguments)
    return module.w_mask.bool().numpy()


@pytest.fixture(autouse=True)
def _float64(x64):
    del x64


@pytest.mark.parametrize("amount", AMOUNTS)
@pytest.mark.parametrize("shape", [(20,), (4, 5), (6, 3, 3, 3)])
def test_smallest_magnitudes(amount, shape):
    weight = normal(*shape)
    ours = masks.l1_unstructured(jnp.asarray(weight), amount)
    np.testing.assert_array_equal(ours, torch_mask(prune.l1_unstructured, weight, amount=amount))


@pytest.mark.parametrize("amount", [0.0, 0.25, 0.5, 1.0, 2])
@pytest.mark.parametrize("n", [1, 2, math.inf])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_units_with_the_smallest_norms(amount, n, axis):
    weight = normal(6, 5, 3, 3)
    ours = masks.ln_structured(jnp.asarray(weight), amount, n, axis)
    np.testing.assert_array_equal(ours, torch_mask(prune.ln_structured, weight, amount=amount, n=n, dim=axis))


@pytest.mark.parametrize("amount", [0.0, 0.05, 0.3, 0.77, 1.0, 11])
def test_several_layers_together(amount):
    weights = {"a": normal(4, 5), "b": 3 * normal(2, 2, 3, 3, seed=1), "c": normal(7, seed=2)}
    modules = {name: torch.nn.Module() for name in weights}
    for name, weight in weights.items():
        modules[name].w = torch.nn.Parameter(torch.tensor(weight))
    prune.global_unstructured([(module, "w") for module in modules.values()], prune.L1Unstructured, amount=amount)
    ours = masks.global_unstructured({name: jnp.asarray(weight) for name, weight in weights.items()}, amount)
    for name, mask in ours.items():
        np.testing.assert_array_equal(mask, modules[name].w_mask.bool().numpy())


@pytest.mark.parametrize("amount", [0.0, 0.3, 0.62, 5])
def test_random_weights_are_those_of_torchs_numbers(amount):
    """torch takes the largest of its random numbers; given those as scores, so do we."""
    weight = normal(5, 7)
    torch.manual_seed(0)
    theirs = torch_mask(prune.random_unstructured, weight, amount=amount)
    torch.manual_seed(0)
    scores = 1 - torch.rand_like(torch.tensor(weight)).numpy()
    np.testing.assert_array_equal(masks.l1_unstructured(jnp.asarray(scores), amount), theirs)


def test_random_pruning_takes_the_amount_and_depends_on_the_key():
    first, again, other = (
        masks.random_unstructured(jax.random.key(seed), jnp.ones((9, 9)), 0.4) for seed in (0, 0, 1)
    )
    assert int((~first).sum()) == round(0.4 * 81)
    assert (first == again).all()
    assert (first != other).any()
    units = masks.random_structured(jax.random.key(0), jnp.ones((10, 3)), 0.3)
    assert (units.all(1) | ~units.any(1)).all()
    assert int(units.any(1).sum()) == 7


@pytest.mark.parametrize(("first", "second"), [(0.5, 0.5), (3, 0.4), (0.35, 5), (0.2, 0.0)])
def test_a_second_pruning_counts_what_the_first_has_left(first, second):
    weight = normal(5, 7)
    module = torch.nn.Module()
    module.w = torch.nn.Parameter(torch.tensor(weight))
    prune.l1_unstructured(module, "w", amount=first)
    prune.l1_unstructured(module, "w", amount=second)
    mask = masks.l1_unstructured(jnp.asarray(weight), first)
    ours = masks.l1_unstructured(jnp.asarray(weight), second, mask)
    np.testing.assert_array_equal(ours, module.w_mask.bool().numpy())


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32), levels=st.integers(1, 4), amount=st.floats(0, 1))
def test_among_equals_torch_takes_others_and_as_many(seed, levels, amount):
    """Which of equal magnitudes go, torch leaves to its sort; above and below them the masks are the same."""
    weight = np.random.default_rng(seed).integers(-levels, levels + 1, (6, 30)).astype(np.float64)
    ours = np.asarray(masks.l1_unstructured(jnp.asarray(weight), amount))
    theirs = torch_mask(prune.l1_unstructured, weight, amount=amount)
    assert ours.sum() == theirs.sum()
    differ = ours != theirs
    assert len(set(np.abs(weight[differ]))) <= 1
    # Ours are the first of them, as a stable sort has them.
    order = np.argsort(np.abs(weight).ravel(), kind="stable")
    stable = np.ones(weight.size, bool)
    stable[order[: weight.size - ours.sum()]] = False
    np.testing.assert_array_equal(ours.ravel(), stable)


@pytest.mark.parametrize("shape", [(8, 12), (3, 4)])
def test_two_of_four(shape):
    module = torch.nn.Sequential(torch.nn.Linear(shape[1], shape[0], dtype=torch.float64))
    sparsifier = WeightNormSparsifier(sparsity_level=1.0, sparse_block_shape=(1, 4), zeros_per_block=2)
    sparsifier.prepare(module, [{"tensor_fqn": "0.weight"}])
    sparsifier.step()
    theirs = module[0].parametrizations.weight[0].mask.bool().numpy()
    weight = module[0].parametrizations.weight.original.detach().numpy()
    np.testing.assert_array_equal(masks.n_of_m(jnp.asarray(weight)), theirs)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), n=st.integers(1, 4), axis=st.integers(-3, 2))
def test_any_block_keeps_its_largest(seed, n, axis):
    weight = np.random.default_rng(seed).normal(size=(4, 8, 12))
    mask = np.asarray(masks.n_of_m(jnp.asarray(weight), n, 4, axis))
    blocks = np.moveaxis(mask, axis, -1).reshape(-1, 4)
    values = np.abs(np.moveaxis(weight, axis, -1).reshape(-1, 4))
    assert (blocks.sum(1) == n).all()
    assert (np.where(blocks, values, np.inf).min(1) > np.where(blocks, -np.inf, values).max(1)).all()


def test_applied_masks_give_zeros_and_leave_the_rest():
    params = {"fc": {"weight": jnp.arange(6.0).reshape(2, 3) - 9, "bias": jnp.ones(2)}}
    mask = jnp.array([[True, False, True], [False, True, True]])
    left = masks.apply(params, {"fc.weight": mask})
    assert left["fc"]["weight"].tolist() == [[-9, 0, -7], [0, -5, -4]]
    assert left["fc"]["bias"] is params["fc"]["bias"]


def test_masks_that_fit_nothing_are_named_all_at_once():
    params = {"fc": {"weight": jnp.ones((2, 3))}}
    wrong = {"fc.weight": jnp.ones((3, 2), bool), "fc9.weight": jnp.ones(2, bool)}
    with pytest.raises(
        ValueError, match=r"fc9.weight is no parameter; fc.weight has shape \(3, 2\), its parameter"
    ):
        masks.apply(params, wrong)


@pytest.mark.parametrize("amount", [-0.1, 1.5, -1, 21, math.nan])
def test_an_amount_that_is_none_is_an_error(amount):
    with pytest.raises(ValueError, match="an amount is a share between 0 and 1, or a number of up to 20; got"):
        masks.l1_unstructured(jnp.ones((4, 5)), amount)


def test_a_pattern_that_does_not_divide_is_an_error():
    with pytest.raises(ValueError, match=r"2:4 needs an axis that 4 divides .*got axis 1 of \(3, 6\)"):
        masks.n_of_m(jnp.ones((3, 6)))
    with pytest.raises(ValueError, match=r"two axes or more; got shape \(3,\)"):
        masks.ln_structured(jnp.ones(3), 0.5)
