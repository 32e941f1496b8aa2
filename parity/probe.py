"""Settles by running both models what shapes leave open: the axes of a square weight, and of a flattened image.

A layer of the port is fed what torch's layer was fed; the way to lay the axes of its weights that makes it return
what torch's returned is the right one. Rules and layouts that variables carry have decided before, and always win.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from jaxdl.nn.layout import Layout
from parity import masks, matching, torch_side
from parity.align import all_closest, nearest, orders
from parity.flax_side import FlaxSide
from parity.links import TRANSPOSED, Bridge, Link, Way
from parity.pair import PairError
from parity.recording import Recording
from parity.torch_side import TorchSide
from parity.trace import Call, flax_calls, forced, torch_calls
from parity.verdict import relative

# Far above rounding, far below what another order of axes makes.
AGREES = 1e-6
# A layer that is wrong otherwise, too, still comes much nearer with the right order than with another.
NEARER = 0.5
# So many models are run for what no layer alone decides.
TRIALS = 64


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
    probe = _Probe(flax, TorchSide(flax.pair, module, weights), weights, seed)
    before = flax.model.params, flax.model.stats
    try:
        return probe.settled(bridge)
    except PairError:  # the two cannot be compared at all: what records them says why
        return bridge, []
    finally:
        flax.model.params, flax.model.stats = before


class _Probe:
    """Both models on one batch, in evaluation."""

    def __init__(self, flax: FlaxSide, side: TorchSide, weights: Mapping[str, np.ndarray], seed: int) -> None:
        self.flax, self.side, self.weights, self.seed = flax, side, weights, seed
        self.inputs, _ = flax.batch(seed, 0)
        self.agrees = AGREES if flax.dtype == jnp.float64 else 1e-2
        inputs, _ = side.batch(seed, 0)
        with torch.no_grad():
            made = torch_side.outputs(side.call(side.fresh().eval(), inputs))
        self.wanted = {name: torch_side.numpy(value) for name, value in made.items()}
        self.run = jax.jit(self._run)

    def _run(self, params: Any, stats: Any, inputs: Any) -> dict[str, Any]:
        made, _, _ = self.flax.forward(params, stats, inputs, train=False)
        return self.flax.named(made, {name: value.shape for name, value in self.wanted.items()})

    def made(self, bridge: Bridge) -> dict[str, np.ndarray]:
        """What the port returns with torch's weights."""
        self.flax.load(bridge.to_flax(self.weights))
        made = self.run(self.flax.model.params, self.flax.model.stats, self.inputs)
        return {name: np.asarray(value) for name, value in made.items()}

    def error(self, bridge: Bridge) -> float:
        """Of the port's outputs, in whatever order of axes."""
        return max(
            (matching.error([value], [self.wanted[name]]) for name, value in self.made(bridge).items()),
            default=0.0,
        )

    def settled(self, bridge: Bridge) -> tuple[Bridge, list[str]]:
        images = any(value.ndim > 2 for value in self.wanted.values())
        unsure = [link for link in bridge.links if link.how == "shape and order"]
        flat = [link for link in bridge.links if _may_be_flattened(link)]
        calls = torch_calls(self.side, seed=self.seed, train=False) if flat else []
        flat = [link for link in flat if any(_flat_shapes(link, calls))]
        told: list[str] = []
        open_ = flat or unsure or any(link.others for link in bridge.links)
        if open_ and self.error(bridge) > self.agrees:
            bridge, told = self._ask(bridge, flat, calls)
        bridge = dataclasses.replace(
            bridge, links=tuple(dataclasses.replace(link, others=()) for link in bridge.links)
        )
        if images:
            self.flax.orders = self._output_orders(bridge)
        return bridge, told

    def _ask(self, bridge: Bridge, flat: Sequence[Link], calls: Sequence[Call]) -> tuple[Bridge, list[str]]:
        """What is open, settled: the layers one by one, then what only the whole model decides."""
        calls = calls or torch_calls(self.side, seed=self.seed, train=False)
        told, left = [], []
        for links in _classes(bridge.links):
            way = self._by_layer(bridge, links, calls)
            if way is None:
                left.append(links)
            else:
                bridge = _with(bridge, links, way)
        for link in flat:
            bridge, line = self._flatten(bridge, link, calls)
            told += [line] if line else []
        if self.error(bridge) > self.agrees:
            found = next((trial for trial in self._trials(bridge, left) if self.error(trial) <= self.agrees), None)
            if found:
                return found, told
            for links in left:
                names = ", ".join(link.leaf.name for link in links)
                told.append(
                    f"{names}: the shape allows several orders of axes and no run of the layer tells which"
                )
        return bridge, told

    def _by_layer(self, bridge: Bridge, links: Sequence[Link], calls: Sequence[Call]) -> Way | None:
        """The way that makes the layers with these weights agree with torch's; None if none is clearly nearer."""
        errors: dict[Way, float] = {}
        for way in dict.fromkeys((links[0].way, *links[0].others)):
            self.flax.load(_with(bridge, links, way).to_flax(self.weights))
            ours = flax_calls(self.flax, {}, seed=self.seed, train=False)
            given = dict(_feed(links, calls, ours))
            if not given:
                return None
            made = forced(
                self.flax, {}, {name: pair[:2] for name, pair in given.items()}, seed=self.seed, train=False
            )
            errors[way] = max(
                matching.error([mine], [theirs])
                for name, (_, _, outputs) in given.items()
                for mine, theirs in zip(made[name][1], outputs, strict=True)
            )
        best, *rest = sorted(errors, key=lambda way: errors[way])
        clear = errors[best] <= self.agrees or (rest and errors[best] < NEARER * errors[rest[0]])
        return best if clear else None

    def _flatten(self, bridge: Bridge, link: Link, calls: Sequence[Call]) -> tuple[Bridge, str]:
        """How the port flattens the image in front of a Linear, from what reaches it."""
        self.flax.load(bridge.to_flax(self.weights))
        ours = flax_calls(self.flax, {}, seed=self.seed, train=False)
        others = [other for other in bridge.links if other is not link and len(other.leaf.shape) > 1]
        given = {name: (None, returned) for name, (_, returned, _) in _feed(others, calls, ours)}
        place = f"{'.'.join(link.leaf.path[:-1])}#0"
        mine = next((call for call in ours if call.name == place), None)
        theirs = _called(calls, _owner(link))
        if mine is None or theirs is None:
            return bridge, ""
        records = forced(self.flax, {}, given | {place: (None, mine.outputs)}, seed=self.seed, train=False)
        received, wanted = records[place][0][0], theirs.inputs[0]
        if received.shape != wanted.shape:
            return bridge, ""
        plain = relative(received, wanted)
        errors = {
            (shape, perm): relative(received, _moved(wanted, shape, perm))
            for shape in _flat_shapes(link, calls)
            for perm in itertools.permutations(range(len(shape)))
        }
        shape, perm = min(errors, key=lambda key: errors[key])
        error = errors[shape, perm]
        if plain <= self.agrees or error >= NEARER * plain:
            return bridge, ""
        bridge = _with(bridge, [link], _flat_way(shape, perm, link.source.shape[0]), "probing")
        names = "CHW" if len(shape) == 3 else "CL" if len(shape) == 2 else "CDHW"
        order = "".join(names[axis] for axis in perm)
        return bridge, (
            f"{link.leaf.name}: the port flattens ({', '.join(order)}) where torch flattens ({', '.join(names)}); "
            f"a conversion must do weight.reshape(out, {', '.join(map(str, shape))})"
            f".transpose{(0, *(axis + 1 for axis in perm))}.reshape(out, -1).T"
        )

    def _trials(self, bridge: Bridge, left: Sequence[Sequence[Link]]) -> Iterator[Bridge]:
        """Other ways for what no layer decided, and other layers for what order alone had matched."""
        choices = [[(links, way) for way in dict.fromkeys((links[0].way, *links[0].others))] for links in left]
        for chosen in itertools.islice(itertools.product(*choices), TRIALS):
            trial = bridge
            for links, way in chosen:
                trial = _with(trial, links, way)
            yield trial
        for units in _interchangeable(bridge.links):
            for order in itertools.islice(itertools.permutations(range(len(units))), 1, TRIALS):
                yield _exchanged(bridge, units, order)

    def _output_orders(self, bridge: Bridge) -> dict[str, tuple[int, ...]]:
        """The orders of axes that bring the port's outputs nearest to torch's, where several fit."""
        shapes = jax.eval_shape(self._run, self.flax.model.params, self.flax.model.stats, self.inputs)
        open_ = [
            name for name, made in shapes.items() if len(list(orders(made.shape, self.wanted[name].shape))) > 1
        ]
        made = self.made(bridge) if open_ else {}
        found = {name: nearest(made[name], self.wanted[name]) for name in open_}
        return {name: order for name, order in found.items() if order is not None}


