"""Programs to export: the four families in miniature, and single operations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jaxdl import models, tree
from jaxdl.methods.export.program import Program, program
from jaxdl.models.resnet import BasicBlock, ResNet
from jaxdl.pictures import Pictures

SHAPE = (8, 8, 1)
CLASSES = ("null", 'a "quoted" one', "drei")
FAMILIES = {
    "net": functools.partial(models.MODELS["net"], hidden=12),
    "cnn": functools.partial(models.MODELS["cnn"], channels=(4, 6), hidden=8),
    "resnet": functools.partial(ResNet, block=BasicBlock, layers=(1, 1, 1, 1), width=2),
    "vit": functools.partial(models.MODELS["vit"], patch=4, hidden=8, depth=2, heads=2),
}


def images(count: int = 7, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)


def family(name: str, shape: tuple[int, int, int] = SHAPE) -> Program:
    """A model in which no weight is zero or one, so that none can be left out unnoticed."""
    model = FAMILIES[name](shape, len(CLASSES), rngs=nnx.Rngs(0))
    view = nnx.view(model, deterministic=True, use_running_average=True, raise_if_not_found=False)
    seen = Pictures(shape, CLASSES, (0.2,) * shape[2], (0.4,) * shape[2])
    made = program(view, seen.inputs(), shape, CLASSES)
    rng = np.random.default_rng(1)

    def drawn(_: str, leaf: jax.Array) -> jax.Array:
        if leaf.dtype != jnp.float32:
            return leaf
        values = rng.uniform(0.5, 1.5, leaf.shape) if leaf.ndim == 1 else rng.normal(0, 0.3, leaf.shape)
        return jnp.asarray(values, jnp.float32)

    return Program(made.apply, tree.map_named(drawn, made.weights), shape, CLASSES)


def operation(function) -> Program:
    """``function`` of images (B, 4, 4, 2) in [-2, 2), flattened, and a matrix of weights behind it."""

    def apply(weights, stored):
        x = stored.astype(jnp.float32) / 64 - 2
        y = function(x)
        return y.reshape(y.shape[0], -1).astype(jnp.float32) * weights["scale"]

    return Program(apply, {"scale": jnp.asarray(0.5)}, (4, 4, 2), ("a",))


def _weights(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(2).normal(size=shape), jnp.float32)


def _conv(x, channels=2, out=4, size=3, stride=(1, 1), pads=((1, 1), (1, 1)), dilation=(1, 1), groups=1):
    return lax.conv_general_dilated(
        x,
        _weights(size, size, channels // groups, out),
        stride,
        pads,
        rhs_dilation=dilation,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def _pool(x):
    return lax.reduce_window(x, -np.inf, lax.max, (1, 3, 2, 1), (1, 2, 1, 1), ((0, 0), (1, 1), (1, 0), (0, 0)))


OPERATIONS = {
    "activations": lambda x: jax.nn.elu(x) + jax.nn.silu(x) + jnp.tanh(x) + jax.nn.sigmoid(x),
    "gelu": lambda x: jax.nn.gelu(x, approximate=False) + jax.nn.gelu(x, approximate=True),
    "roots and logarithms": lambda x: jnp.sqrt(jnp.abs(x)) + lax.rsqrt(x * x + 1) + jnp.log(jnp.exp(x) + 1),
    "errors and powers": lambda x: lax.erf(x) + lax.expm1(x) + x**3 + jnp.square(x) + jnp.abs(x) ** 1.5,
    "comparisons": lambda x: (
        jnp.where((x > 0) & (x <= 1) | (x == -2), x, -x)
        + (x != 0).astype(jnp.float32)
        + (x >= 1).astype(jnp.float32)
        + (~(x < -1)).astype(jnp.float32)
    ),
    "extremes": lambda x: jnp.maximum(x, 0.5) + jnp.minimum(x, x[:, :, :, ::1] * 2) - jnp.maximum(x, -x),
    "reductions": lambda x: x.mean((1, 2)) + x.max((1, 2)) - x.min((1, 2)),
    "affine of channels": lambda x: (
        -(2 * x - jnp.ones((1, 1, 1, 2))) / jnp.full((1, 1, 1, 2), 3.0) + (x - x * 0.5)
    ),
    "constants of other axes": lambda x: x * _weights(1, 4, 4, 2) + _weights(1, 4, 1, 1),
    "layer norm": lambda x: (x - x.mean(-1, keepdims=True)) * lax.rsqrt(jnp.var(x, -1, keepdims=True) + 1e-5),
    "softmax": lambda x: jax.nn.softmax(x) + jax.nn.softmax(x.reshape(x.shape[0], -1)).reshape(x.shape),
    "slices": lambda x: x[:, :2, :3] + lax.slice(x, (0, 1, 1, 0), (x.shape[0], 4, 4, 2), (1, 2, 1, 1)),
    "one of an axis": lambda x: x[:, 2] - x[:, -1],
    "split and joined": lambda x: jnp.concatenate([*jnp.split(x, 2, axis=1)[::-1], x[:, :1]], 1),
    "transposed": lambda x: x.transpose(0, 3, 1, 2) + x.transpose(0, 3, 2, 1),
    "padded": lambda x: jnp.pad(x, ((0, 0), (1, 0), (2, 1), (0, 0)), constant_values=3.0),
    "broadcast": lambda x: jnp.concatenate([jnp.broadcast_to(_weights(1, 1, 4, 2), (x.shape[0], 1, 4, 2)), x], 1),
    "matrices": lambda x: x.reshape(x.shape[0], 8, 4) @ _weights(4, 5) + _weights(1, 1, 5),
    "two unknowns": lambda x: jnp.einsum("bhid,bhjd->bhij", x, x) @ x,
    "convolution": lambda x: jax.nn.relu(_conv(x) + _weights(1, 1, 1, 4)) * 0.5,
    "strided": lambda x: _conv(x, stride=(2, 1), pads=((0, 1), (1, 0))) - 1.0,
    "dilated": lambda x: _conv(x, size=2, dilation=(2, 3), pads=((1, 0), (1, 1))),
    "grouped": lambda x: _conv(x, groups=2),
    "used twice": lambda x: (lambda y: y * 2 + jnp.exp(-jnp.abs(y)))(_conv(x)),
    "pooled": _pool,
    "convolution behind pooling": lambda x: _conv(_pool(_conv(x)), channels=4),
}


def assert_near(found: np.ndarray, expected: np.ndarray, relative: float = 1e-5) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=relative * np.abs(expected).max())
