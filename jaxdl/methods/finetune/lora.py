"""LoRA: a layer's weight stays as it is and gets a product of two thin matrices added, which is all that trains.

Source: Hu et al. 2021, https://arxiv.org/abs/2106.09685; names and initial values as in Hugging Face's peft.
"""

import functools
from collections.abc import Collection

import jax.numpy as jnp
from flax import nnx

from jaxdl import tree
from jaxdl.engine import weights
from jaxdl.nn.init import torch_uniform
from jaxdl.typing import Array, Batch, LossFn, Metrics, PyTree

A, B = "_lora_A", "_lora_B"  # behind the name of the weight


class Adapter(nnx.Param):
    """A matrix of an adapter."""


def adapted(model: nnx.Module, names: Collection[str], rank: int, key: Array) -> nnx.Module:
    """A copy of the model with adapters beside the weights of its linear and convolutional layers.

    To a ``weight`` (out, in) come ``weight_lora_A`` (rank, in), drawn as torch draws a linear layer's, and
    ``weight_lora_B`` (out, rank), zeros: so the model starts as it was. A convolution counts as the matrix from
    channels times places to channels.

    Args:
      model: left as it is.
      names: weights, as `weights_of` has them.
      rank: of the product, at least 1.
      key: draws the first matrices.

    Raises:
      ValueError: no weight at all, or the rank is not from 1 to the smaller side of one.
    """
    shapes = {name: weight.shape for name, weight in weights_of(model).items() if name in names}
    if not shapes:
        raise ValueError("there is no layer to adapt: all weights are new")
    copy = nnx.clone(model)
    rngs = nnx.Rngs(key)
    for name, (out, into) in shapes.items():
        if not 1 <= rank <= min(out, into):
            raise ValueError(f"expected a rank from 1 to {min(out, into)}, as {name} has; got {rank}")
        *path, last = name.split(".")
        owner = functools.reduce(getattr, path, copy)
        dtype = getattr(owner, last).dtype
        setattr(owner, last + A, Adapter(torch_uniform(rngs.params(), (rank, into), into).astype(dtype)))
        setattr(owner, last + B, Adapter(jnp.zeros((out, rank), dtype)))
    return copy


def merged(model: nnx.Module, params: PyTree, scale: float) -> PyTree:
    """The plain model's parameters: ``weight + scale * B @ A`` for each adapted one.

    Args:
      model: the plain one; gives the layouts.
      params: those of the adapted model.
      scale: alpha / rank.
    """
    flat = tree.flatten(params)
    adapters = {name: flat.pop(name) for name in list(flat) if name.endswith((A, B))}
    for name in [name.removesuffix(A) for name in adapters if name.endswith(A)]:
        theirs = weights.to_torch(model, {name: flat[name]})[name]
        change = scale * (adapters[name + B] @ adapters[name + A])
        flat |= weights.from_torch(model, {name: theirs + change.reshape(theirs.shape).astype(theirs.dtype)})
    return tree.map_named(lambda name, _: flat[name], nnx.to_pure_dict(nnx.state(model, nnx.Param)))


def objective(loss_fn: LossFn, scale: float) -> LossFn:
    """The loss of the plain model with the adapters merged in; penalties are those of the merged weights."""

    def adapted_loss(model: nnx.Module, batch: Batch, rngs: nnx.Rngs | None) -> tuple[Array, Metrics]:
        params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
        nnx.pop(model, Adapter)  # of this trace's copy; what is left is the plain model
        nnx.update(model, merged(model, params, scale))
        return loss_fn(model, batch, rngs)

    return adapted_loss


def is_adapter(name: str) -> bool:
    """Whether a parameter's name is that of an adapter."""
    return name.endswith((A, B))


def weight_of(name: str) -> str:
    """The weight that an adapter belongs to; of another parameter its own name."""
    return name.removesuffix(A).removesuffix(B)


def weights_of(model: nnx.Module) -> dict[str, Array]:
    """The weights of linear and convolutional layers as matrices (out, in)."""
    params = tree.flatten(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
    known = weights.layouts(model)
    theirs = weights.to_torch(model, {name: value for name, value in params.items() if known[name]})
    return {name: value.reshape(value.shape[0], -1) for name, value in theirs.items()}
