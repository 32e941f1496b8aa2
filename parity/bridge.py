"""Finds what belongs together in a torch module and its port: `infer` makes the table that carries the weights.

Units of parameters (a torch module, a gate of an LSTM, the query of an attention) are matched with places in the
port: by the rules that are given, by name, by likeness of names, and what is left by shape in the order of
definition. Every leaf is accounted for, and everything that does not fit is raised at once. Where a shape allows
several ways to lay the axes, `parity.probe` runs the models to find the right one.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from parity.links import (
    SAME,
    TRANSPOSED,
    Bridge,
    BridgeError,
    FlaxLeaf,
    Group,
    Link,
    Rule,
    Source,
    Way,
)
from parity.units import Unit, units
from parity.ways import NORMS, rule_ways, ways

__all__ = [
    "SAME", "TRANSPOSED", "Bridge", "BridgeError", "FlaxLeaf", "Group", "Link", "Rule", "Source", "Way",
    "infer", "tokens",
]  # fmt: skip

# What a port may call a torch leaf.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "weight": ("weight", "kernel", "scale", "embedding", "gamma", "negative_slope", "w"),
    "bias": ("bias", "beta", "b"),
    "running_mean": ("running_mean", "mean"),
    "running_var": ("running_var", "var"),
}
SYNONYMS = {
    "query": "q", "q_proj": "q", "wq": "q", "to_q": "q", "key": "k", "k_proj": "k", "wk": "k", "to_k": "k",
    "value": "v", "v_proj": "v", "wv": "v", "to_v": "v", "out_proj": "out", "o_proj": "out", "wo": "out",
    "to_out": "out",
    "in_proj": "qkv", "if_": "if", "in_": "in", "layers": "layer", "blocks": "block", "downsample": "shortcut",
}  # fmt: skip
Places = dict[tuple[str, ...], dict[str, FlaxLeaf]]


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
    tied, problems, links = dict(tied or {}), [], []
    free = {leaf.name: leaf for leaf in leaves}
    found = units(groups, leaves, tied, problems)
    spelled = (
        _ranked([tuple(unit.name.split(".")) for unit in found]),
        _ranked([leaf.path[:-1] for leaf in leaves]),
    )
    ignored = _ignored(found, free, ignore or {}, problems)
    links += _by_rules(found, free, rules, problems)
    links += _by_name(found, free, *spelled)
    links += _by_likeness(found, free, *spelled)
    links += _by_shape(found, free)
    links += _leaf_by_leaf(found, free)
    for unit in found:
        for local in [local for local in unit.sources if local in unit.buffers and unit.kind not in NORMS]:
            ignored[unit.sources.pop(local).name] = "a buffer that the port does not keep"
    problems += _left(found, free, tied, *spelled)
    if problems:
        hint = "give rules=[Rule(torch_pattern, flax_path)] or ignore={pattern: reason}"
        raise BridgeError("\n".join([*dict.fromkeys(problems), hint]))
    order = {leaf.name: place for place, leaf in enumerate(leaves)}
    return Bridge(tuple(sorted(links, key=lambda link: order[link.leaf.name])), ignored, tied)


def tokens(path: Sequence[str]) -> tuple[str, ...]:
    """A name in one spelling: ``layers_0.Query`` is ``("layer", "0", "q")``."""
    parts = []
    for part in path:
        name, _, number = part.rpartition("_")
        parts += [name, number] if name and number.isdigit() else [part]
    lowered: list[str] = [part.lower() for part in parts if part not in ("", "cell")]
    return tuple(SYNONYMS.get(part, part) for part in lowered)


def _ranked(paths: Iterable[Sequence[str]]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Names in one spelling, numbers counted: a Sequential's 0, 2, 5 (the rest has no weights) are 0, 1, 2."""
    spelled = {tuple(path): tokens(path) for path in paths}
    numbers: dict[tuple[str, ...], set[int]] = {}
    for name in spelled.values():
        for place, part in enumerate(name):
            if part.isdigit():
                numbers.setdefault(name[:place], set()).add(int(part))
    ranks = {prefix: {str(n): str(rank) for rank, n in enumerate(sorted(own))} for prefix, own in numbers.items()}
    return {
        path: tuple(ranks[name[:place]][part] if part.isdigit() else part for place, part in enumerate(name))
        for path, name in spelled.items()
    }


def _ignored(
    found: Iterable[Unit], free: dict[str, FlaxLeaf], patterns: Mapping[str, str], problems: list[str]
) -> dict[str, str]:
    ignored = {}
    for pattern, reason in patterns.items():
        before = len(ignored)
        for unit in found:
            for local in [local for local, source in unit.sources.items() if re.fullmatch(pattern, source.name)]:
                ignored[unit.sources.pop(local).name] = reason
        for name in [name for name in free if re.fullmatch(pattern, name)]:
            ignored[name] = reason
            del free[name]
        if len(ignored) == before:
            problems.append(f"ignore {pattern!r} matches no torch key and no variable of the port")
    return ignored


