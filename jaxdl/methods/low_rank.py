"""Low-rank factorisation: a layer's weight as the product of two smaller ones, which can be trained further.

A weight W (out, in) becomes ``left @ right``, (out, r) and (r, in): r (out + in) numbers and as many products in
place of out * in. Of a convolution the kernel counts as inputs: r kernels, and a 1x1 convolution behind them.
Source: Denton et al. 2014; Zhang et al. 2015, "Accelerating Very Deep Convolutional Networks", section 2.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

from jaxdl import tree
from jaxdl.engine import weights
from jaxdl.nn.conv import Conv2d, conv2d
from jaxdl.nn.layout import Layout
from jaxdl.nn.linear import Linear
from jaxdl.typing import Array, PyTree

LEFT, RIGHT = ".left_weight", ".right_weight"


def factors(weight: Array, rank: int) -> tuple[Array, Array]:
    """The product of rank ``rank`` that is nearest to a weight in the sum of squares (Eckart and Young 1936).

    Args:
      weight: (out, in, ...), in torch's layout; further axes count as inputs.
      rank: from 1 to the smaller of out and inputs.

    Returns:
      (out, rank) and (rank, in, ...), of equal norms.

    Raises:
      ValueError: a rank outside that range.
    """
    flat = weight.reshape(len(weight), -1)
    if not 1 <= rank <= min(flat.shape):
        raise ValueError(f"the rank of a weight {weight.shape} lies between 1 and {min(flat.shape)}; got {rank}")
    left, values, right = jnp.linalg.svd(flat, full_matrices=False)
    root = jnp.sqrt(values[:rank])
    return left[:, :rank] * root[None], (root[:, None] * right[:rank]).reshape(rank, *weight.shape[1:])


def product(left: Array, right: Array) -> Array:
    """The weight of two factors, the inverse of `factors`."""
    return (left @ right.reshape(len(right), -1)).reshape(len(left), *right.shape[1:])


def rank_for(shape: tuple[int, ...], share: float) -> int:
    """The rank whose factors have at most ``share`` of a weight's numbers, at least 1."""
    outputs, inputs = shape[0], math.prod(shape[1:])
    return max(int(share * outputs * inputs / (outputs + inputs)), 1)


class LowRank(nnx.Module):
    """A Linear or Conv2d layer as two: ``right_weight`` without a bias, then ``left_weight`` over the last axis.

    Args:
      layer: its weight is factored, its bias added at the end.
      rank: see `factors`.

    Raises:
      ValueError: as `factors`.
      TypeError: another layer, or a convolution in groups.
    """

    def __init__(self, layer: nnx.Module, rank: int) -> None:
        if not isinstance(layer, Linear | Conv2d) or getattr(layer, "groups", 1) > 1:
            raise TypeError(f"expected a Linear, or a Conv2d without groups; got {type(layer).__name__}")
        layout: Layout = layer.weight.get_metadata()["layout"]
        left, right = factors(layout.permuted(layer.weight[...]), rank)
        own = layout
        if layout.split:  # behind a flattened image: the factor has other outputs
            own = dataclasses.replace(layout, split=(rank, *layout.split[1:]))
        shape = (rank, *layer.weight.shape[1:]) if isinstance(layer, Linear) else (*layer.weight.shape[:3], rank)
        self.left_weight = nnx.Param(left)
        self.right_weight = nnx.Param(own.restored(right, shape), layout=own)
        self.bias = None if layer.bias is None else nnx.Param(layer.bias[...])
        self.convolution = None
        if isinstance(layer, Conv2d):
            self.convolution = functools.partial(
                conv2d, stride=layer.stride, padding=layer.padding, dilation=layer.dilation
            )

    def __call__(self, x: Array) -> Array:
        left, right = self.left_weight[...], self.right_weight[...]
        x = (self.convolution(x, right) if self.convolution else x @ right.T) @ left.T
        return x if self.bias is None else x + self.bias[...].reshape((1,) * (x.ndim - 1) + (-1,))


def factorize(model: nnx.Module, ranks: Mapping[str, int]) -> None:
    """Puts `LowRank` layers in the place of some layers of a model.

    Args:
      model: is changed.
      ranks: by the layers' dotted names.

    Raises:
      ValueError, TypeError: as `LowRank`; a name that is no layer.
    """
    for name, rank in ranks.items():
        *path, last = name.split(".")
        parent: Any = model
        try:
            for part in path:
                parent = parent[int(part)] if part.isdigit() else getattr(parent, part)
            setattr(parent, last, LowRank(getattr(parent, last), rank))
        except AttributeError as error:
            raise ValueError(f"the model has no layer {name} ({error})") from None


def merge(model: nnx.Module, plain: nnx.Module, params: PyTree) -> PyTree:
    """The parameters of the plain model, of those of one with `LowRank` layers; may be traced.

    Args:
      model, plain: give names and layouts.
      params: of ``model``.
    """
    theirs = weights.to_torch(model, tree.flatten(params))
    for name in [name for name in theirs if name.endswith(LEFT)]:
        layer = name.removesuffix(LEFT)
        theirs[f"{layer}.weight"] = product(theirs.pop(name), theirs.pop(f"{layer}{RIGHT}"))
    merged = weights.from_torch(plain, theirs)
    return tree.map_named(lambda name, _: merged[name], nnx.to_pure_dict(nnx.state(plain, nnx.Param)))
