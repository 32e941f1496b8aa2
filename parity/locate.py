"""Where a port goes wrong: every faulty layer, the glue between layers, or the part of training that differs.

Each layer of the port is fed what torch's layer was fed and hands on what torch's gave ("teacher forcing"), so a
fault in one does not show in those behind it, and all are found at once.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from parity.align import all_closest
from parity.bridge import Bridge
from parity.matching import Match, error, match
from parity.prove import Subject, precise
from parity.torch_side import TorchSide
from parity.trace import flax_calls, forced, torch_calls
from parity.verdict import ONE_STEP, Judgement, Verdict


@dataclasses.dataclass(frozen=True)
class Fault:
    """Something that computes differently, when all before it computes the same.

    Attributes:
      kind: "weights", "layer", "glue", "backward", "variance", "buffers", "loss", "optimizer", "schedule" or
        "resume".
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
    faults += _variances(judgement, failed, {fault.place for fault in faults}, rows)
    faults += _training(judgement, failed, subject.bridge, bool(faults), rows)
    return Location(tuple(faults), tuple(rows), unmatched)


def _variances(judgement: Judgement, failed: set[str], known: set[str], rows: Sequence[Row]) -> list[Fault]:
    """Norms that are right on their own inputs and wrong on inputs of large mean."""
    ports = {row.place: row.port for row in rows}
    return [
        Fault(
            "variance",
            leaf.name,
            ports.get(leaf.name, ""),
            leaf.error,
            "wrong on inputs of large mean alone",
            True,
        )
        for leaf in (judgement.phase("large_mean").leaves if "large_mean" in failed else ())
        if leaf.verdict is Verdict.FAIL and leaf.name not in known
    ]


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
        returned = all_closest(theirs.outputs, ours.outputs)
        wanted = all_closest(theirs.inputs, ours.inputs) if found.leaf else None
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
            at = all_closest(received, theirs.inputs)
            faults.append(Fault("glue", theirs.path, ours.path, arrived, detail, made=at, arrives=True, **known))
        if gave > ONE_STEP:
            at = all_closest(made, theirs.outputs)
            if found.leaf:
                detail = "given torch's input it gives another output"
                faults.append(Fault("layer", theirs.path, ours.path, gave, detail, made=at, **known))
            else:
                detail = f"behind {before}: what {name} returns is wrong, its layers are right"
                faults.append(Fault("glue", theirs.path, ours.path, gave, detail, made=at, **known))
        before = name
    return faults


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
                Fault("backward", theirs.path, ours.path, passes, detail, True, all_closest(mine, wanted), wanted)
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
