"""The loss, and the layers and glue whose gradients differ while what they compute is right."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from parity.align import Image, all_closest, error, move
from parity.forcing import Handed, forced_gradients, forced_loss, passed_gradients, returned
from parity.locate.fault import Fault
from parity.matching import Match
from parity.prove import Subject
from parity.torch_side import Returned
from parity.verdict import ONE_STEP, STRUCTURAL_ZERO

Arrays = tuple[np.ndarray, ...]
WITHIN = "the gradient that reaches its output is right, the one it passes to its input is not"


def loss(subject: Subject, noted: Mapping[str, Any], theirs: Returned, seed: int) -> Iterator[Fault]:
    """The loss, if the port's is another of the very outputs that torch's model returns.

    Args:
      subject, noted, seed: as in `parity.locate.forward.forward`.
      theirs: what torch's model returns.
    """
    given = all_closest(theirs.arrays, returned(subject.flax, noted, seed=seed))
    if given is None or not subject.pair.loss:
        return
    made, wanted = forced_loss(subject.flax, noted, given, seed=seed), theirs.loss()
    worst = error(made, wanted)
    if worst > ONE_STEP:
        detail = "given torch's outputs it is another, or has another gradient"
        yield Fault("loss", "", "", worst, detail, True, all_closest(made, wanted), wanted)


def backward(
    subject: Subject,
    noted: Mapping[str, Any],
    matches: Sequence[Match],
    gradients: Mapping[str, np.ndarray],
    theirs: Returned,
    known: Sequence[Fault],
    seed: int,
) -> Iterator[Fault]:
    """Every layer and all glue that makes another gradient of torch's, from the loss to the inputs.

    Args:
      subject, noted, theirs, seed: as in `loss`.
      matches: of the calls in both.
      gradients: torch's, by parameter.
      known: faults of the forward pass; what they spoil is not told again.
    """
    handed = {
        found.flax.name: given
        for found in matches
        if found.leaf and (given := _handed(found, subject.bridge.flattened))
    }
    turned = _turned(theirs.arrays, theirs.loss()[1:], returned(subject.flax, noted, seed=seed))
    root = turned[1] if turned else ()
    calls, own = forced_gradients(subject.flax, noted, handed, root, seed=seed)
    zero = STRUCTURAL_ZERO * max((float(np.linalg.norm(x)) for x in gradients.values()), default=0.0)
    found = [*_layers(subject, matches, calls, known, zero)]
    found += _parameters(subject.bridge.to_torch(own), gradients, [*known, *found], zero)
    if found:
        passed = subject.bridge.to_torch(passed_gradients(subject.flax, noted, handed, root, seed=seed))
        right = {name for name, mine in passed.items() if _agrees(mine, gradients.get(name), zero)}
        found = [fault for fault in found if not _excused(fault, set(passed), right)]
    yield from found


def _layers(
    subject: Subject,
    matches: Sequence[Match],
    calls: Mapping[str, tuple[Arrays, Arrays]],
    known: Sequence[Fault],
    zero: float,
) -> Iterator[Fault]:
    """Layers that pass other gradients on, and those that other gradients arrive at."""
    spoiled = {fault.place for fault in known} | {fault.place.rpartition(".")[0] for fault in known}
    glue = any(fault.kind == "glue" for fault in known)
    for found in reversed(matches):
        if found.flax.name in calls:
            for fault in _of_call(found, *calls[found.flax.name], zero, subject.bridge.flattened):
                if fault.place not in spoiled and not (glue and fault.arrives):
                    yield fault


def _parameters(
    own: Mapping[str, np.ndarray], gradients: Mapping[str, np.ndarray], known: Sequence[Fault], zero: float
) -> Iterator[Fault]:
    """Parameters whose own gradients are wrong, of layers without another fault."""
    spoiled = {fault.place for fault in known} | {fault.place.rpartition(".")[0] for fault in known}
    if any(fault.kind == "glue" for fault in known):
        return
    for name, mine in own.items():
        owner, wanted = name.rpartition(".")[0], gradients.get(name)
        if wanted is not None and not {name, owner} & spoiled and not _agrees(mine, wanted, zero):
            detail = f"the gradient by {name} is wrong"
            yield Fault("backward", owner, "", error([mine], [wanted]), detail, True, (mine,), (wanted,))


def _agrees(mine: np.ndarray, wanted: np.ndarray | None, zero: float) -> bool:
    return error(*_compared([mine], [wanted], zero)) <= ONE_STEP


def _excused(fault: Fault, names: set[str], right: set[str]) -> bool:
    """Whether the parameters of a layer have torch's gradients all the same.

    What torch leaves out at the weight (the padding of an Embedding) a port may stop behind the layer.
    """
    own = {name for name in names if name.rpartition(".")[0] == fault.place}
    if fault.detail == WITHIN and own:
        return False  # it moves the parameters in front of the layer, and the inputs
    return own <= right if own else names <= right


def _handed(found: Match, images: Sequence[Image]) -> Handed | None:
    """torch's values of a call, and its gradients by them, with the port's axes."""
    theirs, ours = found.torch, found.flax
    inputs = _turned(theirs.inputs, theirs.input_gradients, ours.inputs, images)
    outputs = _turned(theirs.outputs, theirs.gradients, ours.outputs, images)
    return None if inputs is None or outputs is None else Handed(*inputs, *outputs)


def _turned(
    values: Sequence[np.ndarray],
    gradients: Sequence[np.ndarray | None],
    like: Sequence[np.ndarray],
    images: Sequence[Image] = (),
) -> tuple[Arrays, Arrays] | None:
    """Values and gradients by them with another's axes, zeros for no gradient; None if they do not correspond."""
    if len(values) != len(like):
        return None
    turned, slopes = [], []
    for value, gradient, other in zip(values, gradients, like, strict=True):
        turn = move(value, other, images)
        if turn is None:
            return None
        turned.append(turn(value))
        slopes.append(np.zeros_like(turned[-1]) if gradient is None else turn(gradient))
    return tuple(turned), tuple(slopes)


def _of_call(
    found: Match, passed: Arrays, arrived: Arrays, zero: float, images: Sequence[Image]
) -> Iterator[Fault]:
    """What is wrong behind a call, and in it."""
    theirs, ours = found.torch, found.flax
    behind = f"the gradient is wrong by the time it reaches the output of {theirs.path}"
    for mine, wanted, arrives, detail in (
        (arrived, theirs.gradients, True, behind),
        (passed, theirs.input_gradients, False, WITHIN),
    ):
        at, kept = _compared(mine, wanted, zero)
        worst = error(at, kept, images)
        if worst > ONE_STEP:
            made = all_closest(at, kept, images)
            yield Fault("backward", theirs.path, ours.path, worst, detail, True, made, kept, arrives)


def _compared(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray | None], zero: float
) -> tuple[Arrays, Arrays]:
    """The gradients that torch has, without those that are zero up to rounding on both sides."""
    pairs = [
        (mine, other)
        for mine, other in zip(ours, theirs, strict=True)
        if other is not None and max(np.linalg.norm(mine), np.linalg.norm(other)) > zero
    ]
    return tuple(mine for mine, _ in pairs), tuple(other for _, other in pairs)
