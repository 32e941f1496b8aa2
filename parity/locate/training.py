"""Norms at a large mean, running statistics, the optimizer and its schedule, resuming."""

from collections.abc import Sequence

from parity.bridge import Bridge
from parity.locate.fault import Fault, Row
from parity.verdict import Judgement


def variances(judgement: Judgement, known: set[str], rows: Sequence[Row]) -> list[Fault]:
    """Norms that are right on their own inputs and wrong on inputs of large mean.

    Args:
      judgement: of the proof.
      known: places with a fault.
      rows: all layers.
    """
    ports = {row.place: row.port for row in rows}
    detail = "wrong on inputs of large mean alone"
    return [
        Fault("variance", leaf.name, ports.get(leaf.name, ""), leaf.error, detail, True)
        for leaf in judgement.failing("large_mean")
        if leaf.name not in known
    ]


def buffers(judgement: Judgement, bridge: Bridge, known: set[str]) -> list[Fault]:
    """Statistics that move in another way, where all layers are right and none of them is told to hold them.

    Args:
      judgement, known: as in `variances`.
      bridge: says where they are in the port.
    """
    if any(judgement.failing(name) for name in ("eval_forward", "train_forward")):
        return []
    port = {link.source.name: link.leaf.name for link in bridge.links}
    detail = "the statistic moves differently in training"
    return [
        Fault("buffers", leaf.name, port.get(leaf.name, ""), leaf.error, detail, True)
        for leaf in judgement.failing("buffers")
        if leaf.name not in known
    ]


def training(judgement: Judgement, *, alone: bool) -> list[Fault]:
    """What the optimizer makes of torch's own gradients; and where nothing else is wrong, of training as a whole.

    Args:
      judgement: of the proof.
      alone: no fault is known yet.
    """
    steps = _steps(judgement, "optimizer")
    if steps:
        worst = judgement.phase("optimizer").worst
        first = steps[0] == 1
        detail = (
            "of torch's gradients it makes another update"
            if first
            else f"of torch's gradients it makes the first update, and another one in update {steps[0]}"
        )
        error = worst.error if worst else float("nan")
        return [Fault("optimizer" if first else "schedule", "", "", error, detail, True)]
    gradients = ("eval_forward", "train_forward", "loss", "input_gradients", "parameter_gradients")
    if not alone or any(judgement.failing(name) for name in gradients):
        return []
    for name, kind, detail in (
        ("first_update", "optimizer", "gradients are right, and updates by torch's; but not the first update"),
        ("optimizer_state", "optimizer", "the updates are right, what the optimizer keeps is not"),
        ("updates", "updates", "every update is right by itself, but not all in a row"),
        ("resume", "resume", "training is right, but not when it is resumed"),
    ):
        worst = judgement.phase(name).worst
        if judgement.failing(name) and worst:
            first = _steps(judgement, name)
            where = f"; first in update {first[0]}" if name == "updates" and first else ""
            return [Fault(kind, "", "", worst.error, detail + where, True)]
    return []


def _steps(judgement: Judgement, phase: str) -> list[int]:
    """The updates in which something of a phase fails."""
    leaves = [leaf.name.split("/")[0] for leaf in judgement.failing(phase) if "/" in leaf.name]
    return sorted(set(map(int, leaves)))
