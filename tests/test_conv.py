"""conv2d against torch, its two lowerings against each other, and what it refuses."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import nnx
from jax import lax

from jaxdl.nn.conv import Conv2d, conv2d
from jaxdl.nn.layout import CONV2D

CONFIGURATIONS = {
    "plain": ((2, 7, 6, 3), (3, 3, 3, 4), {}),
    "tiles": ((2, 7, 6, 16), (3, 3, 16, 4), {"padding": 1}),
    "tiles without padding": ((2, 8, 9, 16), (3, 3, 16, 3), {}),
    "tiles with much padding": ((1, 4, 5, 16), (3, 3, 16, 2), {"padding": (2, 3)}),
    "one pixel": ((3, 1, 1, 17), (3, 3, 17, 4), {"padding": 1}),
    "half in the padding": ((2, 2, 1, 3), (3, 5, 3, 4), {"padding": (1, 2), "stride": 2}),
    "dilation beyond the image": ((2, 3, 4, 2), (3, 3, 2, 4), {"padding": 4, "dilation": 4}),
    "nothing but padding": ((2, 1, 1, 2), (2, 2, 2, 3), {"padding": 2, "stride": 4, "dilation": 4}),
    "pad": ((2, 7, 6, 3), (3, 3, 3, 4), {"padding": 1}),
    "pointwise": ((2, 4, 5, 3), (1, 1, 3, 2), {"stride": 2}),
    "oblong": ((2, 9, 8, 2), (3, 2, 2, 5), {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 3)}),
    "patchify": ((2, 9, 8, 3), (4, 4, 3, 5), {"stride": 4}),
    "patchify with padding": ((1, 7, 7, 2), (3, 3, 2, 2), {"stride": 3, "padding": 1}),
    "stride beyond kernel": ((1, 9, 9, 2), (2, 2, 2, 3), {"stride": 3}),
    "same": ((2, 6, 5, 2), (4, 3, 2, 3), {"padding": "same", "dilation": (1, 2)}),
    "empty batch": ((0, 4, 4, 2), (3, 3, 2, 3), {}),
    "valid": ((2, 6, 5, 2), (2, 2, 2, 3), {"padding": "valid"}),
    "groups": ((2, 6, 5, 4), (3, 3, 2, 6), {"padding": 1, "groups": 2}),
    "depthwise": ((2, 6, 5, 4), (3, 3, 1, 4), {"padding": 1, "groups": 4, "stride": 2}),
}
configurations = pytest.mark.parametrize(("x", "w", "options"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)


def normal(*shape: int, seed: int = 0, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def value_and_gradients(f, *inputs):
    """The value and the gradient of each input, for a cotangent that differs from element to element."""

    @jax.jit
    def both(*inputs):
        value, pullback = jax.vjp(f, *inputs)
        return value, pullback(jnp.linspace(-1, 1, value.size, dtype=value.dtype).reshape(value.shape))

    value, gradients = both(*map(jnp.asarray, inputs))
    return value, *gradients


def torch_value_and_gradients(f, *inputs):
    leaves = [torch.tensor(x, requires_grad=True) for x in inputs]
    value = f(*leaves)
    # Our cotangent counts in our order of axes, where the value is (B, H, W, C).
    value.backward(torch.linspace(-1, 1, value.numel(), dtype=value.dtype).reshape(value.shape))
    return value.detach().numpy(), *(np.asarray(leaf.grad) for leaf in leaves)


def reference(x, weight, bias, **options):
    """torch's convolution with our axes outside."""
    y = F.conv2d(x.permute(0, 3, 1, 2), weight.permute(3, 2, 0, 1), bias, **options)
    return y.permute(0, 2, 3, 1)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.usefixtures("x64")
