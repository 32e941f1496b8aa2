import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxdl.methods.fuse import soup


def weights(*values):
    return {"fc": {"weight": jnp.asarray(values, jnp.float32)}, "count": jnp.asarray(3, jnp.int32)}


def test_the_mean_is_that_of_every_weight():
    found = soup.mean([weights(1, 2), weights(3, 4), weights(8, 0)])
    np.testing.assert_allclose(found["fc"]["weight"], [4, 2])
    assert found["count"] == 3
    with pytest.raises(ValueError, match="no members"):
        soup.mean([])


def test_a_greedy_soup_takes_what_does_not_harm():
    """Worked by hand: the score is the distance of the mean to 10."""
    members = [weights(20), weights(9), weights(12), weights(-50)]
    found, chosen = soup.greedy(members, lambda one: -abs(float(one["fc"]["weight"][0]) - 10))
    # 9 is nearest. With 12: 10.5, nearer. With 20: 13.67, no. With -50: no.
    assert chosen == [1, 2]
    np.testing.assert_allclose(found["fc"]["weight"], [10.5])


def test_the_way_between_is_torchs_lerp():
    first, second = weights(1, 2), weights(5, -2)
    for part in (0.0, 0.25, 1.0):
        expected = torch.lerp(torch.tensor([1.0, 2.0]), torch.tensor([5.0, -2.0]), part)
        np.testing.assert_allclose(soup.between(first, second, part)["fc"]["weight"], expected)


def test_a_barrier_is_the_height_above_the_straight_line():
    assert soup.barrier([1.0, 2.0, 3.0]) == 0
    assert soup.barrier([1.0, 5.0, 2.0]) == 3.5
    assert soup.barrier([1.0, 0.5, 1.0]) == 0
