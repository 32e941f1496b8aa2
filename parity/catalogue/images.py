"""Convolution, pooling and resizing."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch.nn.functional as F
from flax import nnx

from jaxdl.nn.conv import conv2d
from jaxdl.nn.pooling import avg_pool2d, max_pool2d
from parity.catalogue.entry import Facts, Status, entry
from parity.catalogue.facts import agrees, array, differs, lacks, raises, states
from parity.catalogue.sides import (
    BLANK,
    channels_first,
    channels_last,
    jax_gradient,
    loaded,
    normal,
    together,
    torch_gradient,
)


@entry(
    17,
    "Convolution: padding",
    Status.OPTIONS,
    torch="0 by default; padding='same' is refused with a stride",
    jax="'SAME' by default; with stride 2 on an even size it pads 0 in front and 1 behind, which is not padding=1",
    instead="nnx.Conv(i, o, (3, 3), strides=2, padding=1, rngs=rngs)  # torch's number; 0 is its default",
)
def padding() -> Facts:
    x, weight = normal(2, 2, 6, 6), normal(3, 2, 3, 3, seed=1)
    t, w, kernel = torch.tensor(x), torch.tensor(weight), jnp.asarray(weight.transpose(2, 3, 1, 0))
    settings: list[dict[str, Any]] = [{}, {"padding": 0}, {"strides": 2}, {"strides": 2, "padding": 1}]

    def ports(x: Any) -> Any:
        return [_convolved(x, kernel, **each) for each in settings], conv2d(x, kernel, stride=2, padding=1)

    (same, none, halved, padded), ours = together(ports, channels_last(x))
    yield differs("the default, by its shape", F.conv2d(t, w), *map(channels_first, (same, none)), least=1)
    theirs = F.conv2d(t, w, stride=2, padding=1)
    made = map(channels_first, (halved, padded))
    yield differs("stride 2: 'SAME' for torch's padding=1", theirs, *made, least=0.1)
    yield agrees("the same with jaxdl", theirs, channels_first(ours))
    refused = raises(lambda: F.conv2d(t, w, stride=2, padding="same"), RuntimeError)
    yield states("torch refuses padding='same' with a stride", refused)
    refused = raises(lambda: conv2d(channels_last(x), kernel, stride=2, padding="same"), ValueError)
    yield states("and so does jaxdl", refused)


@entry(
    18,
    "Pooling: stride",
    Status.OPTIONS,
    torch="the size of the window by default",
    jax="1 by default",
    instead="""
    nnx.max_pool(x, (2, 2), strides=(2, 2))
    # or jaxdl.nn.pooling.max_pool2d(x, 2), avg_pool2d(x, 2)
    """,
)
def pooling_stride() -> Facts:
    x = normal(2, 3, 6, 6)
    y = channels_last(x)
    pools: list[tuple[str, Any, Any, Any]] = [
        ("max_pool", F.max_pool2d, nnx.max_pool, max_pool2d),
        ("avg_pool", F.avg_pool2d, nnx.avg_pool, avg_pool2d),
    ]
    made = together(
        lambda y: [(port(y, (2, 2)), port(y, (2, 2), strides=(2, 2)), ours(y, 2)) for *_, port, ours in pools], y
    )
    for (name, pool, *_), values in zip(pools, made, strict=True):
        theirs, (port, cured, ours) = pool(torch.tensor(x), 2), map(channels_first, values)
        yield differs(f"{name} of 2x2, by its shape", theirs, port, cured, least=1)
        yield agrees("the same with jaxdl", theirs, ours)


@entry(
    19,
    "Pooling: padding and ties",
    Status.SAME,
    torch="AvgPool counts the padding; MaxPool pads -inf; the gradient of a tie goes to the first place",
    jax="the same. But a max-pool written as reshape and max shares the gradient of a tie",
    instead="nothing; instead of reshape and max: jaxdl.nn.pooling.max_pool2d, which gives it to the first place",
)
def pooling_edges() -> Facts:
    x = normal(2, 3, 6, 6) - 5
    y, pads = channels_last(x), cast(Any, ((1, 1), (1, 1)))
    flat = np.ones((1, 4, 4, 1))

    def ports(y: Any, flat: Any) -> Any:
        pooled = [pool(y, (3, 3), strides=(2, 2), padding=pads) for pool in (nnx.avg_pool, nnx.max_pool)]
        pools = (lambda t: nnx.max_pool(t, (2, 2), (2, 2)), _by_reshape, lambda t: max_pool2d(t, 2))
        return pooled, [jax_gradient(pool, flat) for pool in pools]

    (averaged, largest), (port, shared, ours) = together(ports, y, flat)
    yield agrees("avg_pool with padding 1", F.avg_pool2d(torch.tensor(x), 3, 2, 1), channels_first(averaged))
    yield agrees("max_pool of negative numbers", F.max_pool2d(torch.tensor(x), 3, 2, 1), channels_first(largest))
    theirs = channels_last(torch_gradient(lambda t: F.max_pool2d(t, 2), channels_first(flat)).numpy())
    yield agrees("gradient of a tie", theirs, port)
    yield differs("gradient of a tie, by reshape and max", theirs, shared, ours, least=0.5)


@entry(
    20,
    "ConvTranspose",
    Status.OPTIONS,
    torch="the gradient of a convolution; padding p takes off p, output_padding adds at the end",
    jax="a convolution of the dilated input; the kernel is not flipped and padding is what is put on",
    instead="""
    nnx.ConvTranspose(
        i, o, (k, k), strides=s, transpose_kernel=True, padding=((k - 1 - p, k - 1 - p + output_padding),) * 2,
        rngs=rngs,
    )
    kernel = weight.transpose(2, 3, 1, 0)
    """,
)
def transposed_convolution() -> Facts:
    x = normal(2, 2, 5, 5)
    for size, stride, pad, extra in ((3, 1, 0, 0), (3, 2, 1, 1), (4, 2, 1, 0), (2, 2, 0, 0)):
        weight = normal(2, 3, size, size, seed=1)
        theirs = F.conv_transpose2d(torch.tensor(x), torch.tensor(weight), None, stride, pad, extra)
        given = {"strides": stride, "padding": ((size - 1 - pad, size - 1 - pad + extra),) * 2}

        def ports(x: Any, weight: Any = weight, given: Any = given) -> Any:
            turned = _transposed(x, weight.transpose(2, 3, 1, 0), transpose_kernel=True, **given)
            return _transposed(x, weight.transpose(2, 3, 0, 1), **given), turned

        made = map(channels_first, together(ports, channels_last(x)))
        yield differs(
            f"kernel {size}, stride {stride}, padding {pad}, output_padding {extra}", theirs, *made, least=0.1
        )


@entry(
    25,
    "Resizing",
    Status.OPTIONS,
    torch="interpolate does not antialias; 'nearest' rounds down; 'bicubic' has a = -0.75, with antialias -0.5",
    jax="resize antialiases when it makes smaller; 'nearest' is torch's 'nearest-exact'; 'cubic' has a = -0.5; "
    "there is no align_corners",
    instead="""
    jax.image.resize(x, shape, "linear", antialias=False)
    scale = (new - 1) / (old - 1)  # align_corners=True, one for each axis
    jax.image.scale_and_translate(x, shape, axes, scale, (1 - scale) / 2, "linear", antialias=False)
    x[..., jnp.arange(new) * old // new]  # torch's 'nearest', one axis after the other
    """,
)
def resizing() -> Facts:
    x = normal(1, 1, 9, 9)
    small, large = (5, 5), (14, 14)
    rows = np.arange(5) * 9 // 5

    def ports(x: Any) -> Any:
        linear = [
            _resized(x, small, "linear"),
            _resized(x, small, "linear", antialias=False),
            _resized(x, large, "linear"),
        ]
        corners = [(_resized(x, shape, "linear", antialias=False), _aligned(x, shape)) for shape in (small, large)]
        nearest = _resized(x, small, "nearest"), x[:, :, rows][..., rows]
        cubic = [_resized(x, shape, "cubic", antialias=False) for shape in (small, large)]
        return linear, corners, nearest, cubic, _resized(x, small, "cubic")

    (smooth, plain, enlarged), corners, nearest, cubic, both = together(ports, x)
    yield differs("bilinear, 9 to 5", _interpolated(x, small, "bilinear"), smooth, plain, least=0.01)
    yield agrees("bilinear, 9 to 14", _interpolated(x, large, "bilinear"), enlarged)
    for shape, made in zip((small, large), corners, strict=True):
        theirs = _interpolated(x, shape, "bilinear", align_corners=True)
        yield differs(f"align_corners=True, 9 to {shape[0]}", theirs, *made, least=0.01)
    yield lacks(jax.image.resize, "align", "corner")
    yield agrees("nearest-exact, 9 to 5", _interpolated(x, small, "nearest-exact"), nearest[0])
    yield differs("nearest, 9 to 5", _interpolated(x, small, "nearest"), *nearest, least=0.01)
    yield agrees("bicubic with antialias, 9 to 5", _interpolated(x, small, "bicubic", antialias=True), both)
    for shape, made in zip((small, large), cubic, strict=True):
        yield differs(f"bicubic without, 9 to {shape[0]}", _interpolated(x, shape, "bicubic"), made, least=0.01)


def _convolved(x: Any, kernel: Any, **settings: Any) -> Any:
    port = nnx.Conv(2, 3, (3, 3), use_bias=False, **settings, **BLANK, rngs=nnx.Rngs(0))
    return loaded(port, kernel=kernel)(x)


def _transposed(x: Any, kernel: Any, **settings: Any) -> Any:
    port = nnx.ConvTranspose(2, 3, kernel.shape[:2], use_bias=False, **settings, **BLANK, rngs=nnx.Rngs(0))
    return loaded(port, kernel=kernel)(x)


def _by_reshape(x: Any) -> Any:
    return x.reshape(1, 2, 2, 2, 2, 1).max((2, 4))


def _interpolated(x: np.ndarray, shape: tuple[int, int], mode: str, **settings: Any) -> np.ndarray:
    return array(F.interpolate(torch.tensor(x), shape, mode=mode, **settings))


def _resized(x: Any, shape: tuple[int, int], method: str, **settings: Any) -> jax.Array:
    return jax.image.resize(x, (1, 1, *shape), method, **settings)


def _aligned(x: Any, shape: tuple[int, int]) -> jax.Array:
    scale = (jnp.asarray(shape) - 1) / (jnp.asarray(x.shape[2:]) - 1)
    return jax.image.scale_and_translate(
        x, (1, 1, *shape), (2, 3), scale, (1 - scale) / 2, "linear", antialias=False
    )
