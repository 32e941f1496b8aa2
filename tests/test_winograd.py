import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from jaxdl.nn import winograd

SAME = ((1, 1), (1, 1))
around = st.tuples(st.integers(1, 3), st.integers(1, 3))


@pytest.mark.parametrize(
    ("image", "kernel", "channels", "expected"),
    [
        ((14, 14), (3, 3), 32, True),
        ((14, 14), (3, 3), 15, False),
        ((14, 14), (3, 2), 32, False),
        ((2, 2), (3, 3), 16, True),
        ((3, 3), (3, 3), 16, False),  # 64 multiplications instead of 81
        ((1, 1), (3, 3), 16, False),  # 16 instead of 9
    ],
)
def test_pays_where_tiles_are_filled(image, kernel, channels, expected):
    assert winograd.pays(image, kernel, channels) == expected


def test_one_tile_by_hand():
    """A kernel that has one number picks a pixel; of ones it sums the window."""
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    right = jnp.zeros((3, 3, 1, 1)).at[1, 2].set(1)
    none = ((0, 0), (0, 0))
    np.testing.assert_array_equal(winograd.conv3x3(x, right, none)[0, ..., 0], [[6, 7], [10, 11]])
    np.testing.assert_array_equal(
        winograd.conv3x3(x, jnp.ones((3, 3, 1, 1)), none)[0, ..., 0], [[45, 54], [81, 90]]
    )


@pytest.mark.usefixtures("x64")
@given(height=st.integers(1, 7), width=st.integers(1, 7), pads=st.tuples(around, around))
def test_any_image_and_padding(height, width, pads):
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(2, height, width, 3)), rng.normal(size=(3, 3, 3, 2))
    axes = ("NHWC", "HWIO", "NHWC")
    expected = jax.lax.conv_general_dilated(x, weight, (1, 1), pads, dimension_numbers=axes)
    found = winograd.conv3x3(jnp.asarray(x), jnp.asarray(weight), pads)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("size", "channels"), [(14, 32), (8, 128), (4, 512)])
def test_float32_rounds_as_torch_does(size, channels):
    """Root mean square errors against float64; torch's are those of oneDNN."""
    rng = np.random.default_rng(0)
    x = np.maximum(rng.normal(size=(4, size, size, channels)), 0).astype(np.float32)
    weight = rng.uniform(-1, 1, (3, 3, channels, channels)).astype(np.float32)
    cotangent = rng.normal(size=x.shape).astype(np.float32)

    def torchs(dtype):
        leaves = [torch.tensor(array, dtype=dtype, requires_grad=True) for array in (x, weight)]
        y = F.conv2d(leaves[0].permute(0, 3, 1, 2), leaves[1].permute(3, 2, 0, 1), padding=1).permute(0, 2, 3, 1)
        y.backward(torch.tensor(cotangent, dtype=dtype))
        return [y.detach().double().numpy(), *(leaf.grad.double().numpy() for leaf in leaves)]

    y, pullback = jax.vjp(functools.partial(winograd.conv3x3, pads=SAME), x, weight)
    ours = [y, *pullback(cotangent)]
    for exact, our, their in zip(torchs(torch.float64), ours, torchs(torch.float32), strict=True):
        assert np.std(our - exact) < 4 * np.std(their - exact)


def test_the_tiles_are_not_kept_for_the_gradient():
    x, weight = jnp.ones((2, 8, 8, 16)), jnp.ones((3, 3, 16, 16))
    _, pullback = jax.vjp(functools.partial(winograd.conv3x3, pads=SAME), x, weight)
    assert sum(array.size for array in jax.tree.leaves(pullback)) <= x.size + weight.size
