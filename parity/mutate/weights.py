"""What a conversion of weights gets wrong."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from parity.bridge import Link
from parity.links import SAME, TRANSPOSED
from parity.mutate.faults import Fault, Planted, Right, registry

FAULTS: list[Fault] = []
fault = registry(FAULTS)

Values = Mapping[str, np.ndarray]


@fault("transposed weight", "a square weight is not transposed")
def _transposed(given: Right) -> Iterator[Planted]:
    def square(link: Link) -> bool:
        shape = link.leaf.shape
        return _is_weight(link, 2) and len(shape) == 2 and shape[0] == shape[1] and "Embed" not in link.leaf.kind

    return _spoiled(given, square, np.transpose)


@fault("flatten order", "the weight behind a flattened image keeps torch's order of channels")
def _flattened(given: Right) -> Iterator[Planted]:
    for link in given.bridge.links:
        image = link.way.image
        if image and image[2] > 1:
            yield _converted(given, _keeping_order(link), [link])


def _keeping_order(link: Link) -> Callable[[Values], Values]:
    def spoil(values: Values) -> Values:
        theirs = link.way.to_torch(values[link.leaf.name], link.source.cut)
        way = SAME if theirs.shape == link.leaf.shape else TRANSPOSED
        return {**values, link.leaf.name: way.to_flax(theirs, link.leaf.shape)}

    return spoil


@fault("mirrored kernel", "a convolution is taken for a correlation: its kernel runs backwards")
def _mirrored(given: Right) -> Iterator[Planted]:
    return _spoiled(given, _is_kernel, lambda x: x[::-1, ::-1])


@fault("kernel height and width", "height and width of a kernel are exchanged")
def _turned(given: Right) -> Iterator[Planted]:
    return _spoiled(given, _is_kernel, lambda x: np.swapaxes(x, 0, 1))


@fault("missing bias", "a bias is not carried over")
def _no_bias(given: Right) -> Iterator[Planted]:
    return _spoiled(given, lambda link: link.source.keys[0].endswith("bias"), np.zeros_like)


@fault("weights of another layer", "two layers of one shape are exchanged")
def _other_layer(given: Right) -> Iterator[Planted]:
    links = [link for link in given.bridge.links if not link.leaf.statistic]
    for place, first in enumerate(links):
        for second in links[place + 1 :]:
            same = first.leaf.path[-1] == second.leaf.path[-1] and first.leaf.shape == second.leaf.shape
            if same and len(first.leaf.shape) > 1:
                yield _exchanged(given, first, second)


@fault("norm weight and bias", "scale and bias of a norm are exchanged")
def _norm_swapped(given: Right) -> Iterator[Planted]:
    return _swapped(given, ("weight", "scale"), ("bias",), statistic=False)


@fault("running mean and variance", "the running statistics are exchanged")
def _statistics_swapped(given: Right) -> Iterator[Planted]:
    return _swapped(given, ("running_mean", "mean"), ("running_var", "var"), statistic=True)


@fault("running statistics not loaded", "the running statistics stay those of a fresh module")
def _statistics_fresh(given: Right) -> Iterator[Planted]:
    return _spoiled(given, lambda link: link.source.keys[0].endswith("running_var"), np.ones_like)


@fault("half precision weights", "a weight went through float16")
def _half(given: Right) -> Iterator[Planted]:
    return _spoiled(given, lambda link: len(link.leaf.shape) > 1, lambda x: x.astype(np.float16).astype(x.dtype))


def _is_weight(link: Link, rank: int) -> bool:
    name = link.source.keys[0].split(".")[-1]
    return name.startswith(("weight", "in_proj_weight")) and len(link.source.cut) == rank


def _is_kernel(link: Link) -> bool:
    return _is_weight(link, 4)


def _spoiled(
    given: Right, wanted: Callable[[Link], bool], change: Callable[[np.ndarray], np.ndarray]
) -> Iterator[Planted]:
    """The pairs with one of the wanted weights changed, where that keeps its shape and makes a difference."""
    values = given.bridge.to_flax(given.weights)
    for link in filter(wanted, given.bridge.links):
        before = values[link.leaf.name]
        after = change(before)
        if after.shape == before.shape and not np.allclose(after, before, rtol=1e-6):
            yield _converted(given, _changing(link.leaf.name, change), [link])


def _changing(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Values], Values]:
    return lambda values: {**values, name: change(np.asarray(values[name]))}


def _swapped(given: Right, first: Sequence[str], second: Sequence[str], *, statistic: bool) -> Iterator[Planted]:
    """The pairs with two variables of one layer exchanged, each under any of some names."""
    links = {link.leaf.path: link for link in given.bridge.links if link.leaf.statistic == statistic}
    for path, link in links.items():
        if path[-1] in first and len(link.leaf.shape) == 1:
            beside = (links[other] for other in links if other[:-1] == path[:-1] and other[-1] in second)
            other = next(beside, None)
            if other and other.leaf.shape == link.leaf.shape:
                yield _exchanged(given, link, other)


def _exchanged(given: Right, first: Link, second: Link) -> Planted:
    one, other = first.leaf.name, second.leaf.name
    return _converted(given, lambda values: {**values, one: values[other], other: values[one]}, [first, second])


def _converted(given: Right, change: Callable[[Values], Values], links: Sequence[Link]) -> Planted:
    """The pair with a conversion of weights that spoils those of some links."""
    pair = dataclasses.replace(given.pair, weights=lambda state: change(given.bridge.to_flax(state)))
    keys = {link.source.name for link in links}
    owners = {key.split(" + ")[0].rpartition(".")[0] for key in keys}
    return Planted(pair, frozenset({"weights", "layer", "glue"}), frozenset(owners | keys))
