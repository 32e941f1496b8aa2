"""Pooling against torch: values, gradients, ties, NaN, edges, and what it refuses."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdl.nn import pooling
from jaxdl.nn.pooling import adaptive_avg_pool2d, avg_pool2d, max_pool2d

GEOMETRIES = {
    "blocks": ((2, 6, 4, 3), {"kernel_size": 2}),
    "blocks with a rest": ((2, 7, 5, 3), {"kernel_size": 2}),
    "overlapping": ((2, 7, 6, 2), {"kernel_size": 3, "stride": 2, "padding": 1}),
    "dense": ((1, 5, 5, 2), {"kernel_size": 2, "stride": 1}),
    "oblong": ((2, 8, 7, 2), {"kernel_size": (3, 2), "stride": (1, 2), "padding": (1, 1)}),
    "padded blocks": ((1, 6, 7, 2), {"kernel_size": 3, "padding": 1}),
    "gaps": ((1, 9, 8, 2), {"kernel_size": 2, "stride": 3}),
    "global": ((2, 5, 4, 3), {"kernel_size": (5, 4)}),
    "single": ((1, 3, 4, 2), {"kernel_size": 1}),
}
geometries = pytest.mark.parametrize(("shape", "options"), GEOMETRIES.values(), ids=GEOMETRIES)
POOLS = {
    "max": (max_pool2d, F.max_pool2d),
    "avg": (avg_pool2d, F.avg_pool2d),
    "avg inside": (
        functools.partial(avg_pool2d, count_include_pad=False),
        functools.partial(F.avg_pool2d, count_include_pad=False),
    ),
}
pools = pytest.mark.parametrize(("ours", "theirs"), POOLS.values(), ids=POOLS)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def assert_equal_to_torch(ours, theirs, x: np.ndarray, **options: Any) -> None:
    """The values and the gradients, for a cotangent that differs from element to element."""

    @jax.jit
    def both(x):
        value, pullback = jax.vjp(functools.partial(ours, **options), x)
        return value, pullback(jnp.linspace(1, 2, value.size, dtype=value.dtype).reshape(value.shape))[0]

    value, grad = both(jnp.asarray(x))
    leaf = torch.tensor(x, requires_grad=True)
    expected = theirs(leaf.permute(0, 3, 1, 2), **options).permute(0, 2, 3, 1)
    expected.backward(torch.linspace(1, 2, expected.numel(), dtype=expected.dtype).reshape(expected.shape))
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-12, atol=1e-12, strict=True)
    np.testing.assert_allclose(grad, np.asarray(leaf.grad), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
@geometries
@pools
def test_value_and_gradient_are_torchs(ours, theirs, shape, options):
    assert_equal_to_torch(ours, theirs, normal(*shape), **options)


@pytest.mark.usefixtures("x64")
@geometries
def test_a_tie_gives_its_gradient_to_one_place_as_in_torch(shape, options):
    ties = np.random.default_rng(0).integers(0, 2, shape).astype(np.float64)
    assert_equal_to_torch(max_pool2d, F.max_pool2d, ties, **options)


@pytest.mark.usefixtures("x64")
def test_a_window_of_equal_values_gives_its_gradient_to_the_first():
    grad = jax.grad(lambda x: max_pool2d(x, 2).sum())(jnp.zeros((1, 4, 4, 1)))
    expected = [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    assert grad[0, :, :, 0].tolist() == expected


@pytest.mark.usefixtures("x64")
@geometries
def test_it_is_xlas_reduction_of_windows_which_other_platforms_get(shape, options):
    ties = jnp.asarray(np.random.default_rng(0).integers(-3, 3, shape).astype(np.float64))

    def xla(x):
        kernel, strides, pads = pooling._geometry(x, **{"stride": None, "padding": 0, **options})
        padding = ((0, 0), *pads, (0, 0))
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, *kernel, 1), (1, *strides, 1), padding)

    (ours, our_pullback), (theirs, their_pullback) = (
        jax.vjp(pool, ties) for pool in (functools.partial(max_pool2d, **options), xla)
    )
    np.testing.assert_array_equal(ours, theirs)
    cotangent = jnp.linspace(1, 2, ours.size).reshape(ours.shape)
    np.testing.assert_allclose(our_pullback(cotangent)[0], their_pullback(cotangent)[0], rtol=1e-14)


@pytest.mark.parametrize(("platform", "expected"), [("cpu", False), ("cuda", False), ("tpu", True)])
def test_which_platform_gets_xlas_reduction(platform, expected):
    traced = jax.jit(functools.partial(max_pool2d, kernel_size=2)).trace(jnp.ones((1, 4, 4, 1)))
    assert ("reduce_window" in traced.lower(lowering_platforms=(platform,)).as_text()) is expected


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("options", [{"kernel_size": 2}, {"kernel_size": 3, "stride": 1, "padding": 1}])
def test_nan_is_the_largest_and_takes_the_gradient_as_in_torch(options):
    x = normal(2, 6, 6, 2)
    x[np.random.default_rng(1).random(x.shape) < 0.3] = np.nan
    assert_equal_to_torch(max_pool2d, F.max_pool2d, x, **options)


@pytest.mark.usefixtures("x64")
def test_the_padding_never_wins_over_negative_values():
    x = -1 - np.abs(normal(2, 5, 5, 2))
    assert_equal_to_torch(max_pool2d, F.max_pool2d, x, kernel_size=3, stride=2, padding=1)


@settings(max_examples=50)
@given(data=st.data())
def test_any_geometry_that_fits_has_torchs_shape(data):
    kernel, stride = (data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3))) for _ in range(2))
    padding = tuple(data.draw(st.integers(0, size // 2)) for size in kernel)
    height, width = (data.draw(st.integers(size, 7)) for size in kernel)
    geometry = {"kernel_size": kernel, "stride": stride, "padding": padding}
    for ours, theirs in POOLS.values():
        found = jax.eval_shape(
            functools.partial(ours, **geometry), jax.ShapeDtypeStruct((2, height, width, 3), float)
        )
        expected = theirs(torch.zeros(2, 3, height, width), **geometry).permute(0, 2, 3, 1)
        assert found.shape == expected.shape


@pytest.mark.usefixtures("x64")
@pools
def test_jit_vmap_and_scan_agree_with_one_at_a_time(ours, theirs):
    del theirs
    x = jnp.asarray(normal(3, 2, 5, 5, 2))
    one = functools.partial(ours, kernel_size=3, stride=2, padding=1)
    expected = np.stack([one(each) for each in x])
    scanned = jax.lax.scan(lambda carry, each: (carry, one(each)), None, x)[1]
    for found in (jax.jit(jax.vmap(one))(x), scanned):
        np.testing.assert_allclose(found, expected, rtol=1e-14)


@pools
def test_keeps_bfloat16(ours, theirs):
    x = jnp.asarray(normal(1, 4, 4, 2), jnp.bfloat16)
    y = ours(x, 2)
    assert y.dtype == jnp.bfloat16
    exact = theirs(torch.tensor(np.asarray(x, np.float64)).permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    np.testing.assert_allclose(np.asarray(y, np.float64), exact, rtol=0, atol=2**-6)


@pools
@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((4, 4, 2), {"kernel_size": 2}, r"shape \(B, H, W, C\), got \(4, 4, 2\)"),
        ((1, 3, 4, 2), {"kernel_size": 4}, r"extent \(4, 4\) does not fit into the padded input \(3, 4\)"),
        ((1, 4, 4, 2), {"kernel_size": 3, "padding": 2}, r"at most half the kernel size \(3, 3\), got 2"),
        ((1, 4, 4, 2), {"kernel_size": (4, 1), "padding": (1, 1)}, r"at most half the kernel size \(4, 1\)"),
        ((1, 4, 4, 2), {"kernel_size": 0}, "kernel_size to be one or two integers of at least 1, got 0"),
        ((1, 4, 4, 2), {"kernel_size": 2.0}, "kernel_size to be one or two integers of at least 1, got 2.0"),
        ((1, 4, 4, 2), {"kernel_size": 2, "stride": 0}, "stride to be one or two integers of at least 1, got 0"),
        ((1, 4, 4, 2), {"kernel_size": 2, "padding": -1}, "padding to be one or two integers of at least 0"),
    ],
)
def test_what_does_not_fit_is_refused(ours, theirs, shape, options, message):
    del theirs
    with pytest.raises(ValueError, match=message):
        ours(jnp.zeros(shape), **options)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("size", [1, (5, 4), (3, 2), (7, 1), (6, 9)])
def test_adaptive_windows_are_torchs(size):
    assert_equal_to_torch(adaptive_avg_pool2d, F.adaptive_avg_pool2d, normal(2, 7, 6, 3), output_size=size)


def test_an_adaptive_mean_in_bfloat16_is_summed_in_float32():
    x = jnp.ones((1, 64, 64, 1), jnp.bfloat16)
    y = adaptive_avg_pool2d(x, 1)
    assert y.dtype == jnp.bfloat16
    assert y.item() == 1.0  # a sum of bfloat16 ones stops growing at 256


@pytest.mark.parametrize(
    ("shape", "size", "message"),
    [
        ((4, 4, 2), 1, r"shape \(B, H, W, C\), got \(4, 4, 2\)"),
        ((1, 0, 4, 2), 1, r"does not fit into the padded input \(0, 4\)"),
        ((1, 4, 4, 2), 0, "output_size to be one or two integers of at least 1, got 0"),
    ],
)
def test_adaptive_windows_that_do_not_fit_are_refused(shape, size, message):
    with pytest.raises(ValueError, match=message):
        adaptive_avg_pool2d(jnp.zeros(shape), size)
