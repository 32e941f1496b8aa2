"""Settles by running both models what shapes leave open: the axes of a square weight, and of a flattened image.

A layer of the port is fed what torch's layer was fed; the way to lay the axes of its weights that makes it return
what torch's returned is the right one. Rules and layouts that variables carry have decided before, and always win.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch

from parity import torch_side
from parity.align import all_closest, error
from parity.flax_side import FlaxSide
from parity.forcing import forced
from parity.links import TRANSPOSED, Bridge, Link, Way
from parity.pair import PairError
from parity.torch_side import TorchSide
from parity.trace import Call, flax_calls, torch_calls
from parity.trials import NEARER, Trials, choices, classes, laid, settled, undecided
from parity.verdict import relative
from parity.ways import flat_images, flattened


def settle(
    bridge: Bridge, flax: FlaxSide, module: torch.nn.Module, weights: Mapping[str, np.ndarray], seed: int
) -> tuple[Bridge, list[str]]:
    """The bridge with one way for every weight, and the order of axes of the port's outputs.

    Args:
      bridge: what `infer` made of names and shapes.
      flax: the port's side; its weights are as before when this returns.
      module: torch's.
      weights: of torch, to probe with.
      seed: of the batch.

    Returns:
      The bridge, and what a person should know of it.
    """
    before = flax.model.params, flax.model.stats
    try:
        return _Probe(flax, TorchSide(flax.pair, module, weights), weights, seed).settled(bridge)
    except PairError:  # the two cannot be compared at all: what records them says why
        return bridge, []
    finally:
        flax.model.params, flax.model.stats = before


class _Probe:
    """Both models on one batch, in evaluation."""

    def __init__(self, flax: FlaxSide, side: TorchSide, weights: Mapping[str, np.ndarray], seed: int) -> None:
        self.flax, self.side, self.weights, self.seed = flax, side, weights, seed
        inputs, _ = side.batch(seed, 0)
        with torch.no_grad():
            made = torch_side.outputs(side.call(side.fresh().eval(), inputs))
        wanted = {name: torch_side.numpy(value) for name, value in made.items()}
        self.trials = Trials(flax, weights, wanted, seed)

    def settled(self, bridge: Bridge) -> tuple[Bridge, list[str]]:
        flat = [link for link in bridge.links if _may_be_flattened(link)]
        calls = torch_calls(self.side, seed=self.seed, train=False) if flat else []
        flat = [link for link in flat if _images(link, calls)]
        told: list[str] = []
        open_ = flat or any(link.others or link.how == "shape and order" for link in bridge.links)
        if open_ and self.trials.error(bridge) > self.trials.agrees:
            bridge, told = self._ask(bridge, flat, calls)
        bridge = settled(bridge)
        if any(value.ndim > 2 for value in self.trials.wanted.values()):
            self.flax.orders = self.trials.output_orders(bridge)
        return bridge, told

    def _ask(self, bridge: Bridge, flat: Sequence[Link], calls: Sequence[Call]) -> tuple[Bridge, list[str]]:
        """What is open, settled: the layers one by one, then what only the whole model decides."""
        calls = calls or torch_calls(self.side, seed=self.seed, train=False)
        told, left = [], []
        for links in classes(bridge.links):
            way = self._by_layer(bridge, links, calls)
            if way is None:
                left.append(links)
            else:
                bridge = laid(bridge, links, way)
        for link in flat:
            bridge, line = self._flatten(bridge, link, calls)
            told += [line] if line else []
        if self.trials.error(bridge) > self.trials.agrees:
            found = self.trials.found(bridge, left)
            return (found, told) if found else (bridge, [*told, *map(undecided, left)])
        return bridge, told

    def _by_layer(self, bridge: Bridge, links: Sequence[Link], calls: Sequence[Call]) -> Way | None:
        """The way that makes the layers with these weights agree with torch's; None if none is clearly nearer."""
        errors: dict[Way, float] = {}
        for way in choices(links):
            self.flax.load(laid(bridge, links, way).to_flax(self.weights))
            ours = flax_calls(self.flax, {}, seed=self.seed, train=False)
            given = dict(_feed(links, calls, ours))
            if not given:
                return None
            fed = {name: pair[:2] for name, pair in given.items()}
            made, _ = forced(self.flax, {}, fed, seed=self.seed, train=False)
            errors[way] = max(error(made[name][1], outputs) for name, (_, _, outputs) in given.items())
        best, *rest = sorted(errors, key=lambda way: errors[way])
        clear = errors[best] <= self.trials.agrees or (rest and errors[best] < NEARER * errors[rest[0]])
        return best if clear else None

    def _flatten(self, bridge: Bridge, link: Link, calls: Sequence[Call]) -> tuple[Bridge, str]:
        """How the port flattens the image in front of a Linear, from what reaches it."""
        theirs = _called(calls, _owner(link))
        received = self._received(bridge, link, calls)
        if theirs is None or received is None or received.shape != theirs.inputs[0].shape:
            return bridge, ""
        wanted = theirs.inputs[0]
        plain = relative(received, wanted)
        errors = {
            (shape, perm): relative(received, _moved(wanted, shape, perm))
            for shape in _images(link, calls)
            for perm in itertools.permutations(range(len(shape)))
        }
        shape, perm = min(errors, key=lambda key: errors[key])
        if plain <= self.trials.agrees or errors[shape, perm] >= NEARER * plain:
            return bridge, ""
        way = flattened(shape, perm, link.source.shape[0])
        return laid(bridge, [link], way, "probing"), _told(link, shape, perm)

    def _received(self, bridge: Bridge, link: Link, calls: Sequence[Call]) -> np.ndarray | None:
        """What reaches a layer of the port when all layers before it return what torch's returned."""
        self.flax.load(bridge.to_flax(self.weights))
        ours = flax_calls(self.flax, {}, seed=self.seed, train=False)
        others = [other for other in bridge.links if other is not link and len(other.leaf.shape) > 1]
        given = {name: (None, returned) for name, (_, returned, _) in _feed(others, calls, ours)}
        place = f"{'.'.join(link.leaf.path[:-1])}#0"
        mine = next((call for call in ours if call.name == place), None)
        if mine is None:
            return None
        fed = given | {place: (None, mine.outputs)}
        records, _ = forced(self.flax, {}, fed, seed=self.seed, train=False)
        return records[place][0][0]


