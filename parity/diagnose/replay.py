"""torch's optimizer fed recorded gradients again, as it is and as a pair says; and what updates look like."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from parity.diagnose.explanation import EXPLAINED, Candidate, Explanation
from parity.diagnose.rebuilt import undecayed
from parity.diagnose.values import multiple, stacked
from parity.pair import Pair
from parity.prove import Subject
from parity.recording import Recording
from parity.torch_side import TorchSide, fed
from parity.verdict import relative


class Replay:
    """torch's optimizer on its own gradients, held against what the port's made of them.

    Args:
      subject: the pair.
      reference, port: the recordings of both sides.
    """

    def __init__(self, subject: Subject, reference: Recording, port: Recording) -> None:
        self.subject, self.reference, self.port = subject, reference, port
        self.steps = int(reference.facts["steps"])
        self.side = TorchSide(subject.pair, subject.module, subject.weights, hold=subject.bridge.held)

    def fed(self, pair: Pair, steps: int | None = None) -> dict[int, dict[str, np.ndarray]]:
        """The changes that torch's optimizer makes as a pair says; none where there is no such setting."""
        self.side.pair = pair
        try:
            return fed(self.side, self.reference, steps or self.steps)
        except Exception:  # as many kinds as there are optimizers
            return {}

    def left(self, pair: Pair, steps: int | None = None) -> float:
        """The largest error of all parameters' changes together, over some updates or all."""
        found = self.fed(pair, steps)
        both = [self.both(f"optimizer/{step}", own) for step, own in found.items()]
        return max((relative(stacked(mine), stacked(theirs)) for mine, theirs in both), default=math.inf)

    def both(
        self, prefix: str, own: Mapping[str, np.ndarray] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """What the port and torch, as recorded or as given, have in common under a prefix."""
        if own is None:
            own = {leaf: self.reference.tensors[key] for leaf, key in self.reference.phase(prefix).items()}
        mine = self.port.phase(prefix)
        theirs = {name: value for name, value in self.subject.bridge.merged(own).items() if name in mine}
        return {name: self.port.tensors[mine[name]] for name in theirs}, theirs


def looks(replay: Replay) -> Iterator[Candidate]:
    """What can be seen in the updates themselves: of torch's gradients, or if these are right the first of all."""
    steps = [replay.both(f"optimizer/{step}") for step in range(1, replay.steps + 1)]
    if all(relative(stacked(mine), stacked(theirs)) <= EXPLAINED for mine, theirs in steps):
        steps = [replay.both("first_update")]
    yield from _multiples(steps)
    mine, theirs = (
        {name: np.stack([step[side][name] for step in steps]) for name in steps[0][side]} for side in (0, 1)
    )
    moved = [name for name in mine if theirs[name].any()]
    still = [name for name in moved if not mine[name].any()]
    yield Explanation("no update", "apply the updates"), 0.0 if moved and len(still) == len(moved) else math.inf
    yield Explanation("frozen layer", f"update {', '.join(still)} as well"), _rest(mine, theirs, still)
    surplus = [name for name in mine if mine[name].any() and name not in moved]
    yield Explanation("not frozen", f"do not update {', '.join(surplus)}"), _rest(mine, theirs, surplus)


def beside(replay: Replay, pair: Pair) -> Iterator[Candidate]:
    """Another rate, or schedule, beside what a pair changes."""
    yield from _multiples([replay.both(f"optimizer/{step}", own) for step, own in replay.fed(pair).items()])


def _multiples(steps: Sequence[tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]]]) -> Iterator[Candidate]:
    """Every update is torch's times a factor: one for all, or one each."""
    both = [(stacked(mine), stacked(theirs)) for mine, theirs in steps]
    both = [(mine, theirs) for mine, theirs in both if theirs.any() or mine.any()]
    factors = [multiple(mine, theirs) for mine, theirs in both]
    if not factors or not np.isfinite(factors).all() or not np.any(factors):
        return
    left = max(relative(mine, factor * theirs) for (mine, theirs), factor in zip(both, factors, strict=True))
    alike = np.ptp(factors) <= EXPLAINED * max(map(abs, factors))
    if alike and abs(factors[0] - 1) > EXPLAINED:
        title = "sign of the update" if abs(factors[0] + 1) < EXPLAINED else "learning rate"
        yield Explanation(title, f"the port's updates are {factors[0]:.6g} times torch's"), left
    elif not alike:
        told = ", ".join(f"{factor:.6g}" for factor in factors)
        fix = f"the port's updates are {told} times torch's, one after the other: the rate is another"
        yield Explanation("schedule", fix), left


def _rest(mine: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray], wrong: Sequence[str]) -> float:
    """The error of all but some parameters; infinite if these are none or all."""
    others = [{name: values[name] for name in mine if name not in wrong} for values in (mine, theirs)]
    return relative(*map(stacked, others)) if 0 < len(wrong) < len(mine) else math.inf


def mixed(replay: Replay) -> Iterator[Candidate]:
    """Weight decay of some parameters and not of others."""
    pair = replay.subject.pair
    assert pair.torch_optimizer
    plain = dataclasses.replace(pair, torch_optimizer=undecayed(pair.torch_optimizer))
    worst, without = 0.0, set()
    for step, own in replay.fed(plain).items():
        mine, none = replay.both(f"optimizer/{step}", own)
        _, theirs = replay.both(f"optimizer/{step}")
        for name, value in mine.items():
            errors = relative(value, theirs[name]), relative(value, none[name])
            without |= {name} if errors[1] < errors[0] else set()
            worst = max(worst, min(errors))
    if without:
        yield Explanation("decay mask", f"torch decays {', '.join(sorted(without))} as well"), worst
