"""The same array with the other framework's order of axes: activations, as weights go over the bridge."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


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


def nearest(array: np.ndarray, like: np.ndarray) -> tuple[int, ...] | None:
    """The order of axes that brings ``array`` nearest to ``like``; None where none fits."""
    return min(
        orders(array.shape, like.shape),
        key=lambda order: np.linalg.norm(array.transpose(order) - like),
        default=None,
    )


def closest(array: np.ndarray, like: np.ndarray) -> np.ndarray | None:
    """``array`` with the axes in the order of `nearest`."""
    order = nearest(array, like)
    return None if order is None else array.transpose(order)


def all_closest(arrays: Sequence[np.ndarray], like: Sequence[np.ndarray]) -> tuple[np.ndarray, ...] | None:
    """One side's arrays with the other's axes; None where they do not correspond."""
    if len(arrays) != len(like):
        return None
    found = [closest(array, other) for array, other in zip(arrays, like, strict=True)]
    kept = tuple(np.ascontiguousarray(array) for array in found if array is not None)
    return kept if len(kept) == len(found) else None
