"""Where a port goes wrong: every faulty layer, the glue between layers, or the part of training that differs.

Each layer of the port is fed what torch's layer was fed and hands on what torch's gave ("teacher forcing"), so a
fault in one does not show in those behind it, and all are found at once.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from parity.align import orders
from parity.bridge import Bridge, tokens
from parity.prove import Subject, precise
from parity.torch_side import TorchSide
from parity.trace import Call, flax_calls, forced, torch_calls
from parity.verdict import ONE_STEP, Judgement, Verdict, relative


@dataclasses.dataclass(frozen=True)
class Fault:
    """Something that computes differently, when all before it computes the same.

    Attributes:
      kind: "weights", "layer", "glue", "backward", "buffers", "loss", "optimizer", "schedule" or "resume".
      place: torch's path of the layer, or of the layer that the glue leads to; empty where there is none.
      port: the same in the port.
      error: relative L2 of what comes out of it.
      detail: in a sentence.
      train: found in training mode.
      made: what came out in the port, with torch's axes; for `parity.diagnose`, as the rest.
      wanted: what came out in torch, where it is kept: the gradients that a layer passes on.
      arrives: the glue leads to a layer; otherwise out of one.
      before: how many calls of `leaves` torch had finished.
      leaves: torch's paths of the innermost layers that have a counterpart.
    """

    kind: str
    place: str
    port: str
    error: float
    detail: str
    train: bool = False
    made: tuple[np.ndarray, ...] | None = dataclasses.field(default=None, repr=False, compare=False)
    wanted: tuple[np.ndarray, ...] | None = dataclasses.field(default=None, repr=False, compare=False)
    arrives: bool = False
    before: int = 0
    leaves: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Row:
    """A layer in both, for the tree: errors of what it gets, gives, and of the gradient by what it gives."""

    place: str
    port: str
    inputs: float
    outputs: float
    gradient: float
    verdict: Verdict


@dataclasses.dataclass(frozen=True)
class Location:
    """All faults, and the tree of layers.

    Attributes:
      faults: as they are met in the order of computation.
      rows: one a matched call, in the order in which torch's end.
      unmatched: layers of torch that the port has no counterpart of; the glue around them is judged.
    """

    faults: tuple[Fault, ...]
    rows: tuple[Row, ...]
    unmatched: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Match:
    """A call in torch and one in the port; ``leaf``: no other match lies within it."""

    torch: Call
    flax: Call
    leaf: bool


def locate(subject: Subject, judgement: Judgement, noted: Mapping[str, Any], *, seed: int = 0) -> Location:
    """Finds what makes the failing phases fail.

    Args:
      subject, judgement: of `parity.prove`.
      noted: the facts of torch's recording.
      seed: as in the proof.
    """
    failed = {phase.name for phase in judgement.phases if phase.verdict is Verdict.FAIL}
    faults = [
        Fault("weights", leaf.name, _port(subject.bridge, leaf.name), leaf.error, "the port holds other weights")
        for phase in judgement.phases
        if phase.name == "weights"
        for leaf in phase.leaves
        if leaf.verdict is Verdict.FAIL
    ]
    rows: list[Row] = []
    unmatched: tuple[str, ...] = ()
    with precise():
        side = TorchSide(subject.pair, subject.module, subject.weights)
        for train in (False, True):
            forward = "train_forward" if train else "eval_forward"
            ours = flax_calls(subject.flax, noted, seed=seed, train=train)
            theirs = torch_calls(side, seed=seed, train=train)
            matches = match(subject.bridge, theirs, ours)
            rows = _rows(matches)
            matched = {found.torch.path for found in matches}
            unmatched = tuple(dict.fromkeys(call.path for call in theirs if call.path not in matched))
            if forward in failed:
                known = {(fault.kind, fault.place) for fault in faults}
                found = _forward(subject, noted, matches, seed, train)
                faults += [fault for fault in found if (fault.kind, fault.place) not in known]
        forward_ok = not failed & {"weights", "eval_forward", "train_forward"}
        if forward_ok and failed & {"loss", "input_gradients", "parameter_gradients"}:
            faults += _backward(matches, judgement, failed)
    faults += _training(judgement, failed, subject.bridge, bool(faults), rows)
    return Location(tuple(faults), tuple(rows), unmatched)


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
    return found


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


def _order(mine: np.ndarray, theirs: np.ndarray) -> tuple[int, ...] | None:
    """The order of axes that brings the port's array nearest to torch's."""
    return min(
        orders(mine.shape, theirs.shape),
        key=lambda order: np.linalg.norm(mine.transpose(order) - theirs),
        default=None,
    )


def error(ours: Sequence[np.ndarray | None], theirs: Sequence[np.ndarray | None]) -> float:
    """The largest relative error among arrays with axes in any order; infinite if they do not fit."""
    if len(ours) != len(theirs):
        return float("inf")
    worst = 0.0
    for mine, other in zip(ours, theirs, strict=True):
        if mine is None or other is None:
            continue
        order = _order(mine, other)
        worst = max(worst, float("inf") if order is None else relative(mine.transpose(order), other))
    return worst


def _rows(matches: Sequence[Match]) -> list[Row]:
    rows = []
    for found in matches:
        theirs, ours = found.torch, found.flax
        given, made = error(ours.inputs, theirs.inputs), error(ours.outputs, theirs.outputs)
        gradient = error(ours.gradients, theirs.gradients) if theirs.gradients and ours.gradients else 0.0
        bad = max(made, gradient) > ONE_STEP
        rows.append(Row(theirs.path, ours.path, given, made, gradient, Verdict.FAIL if bad else Verdict.PASS))
    return rows


def _forward(
    subject: Subject, noted: Mapping[str, Any], matches: Sequence[Match], seed: int, train: bool
) -> list[Fault]:
    given, usable = {}, []
    for found in matches:
        theirs, ours = found.torch, found.flax
        returned = _as_port(theirs.outputs, ours.outputs)
        wanted = _as_port(theirs.inputs, ours.inputs) if found.leaf else None
        if returned is not None:
            given[ours.name] = (wanted, returned)
            usable.append(found)
    records = forced(subject.flax, noted, given, seed=seed, train=train)
    leaves = tuple(dict.fromkeys(found.torch.path for found in usable if found.leaf))
    faults, before, passed = [], "the input", 0
    for found in usable:
        theirs, ours = found.torch, found.flax
        received, made = records.get(ours.name, ((), ()))
        name = theirs.path or "the model"
        known = {"train": train, "before": passed, "leaves": leaves}
        passed += found.leaf
        if ours.name not in records:
            continue
        arrived, gave = error(received, theirs.inputs), error(made, theirs.outputs)
        if found.leaf and arrived > ONE_STEP:
            detail = f"between {before} and {name}: what reaches {name} is wrong, all before it is right"
            at = _as_torch(received, theirs.inputs)
            faults.append(Fault("glue", theirs.path, ours.path, arrived, detail, made=at, arrives=True, **known))
        if gave > ONE_STEP:
            at = _as_torch(made, theirs.outputs)
            if found.leaf:
                detail = "given torch's input it gives another output"
                faults.append(Fault("layer", theirs.path, ours.path, gave, detail, made=at, **known))
            else:
                detail = f"behind {before}: what {name} returns is wrong, its layers are right"
                faults.append(Fault("glue", theirs.path, ours.path, gave, detail, made=at, **known))
        before = name
    return faults


def _as_torch(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> tuple[np.ndarray, ...] | None:
    """The port's arrays with torch's axes; None where they do not correspond."""
    if len(theirs) != len(ours):
        return None
    found = [(mine, _order(mine, other)) for mine, other in zip(ours, theirs, strict=True)]
    if any(order is None for _, order in found):
        return None
    return tuple(mine.transpose(order) for mine, order in found)


def _as_port(theirs: Sequence[np.ndarray], ours: Sequence[np.ndarray]) -> tuple[np.ndarray, ...] | None:
    """torch's arrays with the axes of the port's; None where they do not correspond."""
    if len(theirs) != len(ours):
        return None
    found = []
    for other, mine in zip(theirs, ours, strict=True):
        order = _order(mine, other)
        if order is None:
            return None
        found.append(np.ascontiguousarray(other.transpose(np.argsort(order))))
    return tuple(found)


def _backward(matches: Sequence[Match], judgement: Judgement, failed: set[str]) -> list[Fault]:
    """The layers whose backward differs: the gradient that arrives is right, the one they pass on is not."""
    faults: list[Fault] = []
    for found in reversed(matches):
        theirs, ours = found.torch, found.flax
        if not found.leaf:
            continue
        arrives = error(ours.gradients, theirs.gradients)
        passes = error(ours.input_gradients, theirs.input_gradients)
        if arrives > ONE_STEP:
            if not faults:
                kind = "loss" if not any(m.leaf for m in matches[matches.index(found) + 1 :]) else "backward"
                detail = f"the gradient is wrong by the time it reaches the output of {theirs.path}"
                faults.append(Fault(kind, theirs.path, ours.path, arrives, detail, True))
            break
        if passes > ONE_STEP:
            detail = "the gradient that reaches its output is right, the one it passes to its input is not"
            mine, wanted = _both(ours.input_gradients, theirs.input_gradients)
            faults.append(
                Fault("backward", theirs.path, ours.path, passes, detail, True, _as_torch(mine, wanted), wanted)
            )
    if not faults and "loss" in failed:
        worst = judgement.phase("loss").leaves[0].error
        faults.append(Fault("loss", "", "", worst, "the outputs are right, the loss is not", True))
    if not faults:
        for name in ("parameter_gradients", "input_gradients"):
            for leaf in judgement.phase(name).leaves if name in failed else ():
                if leaf.verdict is Verdict.FAIL:
                    place = leaf.name.rpartition(".")[0] if name == "parameter_gradients" else ""
                    detail = f"the gradient by {leaf.name} is wrong"
                    faults.append(Fault("backward", place, "", leaf.error, detail, True))
    return faults


def _both(ours: Sequence[Any], theirs: Sequence[Any]) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """The pairs of arrays of which both sides have one."""
    found = [pair for pair in zip(ours, theirs, strict=True) if pair[0] is not None and pair[1] is not None]
    return tuple(mine for mine, _ in found), tuple(other for _, other in found)


def _training(
    judgement: Judgement, failed: set[str], bridge: Bridge, known: bool, rows: Sequence[Row]
) -> list[Fault]:
    faults = []
    if "buffers" in failed:
        forward_ok = not failed & {"eval_forward", "train_forward"}
        right = {row.place for row in rows if max(row.inputs, row.outputs) <= ONE_STEP}
        detail = "the statistic moves differently in training"
        faults += [
            Fault("buffers", leaf.name, _port(bridge, leaf.name), leaf.error, detail, True)
            for leaf in judgement.phase("buffers").leaves
            if leaf.verdict is Verdict.FAIL and (forward_ok or leaf.name.rpartition(".")[0] in right)
        ]
    if known or failed & {"loss", "input_gradients", "parameter_gradients"}:
        return faults
    for name, kind, detail in (
        ("first_update", "optimizer", "the gradients are right, the first update is not"),
        ("optimizer_state", "optimizer", "the first update is right, what the optimizer keeps is not"),
        (
            "updates",
            "schedule",
            "the first update is right, a later one is not: schedule, momentum, or statistics",
        ),
        ("resume", "resume", "training is right, but not when it is resumed"),
    ):
        if name in failed:
            worst = judgement.phase(name).worst
            where = f"; first in {_first(judgement)}" if name == "updates" else ""
            faults.append(Fault(kind, "", "", worst.error if worst else float("nan"), detail + where, True))
            break
    return faults


def _first(judgement: Judgement) -> str:
    steps = [
        leaf.name.split("/")[0]
        for leaf in judgement.phase("updates").leaves
        if leaf.verdict is Verdict.FAIL and "/" in leaf.name
    ]
    return f"update {min(map(int, steps))}" if steps else "the loss"


def _port(bridge: Bridge, name: str) -> str:
    return next((link.leaf.name for link in bridge.links if link.source.name == name), "")
