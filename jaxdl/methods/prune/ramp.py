"""Pruning while a model is trained: an optimizer that keeps pruned weights at zero and prunes more as it goes."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdl import tree
from jaxdl.methods.prune import masks as pruning
from jaxdl.methods.prune.masks import Masks
from jaxdl.typing import Array, PyTree

# (parameters, how many prunings there were) -> masks.
Find = Callable[[PyTree, Array], Masks]


@dataclasses.dataclass(frozen=True)
class Ramp:
    """When weights are pruned, and how many of them are gone then.

    Attributes:
      amounts: the share at the start, and after each pruning.
      every: updates from one pruning to the next; the first comes after as many.
    """

    amounts: tuple[float, ...]
    every: int = 1

    def due(self, step: Array) -> Array:
        """Whether to prune after ``step`` updates."""
        return (step % self.every == 0) & (step < len(self.amounts) * self.every)


def cubic(amount: float, steps: int, every: int, initial: float = 0.0) -> Ramp:
    """Prunes fast at first, while there is much to spare: ``amount + (initial - amount) * (1 - t / steps)**3``.

    Args:
      amount: the share in the end, in [0, 1].
      steps: updates until then, rounded down to a multiple of ``every``; below that, all is pruned at the start.
      every: updates from one pruning to the next.
      initial: the share at the start.

    Source: Zhu and Gupta 2017, "To prune, or not to prune", equation 1; ``torch.ao.pruning.CubicSL``.

    Raises:
      ValueError: a share outside [0, 1], or ``every`` below 1.
    """
    if not (0 <= initial <= 1 and 0 <= amount <= 1):
        raise ValueError(f"shares lie between 0 and 1; got {initial} and {amount}")
    if every < 1:
        raise ValueError(f"expected at least 1 update between two prunings; got {every}")
    times = steps // every
    if times < 1:
        return Ramp((amount,))
    return Ramp(tuple(amount + (initial - amount) * (1 - t / times) ** 3 for t in range(times + 1)), every)


class PrunedState(NamedTuple):
    """Updates made, int32, the masks of today, and the state of the optimizer within."""

    step: Array
    masks: Masks
    inner: PyTree


def pruned(tx: optax.GradientTransformation, find: Find, ramp: Ramp) -> optax.GradientTransformation:
    """``tx`` for the weights that stay; the others are exactly 0 after every update, and their gradients are too.

    The parameters it starts with have to be pruned already: ``masks.apply(params, find(params, 0))``.
    A clip inside ``tx`` sees the gradients that are left, as with torch's ``weight_orig * mask``.

    Args:
      tx: the optimizer.
      find: the masks of the place in ``ramp.amounts`` that it is given, an int32 scalar.
      ramp: when to prune.

    Raises:
      ValueError: at ``init``, when masks do not fit the parameters.
    """

    def init(params: PyTree) -> PrunedState:
        start = jnp.zeros((), jnp.int32)
        masks = find(params, start)
        pruning.check(params, masks)
        return PrunedState(start, dict(masks), tx.init(params))

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PrunedState]:
        steps, inner = tx.update(pruning.apply(updates, state.masks), state.inner, params)
        step = state.step + 1
        after = optax.apply_updates(params, steps)
        masks = jax.lax.cond(
            ramp.due(step), lambda: dict(find(after, step // ramp.every)), lambda: dict(state.masks)
        )
        return _erased(steps, params, masks), PrunedState(step, masks, inner)

    return optax.GradientTransformation(init, update)


def _erased(updates: PyTree, params: PyTree, masks: Masks) -> PyTree:
    """The updates that lead to 0 where the mask is False: x + -x is +0.0 for every x."""

    def erased(name: str, update: Array, param: Array) -> Array:
        return jnp.where(masks[name], update, -param) if name in masks else update

    return tree.map_named(erased, updates, params)
