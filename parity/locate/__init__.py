"""Where a port goes wrong: every faulty layer, the glue between layers, or the part of training that differs.

Each layer of the port is fed what torch's layer was fed and hands on what torch's gave ("teacher forcing"), the
loss is fed torch's outputs, the optimizer torch's gradients: a fault in one does not show in those behind it, and
all are found at once.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from parity.align import Image, error
from parity.locate.backward import backward, loss
from parity.locate.fault import Fault, Location, Row
from parity.locate.forward import forward, statistics
from parity.locate.training import buffers, training, variances
from parity.matching import Match, match
from parity.prove import Subject, precise
from parity.recording import Recording
from parity.torch_side import Returned, TorchSide, record
from parity.trace import flax_calls, torch_calls
from parity.verdict import ONE_STEP, Judgement, Verdict

__all__ = ["Fault", "Location", "Row", "locate"]

GRADIENTS = ("parameter_gradients", "input_gradients")


def locate(subject: Subject, judgement: Judgement, noted: Mapping[str, Any], *, seed: int = 0) -> Location:
    """Finds what makes the failing phases fail.

    Args:
      subject, judgement: of `parity.prove`.
      noted: the facts of torch's recording.
      seed: as in the proof.
    """
    failed = {phase.name for phase in judgement.phases if phase.verdict is Verdict.FAIL}
    faults = _weights(subject, judgement)
    with precise():
        side = TorchSide(subject.pair, subject.module, subject.weights, hold=subject.bridge.held)
        matches: list[Match] = []
        unmatched: tuple[str, ...] = ()
        for train in (False, True):
            matches, unmatched = _matches(subject, side, noted, seed, train)
            if ("train_forward" if train else "eval_forward") in failed:
                known = {(fault.kind, fault.place) for fault in faults}
                found = forward(subject, noted, matches, seed, train)
                faults += [fault for fault in found if (fault.kind, fault.place) not in known]
        if failed & {"loss", "buffers", *GRADIENTS}:
            faults += _step(subject, side, noted, matches, faults, failed, seed)
    faults = faults or _gradients(judgement, failed)
    rows = _rows(matches, subject.bridge.flattened)
    faults += buffers(judgement, subject.bridge, {fault.place for fault in faults})
    faults += variances(judgement, {fault.place for fault in faults}, rows)
    faults += training(judgement, alone=not faults)
    return Location(tuple(faults), tuple(rows), unmatched)


def _weights(subject: Subject, judgement: Judgement) -> list[Fault]:
    """The weights that a conversion of the user's own has not brought over as they are."""
    port = {link.source.name: link.leaf.name for link in subject.bridge.links}
    return [
        Fault("weights", leaf.name, port.get(leaf.name, ""), leaf.error, "the port holds other weights")
        for leaf in judgement.failing("weights")
    ]


def _matches(
    subject: Subject, side: TorchSide, noted: Mapping[str, Any], seed: int, train: bool
) -> tuple[list[Match], tuple[str, ...]]:
    """The calls that correspond, and torch's layers without counterpart."""
    ours = flax_calls(subject.flax, noted, seed=seed, train=train)
    theirs = torch_calls(side, seed=seed, train=train)
    matches = match(subject.bridge, theirs, ours)
    matched = {found.torch.path for found in matches}
    return matches, tuple(dict.fromkeys(call.path for call in theirs if call.path not in matched))


def _step(
    subject: Subject,
    side: TorchSide,
    noted: Mapping[str, Any],
    matches: Sequence[Match],
    known: Sequence[Fault],
    failed: set[str],
    seed: int,
) -> list[Fault]:
    """Faults of the loss, of the backward pass and of running statistics."""
    recording, faults = record(side, seed=seed, steps=0), []
    if failed & {"loss", *GRADIENTS}:
        theirs = Returned(side, seed)
        gradients = subject.bridge.merged(_phase(recording, "parameter_gradients"), "gradient")
        faults += loss(subject, noted, theirs, seed)
        faults += backward(subject, noted, matches, gradients, theirs, known, seed)
    if "buffers" in failed:
        faults += statistics(subject, noted, matches, _phase(recording, "buffers"), seed)
    return faults


def _phase(recording: Recording, name: str) -> dict[str, np.ndarray]:
    return {leaf: recording.tensors[key] for leaf, key in recording.phase(name).items()}


def _gradients(judgement: Judgement, failed: set[str]) -> list[Fault]:
    """What fails, where no layer and no glue does by itself."""
    if failed & {"eval_forward", "train_forward"}:
        return []
    if "loss" in failed:
        worst = judgement.phase("loss").leaves[0].error
        return [Fault("loss", "", "", worst, "the outputs are right, the loss is not", True)]
    return [
        Fault(
            "backward",
            leaf.name.rpartition(".")[0] if name == "parameter_gradients" else "",
            "",
            leaf.error,
            f"the gradient by {leaf.name} is wrong",
            True,
        )
        for name in GRADIENTS
        for leaf in judgement.failing(name)
    ]


def _rows(matches: Sequence[Match], images: Sequence[Image]) -> list[Row]:
    rows = []
    for found in matches:
        theirs, ours = found.torch, found.flax
        given, made = error(ours.inputs, theirs.inputs, images), error(ours.outputs, theirs.outputs, images)
        gradient = error(ours.gradients, theirs.gradients, images) if theirs.gradients and ours.gradients else 0.0
        bad = max(made, gradient) > ONE_STEP
        rows.append(Row(theirs.path, ours.path, given, made, gradient, Verdict.FAIL if bad else Verdict.PASS))
    return rows