def _told(link: Link, shape: tuple[int, ...], perm: tuple[int, ...]) -> str:
    names = "CHW" if len(shape) == 3 else "CL" if len(shape) == 2 else "CDHW"
    order = "".join(names[axis] for axis in perm)
    return (
        f"{link.leaf.name}: the port flattens ({', '.join(order)}) where torch flattens ({', '.join(names)}); "
        f"a conversion must do weight.reshape(out, {', '.join(map(str, shape))})"
        f".transpose{(0, *(axis + 1 for axis in perm))}.reshape(out, -1).T"
    )


def _owner(link: Link) -> str:
    return link.source.keys[0].rpartition(".")[0]


def _called(calls: Iterable[Call], path: str) -> Call | None:
    return next((call for call in calls if call.path == path and call.index == 0), None)


Arrays = tuple[np.ndarray, ...]


def _feed(
    links: Iterable[Link], calls: Sequence[Call], ours: Sequence[Call]
) -> Iterator[tuple[str, tuple[Arrays, Arrays, Arrays]]]:
    """For the layers with these weights: torch's inputs and outputs with the port's axes, and its own outputs."""
    for link in links:
        path = ".".join(link.leaf.path[:-1])
        for theirs in [call for call in calls if call.path == _owner(link)]:
            mine = next((call for call in ours if call.path == path and call.index == theirs.index), None)
            if mine is None:
                continue
            given, made = all_closest(theirs.inputs, mine.inputs), all_closest(theirs.outputs, mine.outputs)
            if given is not None and made is not None:
                yield mine.name, (given, made, theirs.outputs)


def _may_be_flattened(link: Link) -> bool:
    return link.way == TRANSPOSED and link.how != "rule" and len(link.leaf.shape) == 2


def _images(link: Link, calls: Sequence[Call]) -> list[tuple[int, ...]]:
    """The images (C, H, W) that flattened are as wide as a Linear's input, among what torch's layers returned."""
    theirs = _called(calls, _owner(link))
    if theirs is None or not theirs.inputs or theirs.inputs[0].ndim != 2:
        return []
    shapes = [array.shape for call in calls for array in (*call.inputs, *call.outputs)]
    return flat_images(theirs.inputs[0].shape[1], shapes)


def _moved(array: np.ndarray, shape: tuple[int, ...], perm: tuple[int, ...]) -> np.ndarray:
    return array.reshape(-1, *shape).transpose(0, *(axis + 1 for axis in perm)).reshape(len(array), -1)
