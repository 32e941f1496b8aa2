"""Carries weights between a torch state_dict and a Flax module, both ways: names, axes, and what has no counterpart.

Units of parameters (a torch module, a gate of an LSTM, the query of an attention) are matched with those of the port:
by the rules that are given, by name, and what is left by kind and shape in the order of definition. Every leaf is
accounted for, and everything that does not fit is raised at once.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdl.nn.layout import Layout


class BridgeError(ValueError):
    """Leaves that cannot be matched; all of them, one a line."""


@dataclasses.dataclass(frozen=True)
class Group:
    """A torch module with parameters or buffers of its own; plain data, so that it can be written to a file.

    Attributes:
      name: dotted path, empty for the root.
      kind: what class it is, see `parity.torch_side.KINDS`.
      leaves: local name -> shape.
      buffers: those of the leaves that are buffers.
      settings: number of layers and the like.
    """

    name: str
    kind: str
    leaves: dict[str, tuple[int, ...]]
    buffers: tuple[str, ...] = ()
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    def key(self, leaf: str) -> str:
        """The key of a leaf in the state_dict."""
        return f"{self.name}.{leaf}" if self.name else leaf


@dataclasses.dataclass(frozen=True)
class FlaxLeaf:
    """A floating-point variable of the port.

    Attributes:
      path: from the root.
      shape: of its value.
      kind: the class that holds it.
      statistic: the model itself updates it; the optimizer does not.
      layout: how its axes lie in torch, where the variable says so.
      transposed: the ``transpose_kernel`` of a transposed convolution.
    """

    path: tuple[str, ...]
    shape: tuple[int, ...]
    kind: str = ""
    statistic: bool = False
    layout: Layout | None = None
    transposed: bool = False

    @property
    def name(self) -> str:
        """Its dotted path."""
        return ".".join(self.path)


@dataclasses.dataclass(frozen=True)
class Way:
    """How one torch array becomes one Flax array: axes permuted, space mirrored, reshaped; or a jaxdl layout.

    Attributes:
      perm: of torch's axes; empty for none.
      mirrored: the axes of torch's array that run backwards.
      layout: instead of both.
    """

    perm: tuple[int, ...] = ()
    mirrored: tuple[int, ...] = ()
    layout: Layout | None = None

    def to_flax(self, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """torch's array with the axes of a Flax variable of this shape."""
        if self.layout:
            return self.layout.from_torch(array, shape)
        array = np.flip(array, self.mirrored) if self.mirrored else array
        return np.ascontiguousarray(array.transpose(self.perm) if self.perm else array).reshape(shape)

    def to_torch(self, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The inverse, for a torch array of this shape."""
        if self.layout:
            return self.layout.to_torch(array)
        if self.perm:
            array = array.reshape([shape[axis] for axis in self.perm]).transpose(np.argsort(self.perm))
        array = np.ascontiguousarray(array).reshape(shape)
        return np.ascontiguousarray(np.flip(array, self.mirrored)) if self.mirrored else array


SAME = Way()
TRANSPOSED = Way((1, 0))


@dataclasses.dataclass(frozen=True)
class Rule:
    """Says what `infer` should not have to find out.

    Attributes:
      torch: regular expression for the whole key of a torch parameter or buffer.
      flax: its dotted path in the port, with ``\\1`` for groups.
      perm: torch's axes in the port's order; None to infer it. (1, 0) for a Linear.
      flatten: (C, H, W) of the image that is flattened in front of a Linear whose port flattens (H, W, C).
      part: (i, n): the port's variable is the i-th of n equal parts of torch's first axis.
    """

    torch: str
    flax: str
    perm: tuple[int, ...] | None = None
    flatten: tuple[int, int, int] | None = None
    part: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a Flax variable's numbers are: parts of torch arrays, summed where there are several.

    Attributes:
      keys: of the state_dict.
      shape: of each array, before it is cut.
      part: (i, n) of the first axis; (0, 1) is the whole.
    """

    keys: tuple[str, ...]
    shape: tuple[int, ...]
    part: tuple[int, int] = (0, 1)

    @property
    def cut(self) -> tuple[int, ...]:
        """The shape of the part."""
        return (self.shape[0] // self.part[1], *self.shape[1:]) if self.part[1] > 1 else self.shape

    @property
    def name(self) -> str:
        """Under which its values are compared."""
        return " + ".join(self.keys)

    def take(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """The numbers."""
        index, count = self.part
        arrays = [np.asarray(values[key]) for key in self.keys]
        size = self.shape[0] // count if count > 1 else 0
        parts = [array[index * size : (index + 1) * size] if count > 1 else array for array in arrays]
        return parts[0] if len(parts) == 1 else np.add.reduce(parts)


@dataclasses.dataclass(frozen=True)
class Link:
    """One Flax variable and its source.

    Attributes:
      source, leaf: the two.
      way: between them.
      how: what matched them.
      others: ways that fit the shape as well, to be settled by probing.
    """

    source: Source
    leaf: FlaxLeaf
    way: Way
    how: str
    others: tuple[Way, ...] = ()


@dataclasses.dataclass(frozen=True)
class Bridge:
    """The table, and the way over it in both directions.

    Attributes:
      links: one a Flax variable.
      ignored: torch keys and Flax paths without counterpart -> why.
      tied: torch keys that share the parameter of another.
    """

    links: tuple[Link, ...]
    ignored: Mapping[str, str]
    tied: Mapping[str, str]

    def to_flax(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Flax variables by dotted path from a state_dict."""
        return {link.leaf.name: link.way.to_flax(link.source.take(values), link.leaf.shape) for link in self.links}

    def to_torch(self, values: Mapping[str, np.ndarray], meaning: str = "value") -> dict[str, np.ndarray]:
        """Under torch's keys and in its shapes, what belongs to some or all Flax variables.

        Args:
          values: by dotted path; what is not linked is left out.
          meaning: "value" for weights, their changes and statistics; "gradient" for what each of several summed
            parameters has alike. `merged` puts torch's own values under the same names.
        """
        del meaning  # a sum's value and the gradient of each of its terms are both the variable's own
        found: dict[str, list[tuple[int, np.ndarray]]] = {}
        for link in self.links:
            if link.leaf.name in values:
                array = link.way.to_torch(np.asarray(values[link.leaf.name]), link.source.cut)
                found.setdefault(link.source.name, []).append((link.source.part[0], array))
        return {name: _joined([part for _, part in sorted(parts, key=lambda item: item[0])]) for name, parts in found.items()}

    def merged(self, values: Mapping[str, np.ndarray], meaning: str = "value") -> dict[str, np.ndarray]:
        """torch's own values with every sum that the port keeps as one variable under one name.

        Args:
          values: by torch key.
          meaning: "value": the terms are added. "gradient": they are alike, the first is taken.
        """
        result = dict(values)
        for keys in {link.source.keys for link in self.links if len(link.source.keys) > 1}:
            terms = [result.pop(key) for key in keys if key in result]
            if terms:
                result[" + ".join(keys)] = terms[0] if meaning == "gradient" else np.add.reduce(terms)
        return result

    @property
    def held(self) -> frozenset[str]:
        """torch parameters that must not move for training to be comparable: all but the first term of a sum."""
        return frozenset(key for link in self.links for key in link.source.keys[1:])

    @property
    def flattened(self) -> list[tuple[int, int, int]]:
        """(H, W, C) of every image that the port flattens in another order than torch."""
        layouts = [link.way.layout for link in self.links if link.way.layout]
        return [layout.split[:3] for layout in layouts if len(layout.split) == 4 and layout.joined == (1, 3)]  # pyright: ignore

    def lines(self) -> list[str]:
        """The table for people: what, where, how."""
        rows = [f"{link.source.name} -> {link.leaf.name} {link.leaf.shape} ({link.how})" for link in self.links]
        rows += [f"{name}: tied to {first}" for name, first in self.tied.items()]
        return rows + [f"{name}: ignored, {reason}" for name, reason in self.ignored.items()]


def infer(
    groups: Sequence[Group],
    leaves: Sequence[FlaxLeaf],
    *,
    tied: Mapping[str, str] | None = None,
    rules: Sequence[Rule] = (),
    ignore: Mapping[str, str] | None = None,
) -> Bridge:
    """Matches every torch parameter and buffer with a Flax variable.

    Args:
      groups: of the torch module, in the order of definition.
      leaves: of the port, in the order of definition.
      tied: torch keys that share another's parameter.
      rules: come first.
      ignore: pattern -> reason, for torch keys and Flax paths.

    Raises:
      BridgeError: with every leaf that is left over, does not fit, or is matched twice.
    """
    tied, problems = dict(tied or {}), []
    free = {leaf.name: leaf for leaf in leaves}
    units = [unit for group in groups for unit in _units(group, leaves)]
    units = [unit.without(tied) for unit in units]
    ignored = _ignored(units, free, ignore or {})
    links: list[Link] = []
    links += _by_rules(units, free, rules, problems)
    for match in (_by_name, _by_shape):
        links += match([unit for unit in units if unit.sources], free, problems)
    for unit in units:
        for local, source in list(unit.sources.items()):
            if local in unit.buffers and unit.kind not in NORMS:
                ignored[source.name] = "a buffer that the port does not keep"
                del unit.sources[local]
    left = [f"{source.name} {source.cut}" for unit in units for source in unit.sources.values()]
    if left:
        problems.append(f"no counterpart in the port for {'; '.join(left)}")
    if free:
        surplus = "; ".join(f"{leaf.name} {leaf.shape}" for leaf in free.values())
        problems.append(f"no counterpart in torch for {surplus}")
    if problems:
        hint = "give rules=[Rule(torch_pattern, flax_path)] or ignore={pattern: reason}"
        raise BridgeError("\n".join([*dict.fromkeys(problems), hint]))
    order = {leaf.name: place for place, leaf in enumerate(leaves)}
    return Bridge(tuple(sorted(links, key=lambda link: order[link.leaf.name])), ignored, tied)


NORMS = tuple(
    f"{name}{rank}" for name in ("BatchNorm", "InstanceNorm") for rank in ("1d", "2d", "3d")
) + ("SyncBatchNorm", "LayerNorm", "GroupNorm", "RMSNorm")
# What a port may call a torch leaf.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "weight": ("weight", "kernel", "scale", "embedding", "gamma", "negative_slope", "w"),
    "bias": ("bias", "beta", "b"),
    "running_mean": ("running_mean", "mean"),
    "running_var": ("running_var", "var"),
}
SYNONYMS = {
    "query": "q", "q_proj": "q", "key": "k", "k_proj": "k", "value": "v", "v_proj": "v", "out_proj": "out",
    "o_proj": "out", "if_": "if", "in_": "in", "layers": "layer", "blocks": "block", "downsample": "shortcut",
}  # fmt: skip


@dataclasses.dataclass
class _Unit:
    """What belongs together on torch's side; `sources` loses what has been matched."""

    name: str
    kind: str
    sources: dict[str, Source]
    buffers: tuple[str, ...] = ()

    def without(self, tied: Mapping[str, str]) -> "_Unit":
        kept = {local: source for local, source in self.sources.items() if source.keys[0] not in tied}
        return dataclasses.replace(self, sources=kept)


def _units(group: Group, leaves: Sequence[FlaxLeaf]) -> list[_Unit]:
    """A torch module as the port may have it: attention and recurrent layers come apart."""
    if group.kind == "MultiheadAttention":
        return _attention(group, leaves)
    if group.kind in ("LSTM", "GRU", "LSTMCell", "GRUCell"):
        return _recurrent(group, leaves)
    sources = {local: Source((group.key(local),), shape) for local, shape in group.leaves.items()}
    return [_Unit(group.name, group.kind, sources, group.buffers)]


def _attention(group: Group, leaves: Sequence[FlaxLeaf]) -> list[_Unit]:
    packed = group.leaves.get("in_proj_weight")
    fused = packed and any(
        sorted((leaf.shape[0], math.prod(leaf.shape[1:]))) == sorted(packed) for leaf in leaves if len(leaf.shape) > 1
    )
    if packed is None or fused:
        sources = {local: Source((group.key(local),), shape) for local, shape in group.leaves.items()}
        renamed = {local.replace("in_proj_", ""): source for local, source in sources.items()}
        return [_Unit(f"{group.name}.in_proj", "Linear", renamed)]
    units = []
    for index, role in enumerate(("query", "key", "value")):
        sources = {
            local.replace("in_proj_", ""): Source((group.key(local),), shape, (index, 3))
            for local, shape in group.leaves.items()
            if local.startswith("in_proj_")
        }
        units.append(_Unit(f"{group.name}.{role}".lstrip("."), "Linear", sources))
    return units


GATES = {"LSTM": ("i", "f", "g", "o"), "GRU": ("r", "z", "n")}


def _recurrent(group: Group, leaves: Sequence[FlaxLeaf]) -> list[_Unit]:
    """One unit a gate and matrix where the port has them apart, else one a matrix; biases where the port has them."""
    family = group.kind.removesuffix("Cell")
    gates, names = GATES[family], {part.rstrip("_") for leaf in leaves for part in leaf.path}
    apart = f"i{gates[0]}" in names
    biased = {leaf.path[-2].rstrip("_") for leaf in leaves if len(leaf.path) > 1 and leaf.path[-1] == "bias"}
    suffixes = [key.removeprefix("weight_ih") for key in group.leaves if key.startswith("weight_ih")]
    units = []
    for suffix in suffixes:
        base = ".".join(part for part in (group.name, suffix.lstrip("_")) if part)
        for place, count, gate in [(i, len(gates), g) for i, g in enumerate(gates)] if apart else [(0, 1, "")]:
            pair = (f"i{gate}", f"h{gate}") if apart else ("dense_i", "dense_h")
            for local, side in zip(pair, ("ih", "hh"), strict=True):
                weight = f"weight_{side}{suffix}"
                sources = {"weight": Source((group.key(weight),), group.leaves[weight], (place, count))}
                units.append(_Unit(f"{base}.{local}", "Linear", sources))
            if f"bias_ih{suffix}" not in group.leaves:
                continue
            keys = [group.key(f"bias_{side}{suffix}") for side in ("ih", "hh")]
            shape, both = group.leaves[f"bias_ih{suffix}"], [name in biased for name in pair]
            if all(both):
                for unit, key in zip(units[-2:], keys, strict=True):
                    unit.sources["bias"] = Source((key,), shape, (place, count))
            else:
                units[-2 + both.index(True) if any(both) else -1].sources["bias"] = Source(
                    tuple(keys), shape, (place, count)
                )
    return units


def _ignored(units: Iterable[_Unit], free: dict[str, FlaxLeaf], patterns: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for pattern, reason in patterns.items():
        for unit in units:
            for local, source in list(unit.sources.items()):
                if re.fullmatch(pattern, source.name):
                    found[source.name] = reason
                    del unit.sources[local]
        for name in [name for name in free if re.fullmatch(pattern, name)]:
            found[name] = reason
            del free[name]
    return found


def _by_rules(
    units: Sequence[_Unit], free: dict[str, FlaxLeaf], rules: Sequence[Rule], problems: list[str]
) -> list[Link]:
    links = []
    for rule in rules:
        matched = False
        for unit, local, source in [(u, name, s) for u in units for name, s in u.sources.items()]:
            match = re.fullmatch(rule.torch, source.name)
            if not match:
                continue
            matched, path = True, match.expand(rule.flax)
            if path not in free:
                problems.append(f"rule {rule.torch!r}: the port has no free variable {path!r}")
                continue
            leaf = free[path]
            source = dataclasses.replace(source, part=rule.part) if rule.part else source
            ways = _rule_ways(rule, unit.kind, local, source, leaf)
            if not ways:
                problems.append(f"rule {rule.torch!r}: {source.name} {source.cut} does not fit {path} {leaf.shape}")
                continue
            del free[path]
            last = not rule.part or rule.part[0] == rule.part[1] - 1
            if last:
                del unit.sources[local]
            links.append(Link(source, leaf, ways[0], "rule", ways[1:] if rule.perm is None else ()))
        if not matched:
            problems.append(f"rule {rule.torch!r} matches no torch key")
    return links


def _rule_ways(rule: Rule, kind: str, local: str, source: Source, leaf: FlaxLeaf) -> tuple[Way, ...]:
    if rule.flatten:
        channels, height, width = rule.flatten
        if len(source.cut) != 2 or channels * height * width != source.cut[1]:
            return ()
        return (flattened(channels, height, width, source.cut[0]),)
    if rule.perm is not None:
        fits = len(rule.perm) == len(source.cut) and math.prod(source.cut) == math.prod(leaf.shape)
        return (Way(tuple(rule.perm)),) if fits else ()
    return _ways(kind, local, source, leaf)


def flattened(channels: int, height: int, width: int, features: int) -> Way:
    """A Linear behind an image that torch flattens as (C, H, W) and the port as (H, W, C)."""
    return Way(layout=Layout((3, 2, 0, 1), split=(height, width, channels, features), joined=(1, 3)))


def _by_name(units: Sequence[_Unit], free: dict[str, FlaxLeaf], problems: list[str]) -> list[Link]:
    """Units whose name, in both frameworks' spellings, is that of a place in the port."""
    places: dict[tuple[str, ...], dict[str, FlaxLeaf]] = {}
    for leaf in free.values():
        places.setdefault(tokens(leaf.path[:-1]), {})[leaf.path[-1]] = leaf
    links = []
    for unit in units:
        place = places.get(tokens(unit.name.split(".")), {})
        found = _fit(unit, place, "name")
        for local, source in unit.sources.items():  # the name is right, the shape is not: say so rather than guess
            same = next((place[alias] for alias in _aliases(local) if alias in place), None)
            if same and local not in found:
                problems.append(f"{source.name} {source.cut} does not fit {same.name} {same.shape}")
        links += _taken(unit, found, free)
    return links


def _by_shape(units: Sequence[_Unit], free: dict[str, FlaxLeaf], problems: list[str]) -> list[Link]:
    """What is left: units and places of one kind and shape, as many on both sides, in the order of definition."""
    del problems  # what stays unmatched is reported by `infer`
    places: dict[tuple[str, ...], dict[str, FlaxLeaf]] = {}
    for leaf in free.values():
        places.setdefault(leaf.path[:-1], {})[leaf.path[-1]] = leaf
    fitting = {
        id(unit): [path for path, place in places.items() if len(_fit(unit, place, "")) == len(unit.sources) == len(place)]
        for unit in units
    }
    links = []
    for _, same in itertools.groupby(
        sorted(units, key=lambda unit: fitting[id(unit)]), key=lambda unit: tuple(fitting[id(unit)])
    ):
        members = sorted(same, key=lambda unit: next(i for i, other in enumerate(units) if other is unit))
        paths = fitting[id(members[0])]
        if len(members) == len(paths):
            how = "shape" if len(paths) == 1 else "shape and order"
            for unit, path in zip(members, paths, strict=True):
                links += _taken(unit, _fit(unit, places[path], how), free)
    return links


def _taken(unit: _Unit, found: Mapping[str, Link], free: dict[str, FlaxLeaf]) -> list[Link]:
    links = []
    for local, link in found.items():
        if link.leaf.name in free:
            del free[link.leaf.name], unit.sources[local]
            links.append(link)
    return links


def _fit(unit: _Unit, place: Mapping[str, FlaxLeaf], how: str) -> dict[str, Link]:
    """The links between a unit and the variables at a place, where names and shapes allow it."""
    found: dict[str, Link] = {}
    for local, source in unit.sources.items():
        for alias in _aliases(local):
            leaf = place.get(alias)
            if leaf and leaf.statistic == (local in unit.buffers):
                ways = _ways(unit.kind, local, source, leaf)
                if ways:
                    found[local] = Link(source, leaf, ways[0], how, ways[1:])
                    break
    return found


def _aliases(local: str) -> tuple[str, ...]:
    return ALIASES.get(local, (local,))


def _ways(kind: str, local: str, source: Source, leaf: FlaxLeaf) -> tuple[Way, ...]:
    """The ways from a torch array to a Flax variable that fit the shapes, the one its class means first."""
    shape, wanted = source.cut, leaf.shape
    if leaf.layout:
        try:
            leaf.layout.from_torch(np.broadcast_to(np.float32(0), shape), wanted)
        except ValueError:
            return ()
        return (Way(layout=leaf.layout),)
    if math.prod(shape) != math.prod(wanted):
        return ()
    rank = len(shape)
    if local != "weight" or rank < 2:
        flat = rank <= 1 or shape == wanted
        return (SAME,) if flat else tuple(way for way in (SAME, TRANSPOSED) if _fits(way, shape, wanted))
    if kind in ("Embedding", "EmbeddingBag", "Conv1D"):
        candidates = [SAME]
    elif kind.startswith("ConvTranspose"):
        space = tuple(range(2, rank))
        candidates = [Way((*space, 1, 0)), Way((*space, 0, 1), space)]
        if not leaf.transposed:
            candidates.reverse()
    elif kind.startswith("Conv"):
        candidates = [Way((*range(2, rank), 1, 0)), SAME]
    elif kind == "Linear" and leaf.path[-1] == "kernel":
        return (TRANSPOSED,) if _reshapes(shape[::-1], wanted) else ()
    elif kind == "Linear":
        candidates = [TRANSPOSED, SAME]
    else:
        candidates = [SAME, Way(tuple(reversed(range(rank))))]
    found = tuple(way for way in candidates if _fits(way, shape, wanted))
    # A class of Flax's own says which; only what somebody else wrote has to be probed.
    known = leaf.kind in ("Linear", "Dense", "Conv", "ConvTranspose", "Embed", "ConvLocal")
    return found[:1] if known else found


def _fits(way: Way, shape: Sequence[int], wanted: Sequence[int]) -> bool:
    moved = tuple(shape[axis] for axis in way.perm) if way.perm else tuple(shape)
    return moved == tuple(wanted)


def _reshapes(shape: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether splitting the two axes of a matrix gives the wanted shape (heads and their size)."""
    return any(
        (math.prod(wanted[:cut]), math.prod(wanted[cut:])) == tuple(shape) for cut in range(1, len(wanted))
    )


def tokens(path: Sequence[str]) -> tuple[str, ...]:
    """A name in one spelling: ``layers_0.Query`` is ``("layer", "0", "q")``."""
    parts = []
    for part in path:
        name, _, number = part.rpartition("_")
        parts += [name, number] if name and number.isdigit() else [part]
    lowered = [part.lower() for part in parts if part not in ("", "cell")]
    return tuple(SYNONYMS.get(part, part) for part in lowered)


def _joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
