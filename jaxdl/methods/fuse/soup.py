"""Weights of several models made one model: means, greedy soups, and the way between two of them.

A member is its weights, a tree of parameters or of parameters and statistics.
Source: Wortsman et al. 2022, "Model soups"; Frankle et al. 2020 (the loss barrier).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxdl.typing import Array, PyTree


def mean(members: Sequence[PyTree]) -> PyTree:
    """The mean of every floating-point leaf; counters are those of the first. A uniform soup.

    Raises:
      ValueError: no members.
    """
    if not members:
        raise ValueError("the mean of no members was asked for")

    def of(*leaves: Array) -> Array:
        first = jnp.asarray(leaves[0])
        return sum(leaves[1:], first) / len(leaves) if jnp.issubdtype(first.dtype, jnp.floating) else first

    return jax.tree.map(of, *members)


def greedy(members: Sequence[PyTree], score: Callable[[PyTree], float]) -> tuple[PyTree, list[int]]:
    """A greedy soup: from the best member on, each next one stays in the mean if the score does not fall.

    Args:
      members: the weights.
      score: of weights, on held-out images; larger is better.

    Returns:
      The soup, and which members are in it, the best first.
    """
    alone = [score(member) for member in members]
    order = sorted(range(len(members)), key=lambda place: -alone[place])  # stable: of equals the first
    chosen, best = [order[0]], alone[order[0]]
    for place in order[1:]:
        found = score(mean([members[one] for one in [*chosen, place]]))
        if found >= best:
            chosen, best = [*chosen, place], found
    return mean([members[place] for place in chosen]), chosen


def between(first: PyTree, second: PyTree, part: float | Array) -> PyTree:
    """``(1 - part) * first + part * second`` for floating-point leaves; others are the first's."""

    def of(a: Array, b: Array) -> Array:
        a, b = jnp.asarray(a), jnp.asarray(b)
        if not jnp.issubdtype(a.dtype, jnp.floating):
            return a
        share = jnp.asarray(part, a.dtype)
        return (1 - share) * a + share * b

    return jax.tree.map(of, first, second)


def barrier(losses: Sequence[float]) -> float:
    """How far the loss rises on the way above the straight line between the losses of the two ends.

    Args:
      losses: at equal distances along the way, the ends included.

    Source: Frankle et al. 2020, "Linear mode connectivity"; Entezari et al. 2022.
    """
    last = len(losses) - 1
    line = [losses[0] + (losses[-1] - losses[0]) * place / last for place in range(len(losses))]
    return max(loss - straight for loss, straight in zip(losses, line, strict=True))
