"""Orders of axes between a port's activations and torch's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parity.align import align, closest, orders


def test_channels_come_second_and_the_likeliest_order_first():
    assert list(orders((2, 5, 6, 3), (2, 3, 5, 6))) == [(0, 3, 1, 2)]
    assert list(orders((2, 4, 4, 4), (2, 4, 4, 4))) == [(0, 1, 2, 3), (0, 3, 1, 2), (0, 2, 3, 1)]
    assert list(orders((4, 2, 3), (2, 4, 3))) == [(1, 0, 2)]
    assert list(orders((3,), (3,))) == [(0,)]
    assert list(orders((), ())) == [()]


@pytest.mark.parametrize(("shape", "wanted"), [((2, 3), (2, 4)), ((2, 3), (2, 3, 1)), ((2, 3, 4), (4, 3, 2))])
def test_nothing_fits(shape, wanted):
    assert align(np.zeros(shape), wanted) is None
    assert closest(np.zeros(shape), np.zeros(wanted)) is None


@settings(max_examples=20)
@given(st.integers(0, 99), st.sampled_from([(0, 1, 2, 3), (0, 3, 1, 2), (0, 2, 3, 1), (1, 0, 2, 3)]))
def test_the_closest_order_is_found_where_all_axes_are_alike(seed, order):
    theirs = np.random.default_rng(seed).normal(size=(3, 3, 3, 3))
    mine = theirs.transpose(np.argsort(order))
    np.testing.assert_array_equal(closest(mine, theirs), theirs)
