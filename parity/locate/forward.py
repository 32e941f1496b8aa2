"""Layers, and the glue between them, whose outputs differ; running statistics that move in another way."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from parity.align import Image, all_closest, error
from parity.forcing import forced
from parity.locate.fault import Fault
from parity.matching import Match
from parity.prove import Subject
from parity.verdict import ONE_STEP, relative

Arrays = tuple[np.ndarray, ...]


def forward(
    subject: Subject, noted: Mapping[str, Any], matches: Sequence[Match], seed: int, train: bool
) -> Iterator[Fault]:
    """Every layer and all glue that makes something else of what torch's is given.

    Args:
      subject: the pair.
      noted: the facts of torch's recording.
      matches: of the calls in both.
      seed, train: of the run.
    """
    bridge = subject.bridge
    given = _torchs(matches, bridge.flattened)
    records, _ = forced(subject.flax, noted, given, seed=seed, train=train)
    usable = [found for found in matches if found.flax.name in given]
    leaves = tuple(dict.fromkeys(found.torch.path for found in usable if found.leaf))
    before, passed = "the input", 0
    for found in usable:
        if found.flax.name in records:
            known = {"train": train, "before": passed, "leaves": leaves}
            yield from _of_call(found, *records[found.flax.name], before, known, bridge.flattened)
            before = found.torch.path or "the model"
        passed += found.leaf


def _torchs(matches: Sequence[Match], images: Sequence[Image]) -> dict[str, tuple[Arrays | None, Arrays]]:
    """What the calls of the port are fed and said to return: torch's values; only innermost layers are fed."""
    given = {}
    for found in matches:
        theirs, ours = found.torch, found.flax
        returned = all_closest(theirs.outputs, ours.outputs, images)
        if returned is not None:
            given[ours.name] = (all_closest(theirs.inputs, ours.inputs, images) if found.leaf else None, returned)
    return given


def _of_call(
    found: Match, received: Arrays, made: Arrays, before: str, known: dict[str, Any], images: Sequence[Image]
) -> Iterator[Fault]:
    """What is wrong in a call: what reaches it, if it is an innermost layer, and what comes out of it."""
    theirs, ours = found.torch, found.flax
    name = theirs.path or "the model"
    arrived, gave = error(received, theirs.inputs, images), error(made, theirs.outputs, images)
    if found.leaf and arrived > ONE_STEP:
        detail = f"between {before} and {name}: what reaches {name} is wrong, all before it is right"
        at = all_closest(received, theirs.inputs, images)
        yield Fault("glue", theirs.path, ours.path, arrived, detail, made=at, arrives=True, **known)
    if gave > ONE_STEP:
        at = all_closest(made, theirs.outputs, images)
        detail = f"behind {before}: what {name} returns is wrong, its layers are right"
        detail = "given torch's input it gives another output" if found.leaf else detail
        kind = "layer" if found.leaf else "glue"
        yield Fault(kind, theirs.path, ours.path, gave, detail, made=at, **known)


def statistics(
    subject: Subject,
    noted: Mapping[str, Any],
    matches: Sequence[Match],
    moved: Mapping[str, np.ndarray],
    seed: int,
) -> Iterator[Fault]:
    """Running statistics that move in another way in a training step, whatever the layers in front make.

    Args:
      subject, noted, matches, seed: as in `forward`.
      moved: how torch's have, by key.
    """
    flax, bridge = subject.flax, subject.bridge
    _, after = forced(flax, noted, _torchs(matches, bridge.flattened), seed=seed, train=True)
    before, now = (bridge.to_torch(values) for values in (flax.statistics(flax.model.stats), after))
    port = {link.source.name: link.leaf.name for link in bridge.links}
    fed = {found.torch.path for found in matches if found.leaf}
    for name, wanted in moved.items():
        mine = now[name] - before[name] if name in now else None
        worst = float("inf") if mine is None else relative(mine, wanted)
        if worst > ONE_STEP and name.rpartition(".")[0] in fed:
            detail = "the statistic moves differently in training"
            made = None if mine is None else (mine,)
            yield Fault("buffers", name, port.get(name, ""), worst, detail, True, made, (wanted,))