def _by_rules(
    found: Sequence[Unit], free: dict[str, FlaxLeaf], rules: Sequence[Rule], problems: list[str]
) -> list[Link]:
    links: list[Link] = []
    for rule in rules:
        try:
            pattern = re.compile(rule.torch)
        except re.error as error:
            problems.append(f"rule {rule.torch!r} is no regular expression: {error}")
            continue
        hits = [(u, local, s) for u in found for local, s in u.sources.items() if pattern.fullmatch(s.name)]
        if not hits:
            problems.append(f"rule {rule.torch!r} matches no torch key that is still free")
        for unit, local, source in hits:
            link = _ruled(rule, pattern, unit, local, source, free, problems)
            if link:
                links.append(link)
    for unit in found:
        for local, source in list(unit.sources.items()):
            parts = [link.source.part for link in links if link.source.name == source.name]
            if (len(parts) == 1 and parts[0] == source.part) or (parts and sorted(parts) == _all(parts[0][1])):
                del unit.sources[local]
            elif parts and sorted(set(parts)) != _all(parts[0][1]):
                given = ", ".join(f"({i}, {n})" for i, n in parts)
                problems.append(f"{source.name}: the rules give the parts {given} of {parts[0][1]}")
                del unit.sources[local]
    return links


def _all(count: int) -> list[tuple[int, int]]:
    return [(index, count) for index in range(count)]


def _ruled(
    rule: Rule,
    pattern: re.Pattern[str],
    unit: Unit,
    local: str,
    source: Source,
    free: dict[str, FlaxLeaf],
    problems: list[str],
) -> Link | None:
    """The link that a rule makes; takes the variable."""
    match = pattern.fullmatch(source.name)
    assert match
    try:
        path = match.expand(rule.flax)
    except (re.error, IndexError) as error:
        problems.append(f"rule {rule.torch!r}: {rule.flax!r} cannot be filled in: {error}")
        return None
    if path not in free:
        near = ", ".join(name for name in free if name.rsplit(".", 1)[-1] == path.rsplit(".", 1)[-1])
        problems.append(
            f"rule {rule.torch!r}: the port has no free variable {path!r}; free are {near or 'none like it'}"
        )
        return None
    if rule.part and source.shape and source.shape[0] % rule.part[1]:
        problems.append(f"rule {rule.torch!r}: {source.shape} has no {rule.part[1]} equal parts")
        return None
    source = dataclasses.replace(source, part=rule.part) if rule.part else source
    fitting = rule_ways(rule, unit.kind, local, source, free[path])
    if not fitting:
        problems.append(f"rule {rule.torch!r}: {source} {source.cut} does not fit {path} {free[path].shape}")
        return None
    return Link(source, free.pop(path), fitting[0], "rule", fitting[1:] if rule.perm is None else ())


Names = Mapping[tuple[str, ...], tuple[str, ...]]


def _by_name(found: Sequence[Unit], free: dict[str, FlaxLeaf], theirs: Names, ours: Names) -> list[Link]:
    """Units whose name, in both frameworks' spellings, is that of a place in the port."""
    places: Places = {}
    for leaf in free.values():
        places.setdefault(ours[leaf.path[:-1]], {})[leaf.path[-1]] = leaf
    links = []
    for unit in found:
        links += _taken(unit, _fit(unit, places.get(theirs[tuple(unit.name.split("."))], {}), "name"), free)
    return links


def _by_likeness(found: Sequence[Unit], free: dict[str, FlaxLeaf], theirs: Names, ours: Names) -> list[Link]:
    """Units and places that fit, have the same numbers and the same last name, and nobody else is as like."""
    links: list[Link] = []
    fitting = _fitting(found, free)
    likeness = {
        (index, path): score
        for index, paths in fitting.items()
        for path in paths
        if (score := _likeness(theirs[tuple(found[index].name.split("."))], ours[path])) > 0
    }
    for (index, path), score in sorted(likeness.items(), key=lambda item: -item[1]):
        rivals = [other for pair, other in likeness.items() if (pair[0] == index) != (pair[1] == path)]
        if all(other < score for other in rivals):
            links += _taken(
                found[index], _fit(found[index], _places(free).get(path, {}), "likeness of names"), free
            )
    return links


def _likeness(theirs: tuple[str, ...], ours: tuple[str, ...]) -> int:
    words = [[part for part in name if not part.isdigit()] for name in (theirs, ours)]
    numbers = [[part for part in name if part.isdigit()] for name in (theirs, ours)]
    if numbers[0] != numbers[1] or not words[0] or not words[1] or theirs[-1] != ours[-1]:
        return 0
    return 1 + len(set(words[0]) & set(words[1]))


def _by_shape(found: Sequence[Unit], free: dict[str, FlaxLeaf]) -> list[Link]:
    """What is left: units and places that fit, as many on both sides, in the order of definition."""
    fitting, places = _fitting(found, free), _places(free)
    links = []
    for paths, same in itertools.groupby(sorted(fitting, key=lambda i: (fitting[i], i)), key=lambda i: fitting[i]):
        members = list(same)
        if len(members) == len(paths):
            how = "shape" if len(paths) == 1 else "shape and order"
            names = [tuple(found[index].name.split(".")) for index in members]
            for index, path in _aligned(members, names, paths):
                links += _taken(found[index], _fit(found[index], places[path], how), free)
    return links


