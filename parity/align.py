"""The same array with the other framework's order of axes: activations, as weights go over the bridge."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from parity.verdict import relative


def orders(shape: Sequence[int], wanted: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """The permutations that a port may have between its axes and torch's, the likeliest first.

    As they are; channels last to channels second; the first two exchanged (``batch_first``).

    Args:
      shape: of the array at hand.
      wanted: of its counterpart.
    """
    rank, seen = len(shape), set()
    if rank != len(wanted):
        return
    same = tuple(range(rank))
    to_second = (0, rank - 1, *range(1, rank - 1)) if rank > 2 else same
    to_last = (0, *range(2, rank), 1) if rank > 2 else same
    swapped = (1, 0, *range(2, rank)) if rank > 1 else same
    for order in (same, to_second, to_last, swapped):
        if order not in seen and tuple(shape[axis] for axis in order) == tuple(wanted):
            seen.add(order)
            yield order


def align(array: Any, wanted: Sequence[int]) -> Any:
    """``array`` with the axes in the first fitting order of `orders`; None where none fits."""
    order = next(orders(array.shape, wanted), None)
    return None if order is None else array.transpose(order)


Image = tuple[int, int, int]
Move = Callable[[np.ndarray], np.ndarray]


def nearest(array: np.ndarray, like: np.ndarray) -> tuple[int, ...] | None:
    """The order of axes that brings ``array`` nearest to ``like``; None where none fits."""
    return min(
        orders(array.shape, like.shape),
        key=lambda order: np.linalg.norm(array.transpose(order) - like),
        default=None,
    )


def move(array: np.ndarray, like: np.ndarray, images: Sequence[Image] = ()) -> Move | None:
    """What brings ``array`` nearest to ``like``: another order of axes, or of a flattened image.

    Args:
      array, like: of one framework and of the other.
      images: (H, W, C) that the port flattens in this order and torch as (C, H, W).

    Returns:
      None where nothing fits.
    """

    def distance(found: Move) -> float:
        return float(np.linalg.norm(found(array) - like))

    turned = min(_reordered(array.shape, like.shape, images), key=distance, default=None)
    plain = min(_transposed(array.shape, like.shape), key=distance, default=None)
    # Behind a fault nothing fits, and what is as wide as a flattened image is most likely one.
    return plain if plain and (turned is None or distance(plain) < distance(turned) / 2) else turned


def _transposed(shape: Sequence[int], wanted: Sequence[int]) -> Iterator[Move]:
    for order in orders(shape, wanted):
        yield lambda x, order=order: np.asarray(x.transpose(order), order="C")  # keeps a scalar one


def _reordered(shape: Sequence[int], wanted: Sequence[int], images: Sequence[Image]) -> Iterator[Move]:
    for height, width, channels in images:
        if len(shape) == 2 and tuple(shape) == tuple(wanted) == (shape[0], height * width * channels):
            there = (height, width, channels), (0, 3, 1, 2)
            back = (channels, height, width), (0, 2, 3, 1)
            for split, order in (there, back):
                yield lambda x, split=split, order=order: x.reshape(-1, *split).transpose(order).reshape(x.shape)


def closest(array: np.ndarray, like: np.ndarray, images: Sequence[Image] = ()) -> np.ndarray | None:
    """``array`` after the `move`."""
    found = move(array, like, images)
    return None if found is None else found(array)


def all_closest(
    arrays: Sequence[np.ndarray], like: Sequence[np.ndarray], images: Sequence[Image] = ()
) -> tuple[np.ndarray, ...] | None:
    """One side's arrays with the other's axes; None where they do not correspond."""
    if len(arrays) != len(like):
        return None
    found = [closest(array, other, images) for array, other in zip(arrays, like, strict=True)]
    kept = tuple(array for array in found if array is not None)
    return kept if len(kept) == len(found) else None


def error(
    ours: Sequence[np.ndarray | None], theirs: Sequence[np.ndarray | None], images: Sequence[Image] = ()
) -> float:
    """The largest relative error among arrays with axes in any order; infinite if they do not fit."""
    if len(ours) != len(theirs):
        return float("inf")
    worst = 0.0
    for mine, other in zip(ours, theirs, strict=True):
        if mine is None or other is None:
            continue
        near = closest(mine, other, images)
        worst = max(worst, float("inf") if near is None else relative(near, other))
    return worst
