"""Masks that say which weights stay: `torch.nn.utils.prune` as functions of arrays.

A mask has the shape of its weight and is True where the weight stays. An ``amount`` is a share of the weights in
[0, 1], rounded as torch rounds it (halves to the even number), or their number, an int or an integer array, which
may be traced. Among equal magnitudes the first goes first; torch leaves that order open.
Source: https://docs.pytorch.org/docs/stable/nn.html#utilities (``torch.nn.utils.prune``)
"""

import math
import numbers
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from jaxdl import tree
from jaxdl.typing import Array, PyTree

Amount = float | int | Array
Masks = Mapping[str, Array]  # by dotted name; a parameter without a mask stays as it is


def l1_unstructured(weight: Array, amount: Amount, mask: Array | None = None) -> Array:
    """Keeps all but the smallest magnitudes.

    Args:
      weight: any shape.
      amount: see the module.
      mask: of an earlier pruning: what it took stays out, and ``amount`` is counted of the rest, as with torch.

    Raises:
      ValueError: an amount that is negative or more than there is.
    """
    return global_unstructured({"": weight}, amount, None if mask is None else {"": mask})[""]


def random_unstructured(key: Array, weight: Array, amount: Amount, mask: Array | None = None) -> Array:
    """Keeps weights drawn at random: what every other criterion has to beat. Arguments: `l1_unstructured`."""
    return l1_unstructured(jax.random.uniform(key, weight.shape), amount, mask)


def global_unstructured(scores: Masks, amount: Amount, masks: Masks | None = None) -> dict[str, Array]:
    """Keeps all but the smallest magnitudes of several arrays taken together.

    Args:
      scores: name -> weights, or how important each is (torch's ``importance_scores``).
      amount: of all elements together.
      masks: name -> mask of an earlier pruning, see `l1_unstructured`.
    """
    names = list(scores)
    importance = jnp.concatenate([jnp.abs(scores[name]).ravel() for name in names])
    gone = 0
    if masks is not None:
        kept = jnp.concatenate([masks[name].ravel() for name in names])
        gone = jnp.sum(~kept)
        importance = jnp.where(kept, importance, -jnp.inf)
    keep = _all_but_smallest(importance, gone + count(amount, importance.size - gone))
    ends = [sum(scores[name].size for name in names[:place]) for place in range(1, len(names))]
    parts = jnp.split(keep, ends)
    return {name: part.reshape(scores[name].shape) for name, part in zip(names, parts, strict=True)}


def ln_structured(weight: Array, amount: Amount, n: float = 2, axis: int = 0) -> Array:
    """Keeps whole units (neurons, channels), all but those whose weights have the smallest Ln-norm.

    Args:
      weight: two axes or more.
      amount: of the units.
      n: order of the norm; ``math.inf`` for the largest magnitude.
      axis: of the units; 0 is that of outputs in torch's layout.
    """
    units = l1_unstructured(unit_norms(weight, n, axis), amount)
    return _along(units, weight, axis)


def random_structured(key: Array, weight: Array, amount: Amount, axis: int = 0) -> Array:
    """Keeps whole units drawn at random. Arguments: `ln_structured`."""
    units = random_unstructured(key, jnp.zeros(weight.shape[axis]), amount)
    return _along(units, weight, axis)


def unit_norms(weight: Array, n: float = 2, axis: int = 0) -> Array:
    """The Ln-norm of the weights of each unit, (units,). Arguments: `ln_structured`."""
    if weight.ndim < 2:
        raise ValueError(f"a weight of units has two axes or more; got shape {weight.shape}")
    magnitudes = jnp.moveaxis(jnp.abs(weight), axis, 0).reshape(weight.shape[axis], -1)
    if n == math.inf:
        return magnitudes.max(1)
    return (magnitudes**n).sum(1) ** (1 / n)


def n_of_m(weight: Array, n: int = 2, m: int = 4, axis: int = 1) -> Array:
    """Keeps the ``n`` largest magnitudes of every ``m`` neighbours: 2:4 is what sparse tensor cores compute with.

    Args:
      weight: any shape.
      n, m: how many of how many.
      axis: along which the neighbours lie; 1 is that of inputs in torch's layout.

    Raises:
      ValueError: an axis that ``m`` does not divide.

    Source: Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks".
    """
    if not 0 < n <= m or weight.shape[axis] % m:
        raise ValueError(
            f"{n}:{m} needs an axis that {m} divides and 0 < {n} <= {m}; got axis {axis} of {weight.shape}"
        )
    blocks = jnp.moveaxis(jnp.abs(weight), axis, -1)
    order = jnp.argsort(jnp.argsort(blocks.reshape(*blocks.shape[:-1], -1, m), axis=-1), axis=-1)
    return jnp.moveaxis((order >= m - n).reshape(blocks.shape), -1, axis)


def apply(params: PyTree, masks: Masks) -> PyTree:
    """The parameters with 0 where their mask is False.

    Raises:
      ValueError: a mask of a parameter that is not there, or of another shape (all of them).
    """
    check(params, masks)

    def masked(name: str, leaf: Array) -> Array:
        return jnp.where(masks[name], leaf, jnp.zeros_like(leaf)) if name in masks else leaf

    return tree.map_named(masked, params)


def check(params: PyTree, masks: Masks) -> None:
    """Raises ValueError unless every mask belongs to a parameter and has its shape."""
    shapes = {name: leaf.shape for name, leaf in tree.flatten(params).items()}
    wrong = [f"{name} is no parameter" for name in masks if name not in shapes]
    wrong += [
        f"{name} has shape {mask.shape}, its parameter {shapes[name]}"
        for name, mask in masks.items()
        if name in shapes and mask.shape != shapes[name]
    ]
    if wrong:
        raise ValueError(f"masks do not fit: {'; '.join(wrong)}; the parameters are {', '.join(shapes)}")


def count(amount: Amount, size: int | Array) -> int | Array:
    """How many of ``size`` are pruned.

    Raises:
      ValueError: an amount that is negative or more than there is.
    """
    if isinstance(amount, jax.Array):
        return amount
    whole = isinstance(amount, numbers.Integral)
    if not 0 <= amount <= (size if whole else 1):
        raise ValueError(f"an amount is a share between 0 and 1, or a number of up to {size}; got {amount}")
    return int(amount) if whole else round(amount * int(size))


def _all_but_smallest(scores: Array, number: int | Array) -> Array:
    order = jnp.argsort(scores)  # stable
    return jnp.zeros(scores.shape, bool).at[order].set(jnp.arange(scores.size) >= number)


def _along(units: Array, weight: Array, axis: int) -> Array:
    shape = [1] * weight.ndim
    shape[axis] = -1
    return jnp.broadcast_to(units.reshape(shape), weight.shape)
