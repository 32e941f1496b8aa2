"""A torch module as a port may have it: what belongs together, with attention and recurrent layers taken apart."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

from parity.links import FlaxLeaf, Group, Source

# The gates of torch's recurrent layers in the order in which they lie in its arrays; Flax's names.
GATES: Mapping[str, tuple[str, ...]] = {"LSTM": ("i", "f", "g", "o"), "GRU": ("r", "z", "n"), "RNN": ("",)}
# What Flax calls the two matrices of a cell that does not keep its gates apart.
WHOLE = (("dense_i", "dense_h"), ("i", "h"))


@dataclasses.dataclass
class Unit:
    """Parameters that stand at one place in the port; `sources` loses what has been matched.

    Attributes:
      name: dotted; the torch module's, or below it the role of a part.
      kind: see `parity.torch_side.KINDS`.
      sources: local name -> where the numbers are.
      buffers: those of the local names that are buffers.
      role: the port's place has the same last name: a gate is not matched by shape and order.
    """

    name: str
    kind: str
    sources: dict[str, Source]
    buffers: tuple[str, ...] = ()
    role: bool = False


def units(
    groups: Sequence[Group], leaves: Sequence[FlaxLeaf], tied: Mapping[str, str], problems: list[str]
) -> list[Unit]:
    """The units of all groups, without what is tied to another; problems are added to the list."""
    fused, whole = _fused(groups, leaves), any(leaf.path[-1] == "in_proj_weight" for leaf in leaves)
    found: list[Unit] = []
    for group in groups:
        family = group.kind.removesuffix("Cell")
        if group.kind == "MultiheadAttention" and not whole:
            found += _attention(group, fused)
        elif family in GATES:
            found += _recurrent(group, GATES[family], leaves, problems)
        else:
            found.append(Unit(group.name, group.kind, _sources(group), group.buffers))
    for unit in found:
        unit.sources = {local: source for local, source in unit.sources.items() if source.name not in tied}
    return found


def _sources(group: Group) -> dict[str, Source]:
    return {local: Source((group.key(local),), shape) for local, shape in group.leaves.items()}


def _fused(groups: Sequence[Group], leaves: Sequence[FlaxLeaf]) -> bool:
    """Whether the port keeps query, key and value in one matrix: it has that many more of this size."""

    def sizes(shapes: Sequence[tuple[int, ...]]) -> list[tuple[int, int]]:
        ends = {tuple(sorted((shape[0], math.prod(shape[1:])))) for shape in shapes if len(shape) > 1}
        return [end for end in ends if len(end) == 2]

    packed = [group.leaves["in_proj_weight"] for group in groups if "in_proj_weight" in group.leaves]
    for size in set(sizes(packed)):
        rest = [shape for group in groups for local, shape in group.leaves.items() if local != "in_proj_weight"]
        theirs = sum(len(shape) > 1 and sizes([shape]) == [size] for shape in rest)
        mine = sum(len(leaf.shape) > 1 and _spread(leaf.shape, size) for leaf in leaves)
        if mine <= theirs:
            return False
    return bool(packed)


def _spread(shape: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Whether the axes, joined to two, have this size: (in, 3, heads, width) counts as (in, 3 * heads * width)."""
    return any(
        tuple(sorted((math.prod(shape[:cut]), math.prod(shape[cut:])))) == size for cut in range(1, len(shape))
    )


def _attention(group: Group, fused: bool) -> list[Unit]:
    sources = _sources(group)
    if fused and "in_proj_weight" in sources:
        inner = {local.removeprefix("in_proj_"): source for local, source in sources.items()}
        return [Unit(_below(group, "in_proj"), "Linear", inner)]
    found, bias = [], sources.pop("in_proj_bias", None)
    packed = sources.pop("in_proj_weight", None)
    for index, role in enumerate(("query", "key", "value")):
        own = sources.pop(f"{role[0]}_proj_weight", None)
        parts = {"weight": dataclasses.replace(packed, part=(index, 3))} if packed else {}
        if own:
            parts["weight"] = own
        if bias:
            parts["bias"] = dataclasses.replace(bias, part=(index, 3))
        found.append(Unit(_below(group, role), "Linear", parts))
    return [*found, Unit(group.name, group.kind, sources)] if sources else found


def _recurrent(group: Group, gates: Sequence[str], leaves: Sequence[FlaxLeaf], problems: list[str]) -> list[Unit]:
    """One unit a gate and matrix where the port has them apart, else one a matrix; biases where it has them."""
    names = {part.rstrip("_") for leaf in leaves for part in leaf.path[:-1]}
    apart = len(gates) > 1 and f"i{gates[0]}" in names
    pair = next((pair for pair in WHOLE if set(pair) <= names), None)
    if not apart and not pair:
        return [Unit(group.name, group.kind, _sources(group))]
    biased = {leaf.path[-2].rstrip("_") for leaf in leaves if len(leaf.path) > 1 and leaf.path[-1] == "bias"}
    sources, found = _sources(group), []
    for suffix in [key.removeprefix("weight_ih") for key in group.leaves if key.startswith("weight_ih")]:
        base = _below(group, suffix.lstrip("_"))
        for place, gate in enumerate(gates if apart else ("",)):
            roles = (f"i{gate}", f"h{gate}") if apart or not pair else pair
            part = (place, len(gates)) if apart else (0, 1)
            found += _cell(base, suffix, roles, part, sources, biased)
    for local in [
        local for local in sources if local.startswith(("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    ]:
        del sources[local]
    _candidate(group, apart, biased, problems)
    return [*found, Unit(group.name, group.kind, sources)] if sources else found


def _cell(
    base: str,
    suffix: str,
    roles: tuple[str, str],
    part: tuple[int, int],
    sources: dict[str, Source],
    biased: set[str],
) -> list[Unit]:
    """The input's and the state's matrix of one gate, or of all; one bias for both if the port has one only."""

    def cut(local: str) -> Source:
        return dataclasses.replace(sources[f"{local}{suffix}"], part=part)

    pair = [
        Unit(f"{base}.{role}", "Linear", {"weight": cut(f"weight_{side}")}, role=True)
        for role, side in zip(roles, ("ih", "hh"), strict=True)
    ]
    if f"bias_ih{suffix}" in sources:
        both = [cut("bias_ih"), cut("bias_hh")]
        if set(roles) <= biased:
            for unit, bias in zip(pair, both, strict=True):
                unit.sources["bias"] = bias
        else:
            keys = tuple(bias.name for bias in both)
            pair[roles[0] not in biased].sources["bias"] = dataclasses.replace(both[0], keys=keys)
    return pair


def _candidate(group: Group, apart: bool, biased: set[str], problems: list[str]) -> None:
    """torch's GRU multiplies one of its two biases by a gate, so that their sum does not stand for them."""
    if not group.kind.startswith("GRU") or not any(key.startswith("bias_hh") for key in group.leaves):
        return
    has = "hn" in biased if apart else "dense_h" in biased
    if not has:
        problems.append(
            f"{group.name or 'the model'}: torch's GRU has a bias b_hn that its reset gate multiplies; the port's "
            "cell has none. Give it one (nnx.GRUCell: cell.dense_h = nnx.Linear(hidden, 3 * hidden, rngs=rngs)), "
            "take linen.GRUCell, which has it, or bias=False in torch"
        )


def _below(group: Group, name: str) -> str:
    return ".".join(part for part in (group.name, name) if part)