@configurations
def test_value_and_gradients_are_torchs(x, w, options):
    inputs = normal(*x), normal(*w, seed=1), normal(w[-1], seed=2)
    ours = value_and_gradients(functools.partial(conv2d, **options), *inputs)
    theirs = torch_value_and_gradients(functools.partial(reference, **options), *inputs)
    for our, their in zip(ours, theirs, strict=True):
        assert our.dtype == jnp.float64
        np.testing.assert_allclose(our, their, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("kernel", "options", "strides", "pads", "dilations"),
    [
        ((3, 3), {"padding": 1}, (1, 1), ((1, 1), (1, 1)), (1, 1)),
        ((3, 3), {"stride": 3, "padding": 1}, (3, 3), ((1, 1), (1, 1)), (1, 1)),
        ((4, 2), {"padding": "same", "dilation": (1, 3)}, (1, 1), ((1, 2), (1, 2)), (1, 3)),
        ((2, 3), {"stride": (2, 1), "padding": (0, 2)}, (2, 1), ((0, 0), (2, 2)), (1, 1)),
    ],
)
def test_the_cpu_computes_what_xlas_convolution_does(kernel, options, strides, pads, dilations):
    def xla(x, weight):
        axes = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, weight, strides, pads, rhs_dilation=dilations, dimension_numbers=axes)

    inputs = normal(2, 8, 7, 2), normal(*kernel, 2, 3, seed=1)
    ours = value_and_gradients(functools.partial(conv2d, **options), *inputs)
    for our, their in zip(ours, value_and_gradients(xla, *inputs), strict=True):
        np.testing.assert_allclose(our, their, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("groups", "expected"), [(1, False), (2, True)])
