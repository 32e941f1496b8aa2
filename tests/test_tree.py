import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl import tree

PARAMS = {"fc1": {"weight": jnp.full((2, 3), 2.0), "bias": jnp.zeros(3)}, "layers": {0: {"weight": jnp.ones(4)}}}


def test_names_are_dotted_paths_as_in_a_state_dict():
    assert list(tree.flatten(PARAMS)) == ["fc1.bias", "fc1.weight", "layers.0.weight"]


def test_map_named_keeps_the_structure_and_takes_more_trees():
    doubled = tree.map_named(lambda name, a, b: a + b if name.endswith("weight") else a, PARAMS, PARAMS)
    np.testing.assert_array_equal(doubled["fc1"]["weight"], np.full((2, 3), 4.0))
    np.testing.assert_array_equal(doubled["fc1"]["bias"], np.zeros(3))


def test_select_matches_the_whole_name():
    assert tree.flatten(tree.select(PARAMS, r"fc1\..*")) == {
        "fc1.bias": True,
        "fc1.weight": True,
        "layers.0.weight": False,
    }


def test_select_without_a_match_names_what_there_is():
    with pytest.raises(ValueError, match=r"no parameter matches 'fc2'; the names are fc1.bias, fc1.weight"):
        tree.select(PARAMS, "fc2")


def test_size_and_norm():
    assert tree.size(PARAMS) == 13
    np.testing.assert_allclose(tree.norm(PARAMS), np.sqrt(6 * 4 + 4), rtol=1e-6)


@pytest.mark.parametrize(("bad", "expected"), [(1.0, True), (jnp.nan, False), (jnp.inf, False)])
def test_all_finite(bad, expected):
    assert bool(tree.all_finite({"a": jnp.array([0.0, bad]), "b": jnp.array([1])})) is expected


def test_nothing_is_finite():
    assert bool(tree.all_finite({}))
