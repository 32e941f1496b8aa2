"""Which call in the port corresponds to which call in torch."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from parity.align import error, orders
from parity.bridge import Bridge, tokens
from parity.trace import Call
from parity.verdict import ONE_STEP


@dataclasses.dataclass(frozen=True)
class Match:
    """A call in torch and one in the port; ``leaf``: no other match lies within it."""

    torch: Call
    flax: Call
    leaf: bool


def match(bridge: Bridge, theirs: Sequence[Call], ours: Sequence[Call]) -> list[Match]:
    """Pairs the calls of modules that hold the same weights, of what encloses them, and of layers of one name."""
    paths = {call.path for call in theirs}, {call.path for call in ours}
    pairs = _by_weights(bridge, *paths)
    pairs |= _by_enclosing(pairs, *paths)
    pairs |= _by_name(pairs, *paths)
    mine = {call.name: call for call in ours}
    found = []
    for call in theirs:
        other = mine.get(f"{pairs[call.path]}#{call.index}") if call.path in pairs else None
        if other and _comparable(call.outputs, other.outputs):
            inner = any(
                path != call.path and (path.startswith(f"{call.path}.") or not call.path) for path in pairs
            )
            found.append(Match(call, other, not inner))
    return _unique(found)


def _unique(found: Sequence[Match]) -> list[Match]:
    """Where two of torch's enclose the same layers (a block, a Sequential in it), the one that the port's is."""
    several: dict[str, list[Match]] = {}
    for each in found:
        several.setdefault(each.flax.name, []).append(each)
    return [
        each
        for each in found
        if len(several[each.flax.name]) == 1 or each.leaf or not each.torch.path or _same(each)
    ]


def _same(found: Match) -> bool:
    return error(found.flax.outputs, found.torch.outputs) <= ONE_STEP


def _by_weights(bridge: Bridge, theirs: set[str], ours: set[str]) -> dict[str, str]:
    places: dict[str, list[str]] = {}
    for link in bridge.links:
        owner = link.source.keys[0].rpartition(".")[0]
        places.setdefault(owner, []).append(".".join(link.leaf.path[:-1]))
    found = {}
    for owner, ports in places.items():
        common = ports[0] if len(set(ports)) == 1 else _common(ports)
        # A layer that torch does not call itself (the out_proj of an attention) belongs to the one around it.
        if owner in theirs and common in ours:
            found[owner] = common
    return found


def _by_enclosing(pairs: Mapping[str, str], theirs: set[str], ours: set[str]) -> dict[str, str]:
    found = {"": ""} if "" in theirs and "" in ours else {}
    for path in sorted(theirs - pairs.keys() - {""}, key=lambda path: -path.count(".")):
        inside = {other for name, other in pairs.items() if name.startswith(f"{path}.")}
        if not inside:
            continue
        common = _common(sorted(inside))
        while common and common not in ours:
            common = common.rpartition(".")[0]
        others = {other for name, other in pairs.items() if not name.startswith(f"{path}.")}
        if common and not any(other.startswith(f"{common}.") or other == common for other in others):
            found[path] = common
    return found


def _by_name(pairs: Mapping[str, str], theirs: set[str], ours: set[str]) -> dict[str, str]:
    free = ours - set(pairs.values())
    spelled = {tokens(path.split(".")): path for path in free}
    found = {}
    for path in theirs - pairs.keys():
        parent, _, name = path.rpartition(".")
        base = pairs.get(parent)
        candidates = [path.split(".")] + ([[*base.split("."), name]] if base else [])
        for candidate in candidates:
            port = spelled.get(tokens(candidate))
            if port is not None:
                found[path] = port
                break
    return found


def _common(paths: Sequence[str]) -> str:
    """The path of what encloses them all."""
    common = []
    for parts in zip(*(path.split(".") for path in paths), strict=False):
        if len(set(parts)) > 1:
            break
        common.append(parts[0])
    return ".".join(common)


def _comparable(theirs: Sequence[np.ndarray], ours: Sequence[np.ndarray]) -> bool:
    return len(theirs) == len(ours) and all(
        next(orders(mine.shape, other.shape), None) is not None for other, mine in zip(theirs, ours, strict=True)
    )
