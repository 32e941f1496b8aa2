"""Which axes dropout masks have in the port, where their shapes leave it open."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from parity import masks
from parity.align import orders
from parity.flax_side import FlaxSide
from parity.recording import Recording
from parity.trials import AGREES, MOST
from parity.verdict import relative


def settle(flax: FlaxSide, reference: Recording, seed: int) -> None:
    """Finds the order of axes of dropout masks whose shape leaves it open, by what the port returns in training.

    Args:
      flax: the port's side with its weights; takes the orders.
      reference: of torch.
      seed: as there.
    """
    inputs, _ = flax.batch(seed, 0)
    params, stats, noted = flax.model.params, flax.model.stats, reference.facts
    flax.draws(seed, 0, params, stats, inputs, noted)
    wanted = [call["shape"] for call in noted["dropout"]]
    shapes = [call["shape"] for call in flax.dropout or []]
    theirs = [None if place is None else wanted[place] for place in masks.matched(shapes, wanted)]
    open_ = [
        [None] if other is None else list(orders(other, shape))
        for shape, other in zip(shapes, theirs, strict=True)
    ]
    if all(len(found) == 1 for found in open_):
        return
    names = reference.phase("train_forward")

    @jax.jit
    def run(params: Any, stats: Any, inputs: Any, draws: Any) -> Any:
        return flax.outputs(flax.forward(params, stats, inputs, True, draws)[0], noted["outputs"])

    def error(chosen: Sequence[Any]) -> float:
        flax.mask_orders = list(chosen)
        made = run(params, stats, inputs, flax.draws(seed, 0, params, stats, inputs, noted))
        return max(relative(np.asarray(value), reference.tensors[names[name]]) for name, value in made.items())

    flax.mask_orders = list(min(_combinations(open_), key=_remembered(error)))


def _combinations(open_: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """All, if they are few; else every call with its first choice, or all with the same later one."""
    if math.prod(map(len, open_)) <= MOST:
        return list(itertools.product(*open_))
    most = max(map(len, open_))
    return [tuple(found[min(place, len(found) - 1)] for found in open_) for place in range(most)]


def _remembered(error: Callable[[Any], float]) -> Callable[[Any], float]:
    """Infinite for all that comes behind the first that agrees: it need not be run."""
    done: list[bool] = []

    def cheap(chosen: Any) -> float:
        if done:
            return math.inf
        found = error(chosen)
        if found <= AGREES:
            done.append(True)
        return found

    return cheap