def _aligned(
    members: Sequence[int], names: Sequence[Sequence[str]], paths: Sequence[tuple[str, ...]]
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Units and places, as many: by the numbers in their names (the first block, the second) where both sides have
    the same ones; else in the order of definition."""

    def numbers(name: Sequence[str]) -> list[int]:
        return [int(part) for part in tokens(name) if part.isdigit()]

    theirs, ours = list(map(numbers, names)), list(map(numbers, paths))
    if sorted(theirs) != sorted(ours):
        return zip(members, paths, strict=True)
    units = [member for _, member in sorted(zip(theirs, members, strict=True), key=lambda pair: pair[0])]
    places = [path for _, path in sorted(zip(ours, paths, strict=True), key=lambda pair: pair[0])]
    return zip(units, places, strict=True)


def _leaf_by_leaf(found: Sequence[Unit], free: dict[str, FlaxLeaf]) -> list[Link]:
    """Single parameters, of modules that are divided otherwise: the only ones of their shape on both sides."""
    links = []
    sources = [(unit, local, source) for unit in found if not unit.role for local, source in unit.sources.items()]
    fitting = {
        (id(unit), local): [
            leaf for leaf in free.values()
            if leaf.statistic == (local in unit.buffers) and ways(unit.kind, local, source, leaf)
        ]
        for unit, local, source in sources
    }  # fmt: skip
    for unit, local, source in sources:
        matched = fitting[id(unit), local]
        rivals = [key for key, leaves in fitting.items() if matched and matched[0] in leaves]
        if len(matched) == 1 and len(rivals) == 1:
            first, *others = ways(unit.kind, local, source, matched[0])
            links += _taken(unit, {local: Link(source, matched[0], first, "shape", tuple(others))}, free)
    return links


def _places(free: Mapping[str, FlaxLeaf]) -> Places:
    places: Places = {}
    for leaf in free.values():
        places.setdefault(leaf.path[:-1], {})[leaf.path[-1]] = leaf
    return places


def _fitting(found: Sequence[Unit], free: Mapping[str, FlaxLeaf]) -> dict[int, list[tuple[str, ...]]]:
    """For each unit that has something left, the places that it fills, in the order of definition."""
    places = _places(free)

    def fills(unit: Unit, path: tuple[str, ...]) -> bool:
        if unit.role and tokens(path)[-1:] != tokens(unit.name.split("."))[-1:]:
            return False
        return len(_fit(unit, places[path], "")) == len(unit.sources) == len(places[path])

    return {
        index: [path for path in places if fills(unit, path)] for index, unit in enumerate(found) if unit.sources
    }


def _taken(unit: Unit, matched: Mapping[str, Link], free: dict[str, FlaxLeaf]) -> list[Link]:
    links = []
    for local, link in matched.items():
        if link.leaf.name in free:
            del free[link.leaf.name], unit.sources[local]
            links.append(link)
    return links


def _fit(unit: Unit, place: Mapping[str, FlaxLeaf], how: str) -> dict[str, Link]:
    """The links between a unit and the variables at a place, where names and shapes allow it."""
    found: dict[str, Link] = {}
    for local, source in unit.sources.items():
        for alias in ALIASES.get(local, (local,)):
            leaf = place.get(alias)
            if leaf and leaf.statistic == (local in unit.buffers):
                fitting = ways(unit.kind, local, source, leaf)
                if fitting:
                    found[local] = Link(source, leaf, fitting[0], how, fitting[1:])
                    break
    return found


def _left(
    found: Sequence[Unit], free: Mapping[str, FlaxLeaf], tied: Mapping[str, str], theirs: Names, ours: Names
) -> list[str]:
    """What has no counterpart; where the name has one but the shape is another, this."""
    problems, rest = [], dict(free)
    missing = []
    for unit in found:
        for local, source in unit.sources.items():
            aliases = ALIASES.get(local, (local,))
            same = next(
                (
                    leaf
                    for leaf in rest.values()
                    if ours[leaf.path[:-1]] == theirs[tuple(unit.name.split("."))] and leaf.path[-1] in aliases
                ),
                None,
            )
            if same:
                del rest[same.name]
                problems.append(f"{source} {source.cut} does not fit {same.name} {same.shape}")
            else:
                missing.append(f"{source} {source.cut}")
    if missing:
        problems.append(f"no counterpart in the port for {'; '.join(missing)}")
    if rest:
        ties = f" (torch ties {', '.join(f'{key} to {first}' for key, first in tied.items())})" if tied else ""
        names = "; ".join(f"{leaf.name} {leaf.shape}" for leaf in rest.values())
        problems.append(f"no counterpart in torch for {names}{ties}")
    return problems
