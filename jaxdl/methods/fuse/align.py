"""Permutation alignment: the units of a model put in the order of another's, so that weights can be averaged.

The weights are those of a chain of layers under torch's names and in its layouts: outputs along the first axis,
inputs along the second, several neighbouring inputs for each channel where a map was flattened.
Source: Ainsworth, Hayase and Srinivasa 2022, "Git Re-Basin", algorithms 1 (weight matching) and 3 (merging many).
"""

from collections.abc import Mapping, Sequence

import numpy as np

Weights = Mapping[str, np.ndarray]  # "fc1.weight", "fc1.bias", ...
Orders = dict[str, np.ndarray]  # layer -> which unit comes first, second, ...

CHAINS = {"net": r"fc(\d+)", "cnn": r"(?:conv|fc)(\d+)"}


def match(reference: Weights, weights: Weights, chain: Sequence[str], seed: int = 0, rounds: int = 100) -> Orders:
    """The orders of the units of all hidden layers that bring the weights nearest to the reference's.

    Layer by layer, in random turns, the best order given the others is a linear assignment; it ends when a whole
    round changes nothing. The inner product of both weights grows in every step, so it does end.

    Args:
      reference, weights: of one architecture.
      chain: its layers, from the first to the last; the units of the last are the classes and stay.
      seed: of the turns.
      rounds: at most.
    """
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(seed)
    orders = {layer: np.arange(len(weights[f"{layer}.weight"])) for layer in chain[:-1]}
    for _ in range(rounds):
        changed = False
        for place in rng.permutation(len(orders)):
            layer: str = chain[int(place)]
            gains = _gains(
                reference, permuted(weights, chain, orders | {layer: _same(orders[layer])}), chain, place
            )
            rows, found = linear_sum_assignment(gains, maximize=True)
            before = gains[rows, orders[layer]].sum()
            if gains[rows, found].sum() > before + 1e-12 * max(abs(before), 1.0):
                orders[layer], changed = found, True
        if not changed:
            break
    return orders


def permuted(weights: Weights, chain: Sequence[str], orders: Orders) -> dict[str, np.ndarray]:
    """The same function with the units of its hidden layers in other orders.

    Args:
      weights: of the model.
      chain: its layers.
      orders: of some of them.
    """
    found = dict(weights)
    for place, layer in enumerate(chain):
        if layer in orders:
            order = orders[layer]
            found[f"{layer}.weight"] = found[f"{layer}.weight"][order]
            found[f"{layer}.bias"] = found[f"{layer}.bias"][order]
            after = f"{chain[place + 1]}.weight"
            found[after] = _by_unit(found[after], len(order))[:, order].reshape(found[after].shape)
    return found


def merge(members: Sequence[Weights], chain: Sequence[str], seed: int = 0, rounds: int = 100) -> list[Weights]:
    """The members, each with its units in the order that brings it nearest to the mean of the others.

    For two members this is `match`; for more, one after the other is matched until a round changes nothing.
    """
    rng, aligned = np.random.default_rng(seed), list(members)
    first = 1 if len(members) == 2 else 0  # of two, one stays as it is
    for _ in range(rounds):
        changed = False
        for place in first + rng.permutation(len(members) - first):
            others = [one for number, one in enumerate(aligned) if number != place]
            reference = {name: np.mean([one[name] for one in others], 0) for name in aligned[place]}
            orders = match(reference, aligned[place], chain, seed)
            if any((order != np.arange(len(order))).any() for order in orders.values()):
                aligned[place], changed = permuted(aligned[place], chain, orders), True
        if not changed:
            break
    return aligned


def distance(first: Weights, second: Weights) -> float:
    """The Euclidean distance between two sets of weights."""
    return float(np.sqrt(sum(np.square(first[name] - second[name]).sum() for name in first)))


def _gains(reference: Weights, weights: Weights, chain: Sequence[str], place: int) -> np.ndarray:
    """What it is worth to put unit j where the reference has unit i: (units, units)."""
    layer, after = chain[place], f"{chain[place + 1]}.weight"
    units = len(weights[f"{layer}.weight"])
    pairs = [
        (source[f"{layer}.weight"].reshape(units, -1), source[f"{layer}.bias"][:, None])
        for source in (reference, weights)
    ]
    gains = sum(theirs @ own.T for theirs, own in zip(*pairs, strict=True))
    theirs, own = (
        np.moveaxis(_by_unit(source[after], units), 1, 0).reshape(units, -1) for source in (reference, weights)
    )
    return np.asarray(gains + theirs @ own.T, np.float64)


def _by_unit(weight: np.ndarray, units: int) -> np.ndarray:
    """(out, in, ...) with the inputs that come from one unit in an axis of their own: (out, units, rest)."""
    return weight.reshape(len(weight), units, -1)


def _same(order: np.ndarray) -> np.ndarray:
    return np.arange(len(order))
