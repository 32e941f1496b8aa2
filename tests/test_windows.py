import math

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdl.nn.windows import check_fits, pads_of, pair, windows


def test_a_number_is_meant_for_both_axes():
    assert pair("stride", 2, 1) == (2, 2)
    assert pair("stride", (2, 1), 1) == (2, 1)


@pytest.mark.parametrize("value", [0, (1, 2, 3), (1, 0), 1.5])
def test_refuses_what_is_no_pair(value):
    with pytest.raises(ValueError, match="expected stride to be one or two integers of at least 1, got"):
        pair("stride", value, 1)


@pytest.mark.parametrize(
    ("padding", "kernel", "dilations", "expected"),
    [
        (1, (3, 3), (1, 1), ((1, 1), (1, 1))),
        ((2, 0), (5, 1), (1, 1), ((2, 2), (0, 0))),
        ("valid", (3, 3), (1, 1), ((0, 0), (0, 0))),
        ("same", (4, 3), (1, 2), ((1, 2), (2, 2))),  # an even kernel: the odd one goes behind, as in torch
    ],
)
def test_pads_before_and_behind(padding, kernel, dilations, expected):
    assert pads_of(padding, kernel, (1, 1), dilations) == expected


def test_same_needs_stride_1():
    with pytest.raises(ValueError, match=r"padding 'same' needs stride 1, got \(2, 1\)"):
        pads_of("same", (3, 3), (2, 1), (1, 1))


def test_a_kernel_has_to_fit():
    x = jnp.ones((1, 3, 5, 1))
    check_fits(x, (2, 3), ((0, 0), (0, 0)), (2, 2))
    with pytest.raises(ValueError, match=r"extent \(5, 5\) does not fit into the padded input \(3, 5\)"):
        check_fits(x, (3, 3), ((0, 0), (0, 0)), (2, 2))
    with pytest.raises(ValueError, match=r"shape \(B, H, W, C\), got \(3, 5\)"):
        check_fits(x[0, ..., 0], (1, 1), ((0, 0), (0, 0)))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"size": 2, "stride": 1, "pad": (0, 0)}, [[0, 1, 2, 3], [1, 2, 3, 4]]),
        ({"size": 2, "stride": 2, "pad": (0, 0)}, [[0, 2], [1, 3]]),  # blocks; the last is left out
        ({"size": 2, "stride": 2, "pad": (1, 0), "fill": -math.inf}, [[-math.inf, 1, 3], [0, 2, 4]]),
        ({"size": 2, "stride": 1, "pad": (0, 0), "dilation": 3}, [[0, 1], [3, 4]]),
        ({"size": 2, "stride": 3, "pad": (0, 2)}, [[0, 3], [1, 4]]),
        ({"size": 1, "stride": 1, "pad": (-1, -2)}, [[1, 2]]),  # a negative padding cuts off
    ],
)
def test_what_stands_at_each_place_of_a_window(options, expected):
    x = jnp.arange(5.0).reshape(1, 5, 1, 1)
    found = windows(x, 1, **options)
    np.testing.assert_array_equal([place[0, :, 0, 0] for place in found], expected)
