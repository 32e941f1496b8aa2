"""What torch does around its optimizers, as optax transformations: clip, accumulate, freeze, parameter groups.

A ``mask`` names leaves of the parameters: a regular expression for the whole dotted path (`jaxdl.tree.select`), a
tree of bools, or a function from the parameters to such a tree.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdl import tree
from jaxdl.typing import Array, PyTree

Mask = str | PyTree | Callable[[PyTree], PyTree]


def clip_by_norm(max_norm: float) -> optax.GradientTransformation:
    """Scale all gradients by ``max_norm / (norm + 1e-6)`` where that is below 1; the norm is over all leaves.

    Goes in front of the optimizer: ``optax.chain(clip_by_norm(1.0), sgd(1e-2))``.
    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html

    Raises:
      ValueError: ``max_norm`` is not above 0.
    """
    _above_zero("max_norm", max_norm)

    def clip(updates: PyTree, params: PyTree = None) -> PyTree:
        del params
        scale = jnp.minimum(max_norm / (tree.norm(updates) + 1e-6), 1)
        return jax.tree.map(lambda g: g * scale.astype(g.dtype), updates)

    return optax.stateless(clip)


def clip_by_value(max_value: float) -> optax.GradientTransformation:
    """Clip every element of the gradients to [-max_value, max_value]; goes in front of the optimizer.

    Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_value_.html

    Raises:
      ValueError: ``max_value`` is not above 0.
    """
    _above_zero("max_value", max_value)
    return optax.clip(max_value)


class AccumulateState(NamedTuple):
    """How many gradients are in the sum, int32, the sum, and the state of the optimizer within."""

    added: Array
    total: PyTree
    inner: PyTree


def accumulate(
    tx: optax.GradientTransformation, every: int, reduction: str = "mean"
) -> optax.GradientTransformation:
    """Call ``tx`` once for ``every`` gradients; the updates in between leave the parameters bit for bit alone.

    Schedules inside ``tx`` count its updates. optax.MultiSteps sums in float32 whatever the gradients are.

    Args:
      tx: the optimizer, with its clipping: torch clips what was accumulated.
      every: gradients to one update.
      reduction: ``"sum"``, as torch's repeated ``backward()``, or ``"mean"``, as with ``loss / every``.

    Raises:
      ValueError: ``every`` is below 1 or ``reduction`` is unknown.
    """
    if every < 1:
        raise ValueError(f"every must be 1 or more, got {every}")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
    divisor = every if reduction == "mean" else 1

    def init(params: PyTree) -> AccumulateState:
        return AccumulateState(jnp.zeros((), jnp.int32), optax.tree.zeros_like(params), tx.init(params))

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, AccumulateState]:
        total = jax.tree.map(lambda t, g: t + g / divisor, state.total, updates)

        def emit() -> tuple[PyTree, AccumulateState]:
            steps, inner = tx.update(total, state.inner, params)
            return steps, AccumulateState(jnp.zeros_like(state.added), optax.tree.zeros_like(total), inner)

        def hold() -> tuple[PyTree, AccumulateState]:
            return _nothing(total), AccumulateState(state.added + 1, total, state.inner)

        return jax.lax.cond(state.added == every - 1, emit, hold)

    return optax.GradientTransformation(init, update)


def groups(
    pairs: Sequence[tuple[Mask, optax.GradientTransformation]],
) -> optax.GradientTransformation:
    """torch's parameter groups: every optimizer sees, keeps state for and moves the leaves of its own mask only.

    Args:
      pairs: (mask, optimizer). Leaves of no mask are frozen, bit for bit. `rates` lists the groups in this order.

    Raises:
      ValueError: at ``init``, when a leaf is in two groups, with its name, or when a pattern matches none.
    """
    masks = [mask for mask, _ in pairs]

    def rest(params: PyTree) -> PyTree:
        return jax.tree.map(lambda count: count == 0, _memberships(masks, params))

    members = [optax.masked(tx, lambda params, mask=mask: _resolve(mask, params)) for mask, tx in pairs]
    chain = optax.chain(*members, optax.masked(optax.stateless(lambda updates, _: _nothing(updates)), rest))

    def init(params: PyTree) -> PyTree:
        twice = [name for name, count in tree.flatten(_memberships(masks, params)).items() if count > 1]
        if twice:
            raise ValueError(f"a parameter may be in one group only, got more for {', '.join(twice)}")
        return chain.init(params)

    return optax.GradientTransformation(init, chain.update)


def freeze(tx: optax.GradientTransformation, mask: Mask) -> optax.GradientTransformation:
    """``tx`` for all leaves but those of ``mask``, which stay as they are, bit for bit, and have no state.

    As with torch's ``requires_grad_(False)``, a clip inside ``tx`` does not see the frozen gradients.
    """

    def trained(params: PyTree) -> PyTree:
        return jax.tree.map(lambda frozen: not frozen, _resolve(mask, params))

    return groups([(trained, tx)])


def _resolve(mask: Mask, params: PyTree) -> PyTree:
    if isinstance(mask, str):
        return tree.select(params, mask)
    return mask(params) if callable(mask) else mask


def _memberships(masks: Sequence[Mask], params: PyTree) -> PyTree:
    """How many masks hold each leaf."""
    resolved = [_resolve(mask, params) for mask in masks]
    return jax.tree.map(lambda _, *member: sum(member), params, *resolved)


def _nothing(updates: PyTree) -> PyTree:
    # x + -0.0 is x for every x; x + 0.0 turns -0.0 into 0.0.
    return jax.tree.map(lambda u: jnp.full_like(u, -0.0), updates)


def _above_zero(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be above 0, got {value}")
