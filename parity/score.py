"""The score of a check: which planted faults it catches; the proof's beside that of other projects' rules."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from parity import mutate, prove
from parity.bridge import BridgeError
from parity.diagnose import diagnose
from parity.locate import locate
from parity.mutate import Fault, Planted, Right
from parity.pair import Pair, PairError
from parity.recording import Recording
from parity.verdict import Judgement, Verdict, judge


@dataclasses.dataclass(frozen=True)
class Result:
    """One planted fault.

    Attributes:
      pair, fault: which.
      verdict: of the proof.
      phases: those that failed.
      error: the largest error of the first of them.
      located: whether `parity.locate` found the place first.
      named: whether `parity.diagnose` named it first; `said` is what it named.
      rules: name of another rule -> whether it catches the fault.
    """

    pair: str
    fault: str
    verdict: Verdict
    phases: tuple[str, ...]
    error: float
    located: bool
    named: bool
    said: str
    rules: Mapping[str, bool]

    @property
    def caught(self) -> bool:
        """Whether the proof does not pass."""
        return self.verdict in (Verdict.FAIL, Verdict.ERROR)


def score(pair: Pair, names: Sequence[str] = (), *, seed: int = 0, steps: int = prove.STEPS) -> Iterator[Result]:
    """Plants every fault that the pair has a place for, one at a time.

    Args:
      pair: a correct one.
      names: of faults; all without.
      seed, steps: of the proof.
    """
    given = mutate.right(pair, seed=seed, steps=steps)
    for fault, planted in mutate.planted(given, names):
        yield _result(given, fault, planted, seed, steps)


def _result(given: Right, fault: Fault, planted: Planted, seed: int, steps: int) -> Result:
    try:
        with prove.precise():
            subject = prove.prepare(planted.pair, seed=seed)
            reference, port, perturbed = prove.record(subject, seed=seed, steps=steps)
    except (PairError, BridgeError) as error:
        return Result(given.pair.name, fault.name, Verdict.ERROR, ("pair",), np.inf, False, False, str(error), {})
    judgement = Judgement(given.pair.name, judge(reference, port, subject.bridge, perturbed))
    failed = [phase for phase in judgement.phases if phase.verdict is Verdict.FAIL]
    location = locate(subject, judgement, reference.facts, seed=seed)
    diagnoses = diagnose(subject, reference, port, location, seed=seed, steps=steps)
    first = location.faults[0] if location.faults else None
    located = bool(first and first.kind in planted.kinds and _names(first.place, planted.places))
    said = next((d.explanation.name for d in diagnoses if d.explanation), "")
    worst = failed[0].worst if failed else None
    return Result(
        given.pair.name,
        fault.name,
        judgement.verdict,
        tuple(phase.name for phase in failed),
        worst.error if worst else 0.0,
        located,
        bool(diagnoses) and diagnoses[0].explanation is not None and diagnoses[0].explanation.name == fault.name,
        said,
        {name: not rule(reference, port) for name, rule in RULES.items()},
    )


def _names(place: str, places: frozenset[str]) -> bool:
    """Whether a layer, or a parameter or statistic of it, is among the places; there may be none to name."""
    return not places or place in places or place.rpartition(".")[0] in places


def _close(phase: str, atol: float, rtol: float = 0.0) -> Callable[[Recording, Recording], bool]:
    """Whether all tensors of a phase agree within ``atol + rtol * |torch|``, element by element."""

    def rule(reference: Recording, port: Recording) -> bool:
        return all(
            key in port.tensors and np.allclose(port.tensors[key], reference.tensors[key], rtol=rtol, atol=atol)
            for key in reference.phase(phase).values()
        )

    return rule


# What others publish for their ports, used here on the outputs in evaluation, as they do.
# transformers: tests/test_modeling_flax_common.py, check_pt_flax_outputs: no element differs by more than 4e-2.
# bonsai: bonsai/models/ConvNext/tests/test_outputs_ConvNext.py: torch.testing.assert_close(rtol=1e-5, atol=1e-5).
RULES: Mapping[str, Callable[[Recording, Recording], bool]] = {
    "transformers' rule": _close("eval_forward", atol=4e-2),
    "bonsai's rule": _close("eval_forward", atol=1e-5, rtol=1e-5),
}


def text(results: Sequence[Result]) -> str:
    """The table in Markdown."""
    rules = list(RULES)
    head = ["pair", "fault", "proof", "first failing phase", "error", "located", "named", *rules]
    rows = [
        [
            r.pair,
            r.fault,
            r.verdict.value,
            r.phases[0] if r.phases else "",
            f"{r.error:.1e}",
            "yes" if r.located else "no",
            "yes" if r.named else r.said or "no",
            *("caught" if r.rules.get(rule) else "" for rule in rules),
        ]
        for r in results
    ]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def summary(results: Sequence[Result]) -> Mapping[str, Any]:
    """Counts over all planted faults."""
    return {
        "planted": len(results),
        "kinds": len({r.fault for r in results}),
        "caught": sum(r.caught for r in results),
        "located": sum(r.located for r in results),
        "named": sum(r.named for r in results),
        **{rule: sum(r.rules.get(rule, True) for r in results) for rule in RULES},
    }
