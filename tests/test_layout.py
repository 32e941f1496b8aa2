"""Layouts against torch's axes worked by hand, and as bijections."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.nn.layout import CONV2D, LINEAR, Layout, flattened

sizes = st.integers(1, 4)


@st.composite
def layouts(draw) -> tuple[Layout, tuple[int, ...]]:
    """A layout and the shape of a parameter it fits."""
    height, width, channels, out = (draw(sizes) for _ in range(4))
    return draw(
        st.sampled_from(
            [
                (LINEAR, (out, channels)),
                (CONV2D, (height, width, channels, out)),
                (flattened(height, width, channels, out), (out, height * width * channels)),
            ]
        )
    )


@settings(max_examples=60)
@given(layouts())
def test_there_and_back_is_the_same_array(case):
    layout, shape = case
    array = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    there = layout.to_torch(array)
    back = layout.from_torch(there, shape)
    np.testing.assert_array_equal(back, array, strict=True)
    np.testing.assert_array_equal(layout.to_torch(back), there, strict=True)
    assert there.flags.c_contiguous
    assert back.flags.c_contiguous


def test_a_linear_weight_is_torchs():
    assert LINEAR.to_torch(np.array([[1, 2, 3], [4, 5, 6]])).tolist() == [[1, 2, 3], [4, 5, 6]]


def test_a_convolution_keeps_height_and_width_last():
    ours = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    theirs = CONV2D.to_torch(ours)
    assert theirs.shape == (5, 4, 2, 3)
    assert theirs[3, 2, 1, 0] == ours[1, 0, 2, 3]


def test_a_flattened_image_counts_channels_first_in_torch():
    # Two pixels of three channels: ours count pixel by pixel, torch's channel by channel.
    ours = np.array([[0, 1, 2, 10, 11, 12]])
    assert flattened(1, 2, 3, 1).to_torch(ours).tolist() == [[0, 10, 1, 11, 2, 12]]


def test_one_channel_flattened_is_a_plain_linear():
    ours = np.arange(3 * 4 * 5).reshape(5, 12)
    np.testing.assert_array_equal(flattened(3, 4, 1, 5).to_torch(ours), LINEAR.to_torch(ours))


@pytest.mark.parametrize(
    ("layout", "shape", "expected", "given"),
    [
        (LINEAR, (3, 2), (3, 2), (2, 3)),
        (LINEAR, (3, 2), (3, 2), (6,)),
        (CONV2D, (3, 3, 1, 8), (8, 1, 3, 3), (3, 3, 1, 8)),
        (flattened(2, 2, 3, 5), (5, 12), (5, 12), (12, 5)),
        (flattened(2, 2, 3, 5), (5, 12), (5, 12), (5, 3, 2, 2)),
    ],
)
def test_another_shape_than_torchs_is_refused(layout, shape, expected, given):
    with pytest.raises(ValueError, match="expected shape") as error:
        layout.from_torch(np.zeros(given), shape)
    assert str(error.value) == f"expected shape {expected}, got {given}"
