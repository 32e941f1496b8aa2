"""Parts of a data set: chosen rows, a number of labelled images, a share that is held out."""

import dataclasses
from typing import Any

import numpy as np

from jaxdl.data.sources import Source, Split


def take(split: Split, rows: np.ndarray) -> dict[str, Any]:
    """The rows (n,) of a split, in this order; images that are decoded lazily stay so."""
    return {
        name: array[rows] if isinstance(array, np.ndarray) else array.subset(rows) for name, array in split.items()
    }


def labelled(source: Source, count: int, seed: int) -> Source:
    """The data set with ``count`` training images, of each class as many as of the next, or one more.

    A class that has fewer gives what it has, and the others fill up.

    Raises:
      ValueError: fewer images than classes, or more than there are.
    """
    labels = np.asarray(source.train["label"])
    present = len(np.unique(labels))
    if not present <= count <= len(labels):
        raise ValueError(
            f"expected from {present} (one a class) to {len(labels)} training images of {source.name}; got {count}"
        )
    shuffled = np.random.default_rng([seed, count]).permutation(len(labels))
    rank = np.empty(len(labels), np.int64)  # the how-manyth of its class an image is, in shuffled order
    for name in np.unique(labels):
        own = shuffled[labels[shuffled] == name]
        rank[own] = np.arange(len(own))
    chosen = shuffled[np.argsort(rank[shuffled], kind="stable")][:count]
    return dataclasses.replace(source, train=take(source.train, np.sort(chosen)))


def repeated(source: Source, examples: int) -> Source:
    """The data set with its training images over and over, until there are at least ``examples`` of them.

    So an epoch of few images is as many updates as one of many.
    """
    have = len(source.train["label"])
    times = -(-examples // have)
    if times <= 1:
        return source
    return dataclasses.replace(source, train=take(source.train, np.tile(np.arange(have), times)))


def hold_out(source: Source, share: float, seed: int) -> tuple[Source, dict[str, Any]]:
    """The data set without a share of each class's training images, and these.

    Of a class with at least two images at least one is held out and one stays.

    Raises:
      ValueError: a share that is not between 0 and 1, or no class with two images.
    """
    if not 0 < share < 1:
        raise ValueError(f"--validation expects a share between 0 and 1; got {share}")
    labels = np.asarray(source.train["label"])
    shuffled = np.random.default_rng([seed, len(labels)]).permutation(len(labels))
    held = []
    for name in np.unique(labels):
        own = shuffled[labels[shuffled] == name]
        held.append(own[: min(max(round(share * len(own)), 1), len(own) - 1)])
    rows = np.sort(np.concatenate(held))
    if not len(rows):
        raise ValueError(f"{source.name} has no class with two training images, of which one could be held out")
    kept = np.setdiff1d(np.arange(len(labels)), rows)
    return dataclasses.replace(source, train=take(source.train, kept)), take(source.train, rows)
