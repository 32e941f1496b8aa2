"""Settles what shapes leave open by running the port in every way: torch's outputs say which is right.

Nothing here needs torch: what it returned may come from another machine.
"""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from parity.align import error, nearest, orders
from parity.flax_side import FlaxSide
from parity.links import TRANSPOSED, Bridge, Link, Way
from parity.recording import Recording
from parity.ways import flattened

# Far above rounding, far below what another order of axes makes.
AGREES = 1e-6
# A layer that is wrong otherwise, too, still comes much nearer with the right order than with another.
NEARER = 0.5
# So many models are run for what no layer alone decides.
MOST = 64


class Trials:
    """The port on one batch, in evaluation, with torch's weights laid in other ways.

    Args:
      flax: the port's side; its weights change.
      weights: of torch.
      wanted: what torch returns in evaluation, by name.
      seed: of the batch.
    """

    def __init__(
        self, flax: FlaxSide, weights: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], seed: int
    ) -> None:
        self.flax, self.weights, self.wanted = flax, weights, wanted
        self.inputs, _ = flax.batch(seed, 0)
        self.agrees = AGREES if flax.dtype == jnp.float64 else 1e-2
        self.run = jax.jit(self._run)

    def _run(self, params: Any, stats: Any, inputs: Any) -> dict[str, Any]:
        made, _, _ = self.flax.forward(params, stats, inputs, train=False)
        return self.flax.named(made, {name: value.shape for name, value in self.wanted.items()})

    def made(self, bridge: Bridge) -> dict[str, np.ndarray]:
        """What the port returns."""
        self.flax.load(bridge.to_flax(self.weights))
        made = self.run(self.flax.model.params, self.flax.model.stats, self.inputs)
        return {name: np.asarray(value) for name, value in made.items()}

    def error(self, bridge: Bridge) -> float:
        """Of the port's outputs, in whatever order of axes."""
        errors = (error([value], [self.wanted[name]]) for name, value in self.made(bridge).items())
        return max(errors, default=0.0)

    def found(self, bridge: Bridge, left: Sequence[Sequence[Link]]) -> Bridge | None:
        """The first way to lay some classes of weights under which the port agrees."""
        return next((trial for trial in _ways(bridge, left) if self.error(trial) <= self.agrees), None)

    def best(self, bridge: Bridge, left: Sequence[Sequence[Link]]) -> tuple[Bridge, list[str]]:
        """The way under which the port agrees, or else is clearly nearer; where none is, what to say of that."""
        plain = self.error(bridge)
        if plain <= self.agrees:
            return bridge, []
        errors = [(self.error(trial), trial) for trial in _ways(bridge, left)]
        least, trial = min(errors, key=lambda found: found[0], default=(plain, bridge))
        if least <= self.agrees or least < NEARER * plain:
            return trial, []
        return bridge, [undecided(links) for links in left]

    def output_orders(self, bridge: Bridge) -> dict[str, tuple[int, ...]]:
        """The orders of axes that bring the port's outputs nearest to torch's, where several fit."""
        shapes = jax.eval_shape(self._run, self.flax.model.params, self.flax.model.stats, self.inputs)
        open_ = [
            name for name, made in shapes.items() if len(list(orders(made.shape, self.wanted[name].shape))) > 1
        ]
        made = self.made(bridge) if open_ else {}
        found = {name: nearest(made[name], self.wanted[name]) for name in open_}
        return {name: order for name, order in found.items() if order is not None}


def settle(
    bridge: Bridge, flax: FlaxSide, reference: Recording, weights: Mapping[str, np.ndarray]
) -> tuple[Bridge, list[str]]:
    """The bridge with one way for every weight, from what torch's model returned alone.

    Args:
      bridge: what `parity.bridge.infer` made of names and shapes.
      flax: the port's side; takes the orders of axes of its outputs.
      reference: of torch.
      weights: of torch.

    Returns:
      The bridge, and what is still open, with the rule that settles it.
    """
    wanted = {leaf: reference.tensors[key] for leaf, key in reference.phase("eval_forward").items()}
    trials, told = Trials(flax, weights, wanted, reference.facts["seed"]), []
    bridge = _flattening(bridge, reference.facts["images"])
    left = classes(bridge.links)
    if left or _ordered(bridge):
        bridge, told = trials.best(bridge, left)
    flax.orders = trials.output_orders(bridge) if any(value.ndim > 2 for value in wanted.values()) else {}
    return settled(bridge), told


def _flattening(bridge: Bridge, images: Mapping[str, Sequence[Sequence[int]]]) -> Bridge:
    """The bridge with the ways in which the port may flatten images in front of a Linear, the likeliest first."""
    links = []
    for link in bridge.links:
        found = images.get(link.source.name, ()) if link.way == TRANSPOSED and link.how != "rule" else ()
        ways = [flattened(shape, order, link.source.shape[0]) for shape in found for order in _turns(len(shape))]
        links.append(dataclasses.replace(link, others=(*link.others, *ways)))
    return dataclasses.replace(bridge, links=tuple(links))


def _turns(rank: int) -> list[tuple[int, ...]]:
    """The orders in which an image may be flattened, but torch's own: channels last first."""
    same = tuple(range(rank))
    last = (*same[1:], 0)
    return [last, *(order for order in itertools.permutations(same) if order not in (same, last))]


def settled(bridge: Bridge) -> Bridge:
    """Without the ways that were not chosen."""
    links = tuple(dataclasses.replace(link, others=()) for link in bridge.links)
    return dataclasses.replace(bridge, links=links)


def undecided(links: Sequence[Link]) -> str:
    """What to say of weights that no run has told the axes of."""
    names = ", ".join(link.leaf.name for link in links)
    first = links[0]
    rule = f"Rule({first.source.name!r}, {first.leaf.name!r}, perm=(...))"
    return (
        f"{names}: the shape allows several orders of axes and no run tells which; taken is "
        f"{first.way.perm or 'as torch has it'}. If it is another, give rules=[{rule}]"
    )


def classes(links: Sequence[Link]) -> list[list[Link]]:
    """Open links by the class that holds the variable: all of one class lie alike."""
    found: dict[Any, list[Link]] = {}
    for link in links:
        if link.others:
            found.setdefault((link.leaf.kind, link.leaf.path[-1], link.way, link.others), []).append(link)
    return list(found.values())


def choices(links: Sequence[Link]) -> list[Way]:
    """The ways that a class of links may take."""
    return list(dict.fromkeys((links[0].way, *links[0].others)))


def laid(bridge: Bridge, links: Sequence[Link], way: Way, how: str = "") -> Bridge:
    """The bridge with another way for some links."""
    names = {link.leaf.name for link in links}
    changed = [
        dataclasses.replace(link, way=way, how=how or f"{link.how}, axes by probing")
        if link.leaf.name in names and way != link.way
        else link
        for link in bridge.links
    ]
    return dataclasses.replace(bridge, links=tuple(changed))


def _ways(bridge: Bridge, left: Sequence[Sequence[Link]]) -> Iterator[Bridge]:
    """Other ways for some classes, and other layers for what order alone had matched."""
    for chosen in itertools.islice(itertools.product(*map(choices, left)), MOST):
        trial = bridge
        for links, way in zip(left, chosen, strict=True):
            trial = laid(trial, links, way)
        yield trial
    for units in _interchangeable(bridge.links):
        for order in itertools.islice(itertools.permutations(range(len(units))), 1, MOST):
            yield _exchanged(bridge, units, order)


def _ordered(bridge: Bridge) -> bool:
    return any(link.how == "shape and order" for link in bridge.links)


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
