"""Where the same weights and activations lie."""

from typing import Any

import jax.numpy as jnp
import torch
import torch.nn.functional as F
from flax import nnx

from jaxdl.nn.conv import conv2d
from jaxdl.nn.layout import CONV2D, flattened
from parity.catalogue.entry import Facts, Status, entry
from parity.catalogue.facts import agrees, differs, states
from parity.catalogue.sides import BLANK, channels_last, loaded, normal, together


@entry(
    7,
    "Linear and Conv: axes of the weights",
    Status.OPTIONS,
    torch="Linear (out, in), Conv (out, in / groups, H, W)",
    jax="Linear (in, out), Conv (H, W, in / groups, out); a square weight fits either way, so no shape tells",
    instead="""
    kernel = weight.T                      # Linear
    kernel = weight.transpose(2, 3, 1, 0)  # Conv, grouped as well
    # or jaxdl.nn.linear.Linear, which is (out, in), and jaxdl.nn.layout.CONV2D; parity tries a square weight
    # both ways, by what the layer computes
    """,
)
def axes_of_weights() -> Facts:
    x, weight = normal(5, 4), normal(4, 4, seed=1)
    theirs = F.linear(torch.tensor(x), torch.tensor(weight))
    port = nnx.Linear(4, 4, use_bias=False, **BLANK, rngs=nnx.Rngs(0))
    yield states("a square weight has the shape of the kernel", weight.shape == port.kernel.shape)
    kernels = weight, weight.T
    made = together(lambda x: [_linear(x, kernel) for kernel in kernels], x)
    yield differs("Linear 4 to 4", theirs, *made, least=0.1)
    images, weight = normal(2, 3, 5, 5), normal(3, 3, 3, 3, seed=1)
    theirs = channels_last(F.conv2d(torch.tensor(images), torch.tensor(weight)).numpy())
    kernels = weight, CONV2D.from_torch(weight, (3, 3, 3, 3))
    made = together(lambda x: [_conv(x, kernel) for kernel in kernels], channels_last(images))
    yield differs("Conv 3x3 with 3 to 3 channels", theirs, *made, least=0.1)
    images, weight = normal(2, 4, 5, 5), normal(6, 2, 3, 3, seed=1)
    theirs = channels_last(F.conv2d(torch.tensor(images), torch.tensor(weight), groups=2).numpy())
    kernel = jnp.asarray(CONV2D.from_torch(weight, (3, 3, 2, 6)))
    port, ours = together(
        lambda x: (_conv(x, kernel, feature_group_count=2), conv2d(x, kernel, groups=2)), channels_last(images)
    )
    yield agrees("Conv in 2 groups, permuted", theirs, port)
    yield agrees("the same with jaxdl", theirs, ours)


@entry(
    8,
    "Flatten in front of a Linear",
    Status.OPTIONS,
    torch="flattens (C, H, W)",
    jax="flattens (H, W, C), for its images are channels last: the same length, another order",
    instead="""
    kernel = weight.reshape(out, C, H, W).transpose(2, 3, 1, 0).reshape(H * W * C, out)
    # or jaxdl.nn.linear.Linear(H * W * C, out, layout=jaxdl.nn.layout.flattened(H, W, C, out), rngs=rngs)
    """,
)
def flatten_order() -> Facts:
    images, weight = normal(2, 3, 4, 5), normal(7, 60, seed=1)
    theirs = F.linear(torch.tensor(images).flatten(1), torch.tensor(weight))
    by_hand = weight.reshape(7, 3, 4, 5).transpose(2, 3, 1, 0).reshape(60, 7)
    kernels = weight.T, flattened(4, 5, 3, 7).from_torch(weight, (7, 60)).T, by_hand
    made = together(lambda x: [x.reshape(2, -1) @ kernel for kernel in kernels], channels_last(images))
    yield differs("Linear behind an image 3x4x5", theirs, *made[:2], least=0.1)
    yield agrees("the reshape by hand", theirs, made[2])


def _linear(x: Any, kernel: Any) -> Any:
    return loaded(nnx.Linear(4, 4, use_bias=False, **BLANK, rngs=nnx.Rngs(0)), kernel=kernel)(x)


def _conv(x: Any, kernel: Any, **settings: Any) -> Any:
    shape = x.shape[-1], kernel.shape[-1], (3, 3)
    return loaded(
        nnx.Conv(*shape, padding=0, use_bias=False, **settings, **BLANK, rngs=nnx.Rngs(0)), kernel=kernel
    )(x)