def settle_masks(flax: FlaxSide, reference: Recording, seed: int) -> None:
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
    choices = [
        [None] if other is None else list(orders(other, shape))
        for shape, other in zip(shapes, theirs, strict=True)
    ]
    if all(len(found) == 1 for found in choices):
        return
    names = reference.phase("train_forward")

    @jax.jit
    def run(params: Any, stats: Any, inputs: Any, draws: Any) -> Any:
        return flax.outputs(flax.forward(params, stats, inputs, True, draws)[0], noted["outputs"])

    def error(chosen: Sequence[Any]) -> float:
        flax.mask_orders = list(chosen)
        made = run(params, stats, inputs, flax.draws(seed, 0, params, stats, inputs, noted))
        return max(relative(np.asarray(value), reference.tensors[names[name]]) for name, value in made.items())

    flax.mask_orders = list(min(_combinations(choices), key=_remembered(error)))


def _combinations(choices: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    """All, if they are few; else every call with its first choice, or all with the same later one."""
    if math.prod(map(len, choices)) <= TRIALS:
        return list(itertools.product(*choices))
    most = max(map(len, choices))
    return [tuple(found[min(place, len(found) - 1)] for found in choices) for place in range(most)]


def _remembered(error: Callable[[Any], float]) -> Callable[[Any], float]:
    """Zero for all that comes behind the first that agrees: it need not be run."""
    done: list[bool] = []

    def cheap(chosen: Any) -> float:
        if done:
            return math.inf
        found = error(chosen)
        if found <= AGREES:
            done.append(True)
        return found

    return cheap


def _owner(link: Link) -> str:
    return link.source.keys[0].rpartition(".")[0]


def _called(calls: Iterable[Call], path: str) -> Call | None:
    return next((call for call in calls if call.path == path and call.index == 0), None)


def _classes(links: Sequence[Link]) -> list[list[Link]]:
    """Open links by the class that holds the variable: all of one class lie alike."""
    found: dict[Any, list[Link]] = {}
    for link in links:
        if link.others:
            found.setdefault((link.leaf.kind, link.leaf.path[-1], link.way, link.others), []).append(link)
    return list(found.values())


def _with(bridge: Bridge, links: Sequence[Link], way: Way, how: str = "") -> Bridge:
    names = {link.leaf.name for link in links}
    changed = [
        dataclasses.replace(link, way=way, how=how or f"{link.how}, axes by probing")
        if link.leaf.name in names and way != link.way
        else link
        for link in bridge.links
    ]
    return dataclasses.replace(bridge, links=tuple(changed))


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


def _flat_shapes(link: Link, calls: Sequence[Call]) -> list[tuple[int, ...]]:
    """The images (C, H, W) that flattened are as wide as a Linear's input, among what torch's layers returned."""
    theirs = _called(calls, _owner(link))
    if theirs is None or not theirs.inputs or theirs.inputs[0].ndim != 2:
        return []
    width = theirs.inputs[0].shape[1]
    shapes = {array.shape[1:]: None for call in calls for array in (*call.inputs, *call.outputs) if array.ndim > 2}
    channels = {shape[0] for shape in shapes}
    found = [shape for shape in shapes if math.prod(shape) == width and shape[0] > 1 and math.prod(shape[1:]) > 1]
    # Pooling by a function leaves no call behind it: squares of what is left of the width for each channel.
    sides = {count: math.isqrt(width // count) for count in channels if count > 1 and width % count == 0}
    found += [(count, side, side) for count, side in sides.items() if side > 1 and count * side * side == width]
    return list(dict.fromkeys(found))


def _moved(array: np.ndarray, shape: tuple[int, ...], perm: tuple[int, ...]) -> np.ndarray:
    return array.reshape(-1, *shape).transpose(0, *(axis + 1 for axis in perm)).reshape(len(array), -1)


def _flat_way(shape: tuple[int, ...], perm: tuple[int, ...], features: int) -> Way:
    """torch's (out, C*H*W) as the port's (axes in its order, joined, out)."""
    split = (*(shape[axis] for axis in perm), features)
    back = tuple(int(axis) for axis in np.argsort(perm))
    return Way(layout=Layout((len(shape), *back), split=split, joined=(1, len(shape))))


def _interchangeable(links: Sequence[Link]) -> list[list[list[Link]]]:
    """Places of one shape that only the order of definition told apart, where they are few."""
    places: dict[str, list[Link]] = {}
    for link in links:
        if link.how == "shape and order":
            places.setdefault(".".join(link.leaf.path[:-1]), []).append(link)
    alike: dict[Any, list[list[Link]]] = {}
    for own in places.values():
        key = tuple((link.leaf.path[-1], link.leaf.shape, link.source.cut) for link in own)
        alike.setdefault(key, []).append(own)
    return [group for group in alike.values() if 1 < len(group) <= 4]


def _exchanged(bridge: Bridge, units: Sequence[Sequence[Link]], order: Sequence[int]) -> Bridge:
    sources = {
        own.leaf.name: other.source
        for place, from_ in enumerate(order)
        for own, other in zip(units[place], units[from_], strict=True)
    }
    changed = [
        dataclasses.replace(link, source=sources[link.leaf.name], how="shape and probing")
        if link.leaf.name in sources
        else link
        for link in bridge.links
    ]
    return dataclasses.replace(bridge, links=tuple(changed))