def test_an_ungrouped_convolution_is_a_matrix_product_on_the_cpu(groups, expected):
    def loss(x, weight):
        return conv2d(x, weight, padding=1, groups=groups).sum()

    batched = jax.vmap(jax.grad(loss, argnums=(0, 1)))
    x, weight = jnp.ones((5, 2, 4, 4, 2)), jnp.ones((5, 3, 3, 2 // groups, 4))
    compiled = jax.jit(batched).lower(x, weight).compile().as_text()
    assert ("convolution(" in str(compiled)) == expected


def test_another_platform_gets_xlas_convolution():
    step = jax.jit(jax.grad(lambda x, weight: conv2d(x, weight).sum()))
    text = step.trace(jnp.ones((2, 4, 4, 2)), jnp.ones((3, 3, 2, 4))).lower(lowering_platforms=("cuda",)).as_text()
    assert "stablehlo.convolution" in text
    assert "dot_general" not in text


@pytest.mark.usefixtures("x64")
def test_eager_jit_vmap_and_scan_agree():
    x = jnp.asarray(normal(3, 2, 6, 6, 2))
    weight, bias = jnp.asarray(normal(3, 3, 2, 4, seed=1)), jnp.asarray(normal(4, seed=2))

    def one(x):
        return conv2d(x, weight, bias, stride=2, padding=1)

    expected = np.stack([one(each) for each in x])
    scanned = lax.scan(lambda carry, each: (carry, one(each)), 0, x)[1]
    for found in (jax.jit(jax.vmap(one))(x), scanned):
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13)


@pytest.mark.usefixtures("x64")
def test_forward_mode_is_linear_in_each_argument():
    x, weight = jnp.asarray(normal(1, 5, 5, 2)), jnp.asarray(normal(3, 3, 2, 3))
    dx, dweight = jnp.asarray(normal(1, 5, 5, 2, seed=1)), jnp.asarray(normal(3, 3, 2, 3, seed=2))
    f = functools.partial(conv2d, padding=1)
    _, tangent = jax.jvp(f, (x, weight), (dx, dweight))
    np.testing.assert_allclose(tangent, f(dx, weight) + f(x, dweight), rtol=1e-12, atol=1e-12)


def test_an_empty_batch_is_taken():
    weight = jnp.ones((3, 3, 2, 5))
    y, pullback = jax.vjp(conv2d, jnp.ones((0, 4, 4, 2)), weight)
    assert y.shape == (0, 2, 2, 5)
    assert (pullback(y)[1] == jnp.zeros_like(weight)).all()


def test_bfloat16_stays_bfloat16():
    x, weight = normal(2, 6, 6, 3), normal(3, 3, 3, 4, seed=1)
    y = conv2d(jnp.asarray(x, jnp.bfloat16), jnp.asarray(weight, jnp.bfloat16), padding=1)
    assert y.dtype == jnp.bfloat16
    exact = reference(torch.tensor(x), torch.tensor(weight), None, padding=1).numpy()
    # Two inputs and one output rounded to 8 bits, over 27 products.
    assert np.abs(y.astype(jnp.float32) - exact).max() < 27 * 2**-8


def test_a_batch_sharded_over_devices_gives_the_same():
    x, weight = normal(8, 6, 6, 2, dtype=np.float32), normal(3, 3, 2, 4, seed=1, dtype=np.float32)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.device_put(x, jax.NamedSharding(mesh, jax.P("data")))
    grad = jax.jit(jax.grad(lambda weight, x: (conv2d(x, weight, padding=1) ** 2).mean()))
    np.testing.assert_allclose(grad(weight, sharded), grad(weight, x), rtol=2e-5, atol=1e-6)


class TestConv2d:
    @pytest.mark.usefixtures("x64")
    def test_value_is_torchs(self):
        ours = Conv2d(4, 6, (3, 2), stride=2, padding=1, groups=2, rngs=nnx.Rngs(0))
        theirs = torch.nn.Conv2d(4, 6, (3, 2), stride=2, padding=1, groups=2).double()
        weight, bias = (value.numpy() for value in theirs.state_dict().values())
        nnx.update(ours, {"weight": CONV2D.from_torch(weight, (3, 2, 2, 6)), "bias": bias})
        x = normal(2, 7, 7, 4)
        expected = theirs(torch.tensor(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).detach().numpy()
        np.testing.assert_allclose(ours(jnp.asarray(x)), expected, rtol=1e-12, atol=1e-12)

    def test_shapes_and_names_are_torchs(self):
        ours = nnx.eval_shape(lambda: Conv2d(4, 6, (3, 2), groups=2, rngs=nnx.Rngs(0)))
        theirs = torch.nn.Conv2d(4, 6, (3, 2), groups=2)
        assert CONV2D.to_torch(np.zeros(ours.weight.shape)).shape == theirs.weight.shape
        assert set(nnx.to_pure_dict(nnx.state(ours))) == set(theirs.state_dict())

    def test_without_bias(self):
        layer = Conv2d(2, 3, 1, bias=False, rngs=nnx.Rngs(0))
        assert set(nnx.to_pure_dict(nnx.state(layer))) == {"weight"}
        assert layer(jnp.zeros((1, 2, 2, 2))).tolist() == np.zeros((1, 2, 2, 3)).tolist()

    def test_draws_within_torchs_bound(self):
        layer = Conv2d(16, 64, 3, groups=2, rngs=nnx.Rngs(0))
        bound = (3 * 3 * 8) ** -0.5
        for drawn in nnx.to_pure_dict(nnx.state(layer)).values():
            assert 0.9 * bound < jnp.abs(drawn).max() < bound
        assert jnp.std(layer.weight[...]) == pytest.approx(bound / 3**0.5, rel=0.03)

    def test_refuses_groups_that_do_not_divide(self):
        with pytest.raises(ValueError, match=r"groups that divide in and out channels \(4, 6\), got 4"):
            Conv2d(4, 6, 3, groups=4, rngs=nnx.Rngs(0))


@pytest.mark.parametrize(
    ("x", "w", "options", "message"),
    [
        ((4, 4, 2), (3, 3, 2, 1), {}, r"shape \(B, H, W, C\), got \(4, 4, 2\)"),
        ((1, 4, 4, 3), (3, 3, 2, 1), {}, r"got \(1, 4, 4, 3\) and \(3, 3, 2, 1\)"),
        ((1, 4, 4, 4), (3, 3, 2, 3), {"groups": 2}, "a multiple of 2"),
        ((1, 4, 4, 2), (5, 5, 2, 1), {}, r"extent \(5, 5\) does not fit into the padded input \(4, 4\)"),
        ((1, 4, 4, 2), (3, 3, 2, 1), {"dilation": 2}, r"extent \(5, 5\)"),
        ((1, 4, 4, 2), (3, 3, 2, 1), {"padding": "same", "stride": 2}, "'same' needs stride 1"),
        ((1, 4, 4, 2), (3, 3, 2, 1), {"padding": "full"}, "got 'full'"),
        ((1, 4, 4, 2), (3, 3, 2, 1), {"padding": -1}, "padding to be one or two integers of at least 0, got -1"),
        ((1, 4, 4, 2), (3, 3, 2, 1), {"stride": 0}, "stride to be one or two integers of at least 1, got 0"),
        ((1, 4, 4, 2), (3, 3, 2, 1), {"dilation": (1, 1, 1)}, "dilation to be one or two integers"),
        ((1, 4, 4, 2), (3, 3, 2, 1), {"padding": 0.5}, "padding to be one or two integers of at least 0, got 0.5"),
    ],
)
def test_refuses(x, w, options, message):
    with pytest.raises(ValueError, match=message):
        conv2d(jnp.zeros(x), jnp.zeros(w), **options)


def test_refuses_a_bias_of_another_size():
    with pytest.raises(ValueError, match=r"a bias of shape \(3,\), got \(1,\)"):
        conv2d(jnp.zeros((1, 4, 4, 2)), jnp.zeros((3, 3, 2, 3)), jnp.zeros(1))
