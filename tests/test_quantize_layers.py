"""Single layers in int8: exact in integers, near the layer they were made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

from jaxdl.methods.quantize import affine, layers
from jaxdl.methods.quantize.layers import Scheme
from jaxdl.nn.conv import Conv2d
from jaxdl.nn.linear import Linear

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("stride", "padding", "dilation"), [(1, 0, 1), (2, 1, 1), ((1, 2), (2, 0), 1), (1, "same", 2)]
)
def test_convolutions_of_integers_are_exact(stride, padding, dilation):
    conv = Conv2d(3, 5, (3, 2), stride, padding, dilation, rngs=nnx.Rngs(0))
    ours = layers.QuantizedConv2d(conv, Scheme(), (np.float32(-1), np.float32(3)))
    x = jnp.asarray(RNG.integers(-128, 128, (2, 9, 8, 3)), jnp.int8)
    zero_point = ours.input_zero_point[...].astype(jnp.int32)
    expected = lax.conv_general_dilated(
        x.astype(jnp.int32) - zero_point,
        ours.weight[...].astype(jnp.int32),
        ours.strides,
        ours.pads,
        rhs_dilation=ours.dilations,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    np.testing.assert_array_equal(jax.jit(ours.integers)(x, zero_point), expected)


def test_a_layer_is_near_the_one_it_was_made_of():
    linear = Linear(50, 8, rngs=nnx.Rngs(0))
    x = jnp.asarray(RNG.uniform(-1, 2, (30, 50)), jnp.float32)
    ours = layers.QuantizedLinear(linear, Scheme(), (x.min(), x.max()))
    # Half a step of each of 50 products, on either side, at worst.
    step = 3 / 255 * np.abs(np.asarray(linear.weight[...])).sum(1).max() / 2
    step += 2 * 50 * float(ours.weight_scale[...].max()) / 2
    assert np.abs(np.asarray(ours(x) - linear(x))).max() < step


def test_weight_codes_of_a_channel_of_zeros_are_zeros():
    weight = np.asarray([[0, 0], [1, -2]], np.float32)
    found, scale = layers.weight_codes(weight, 0)
    np.testing.assert_array_equal(found, [[0, 0], [64, -127]])
    np.testing.assert_array_equal(scale, [affine.EPS, np.float32(2) / np.float32(127.5)])
