"""The score of a check: which planted faults it catches; the proof's beside that of other projects' rules."""

import dataclasses
import datetime
import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence

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


def false_alarms(pair: Pair, *, seeds: int, steps: int = prove.STEPS) -> int:
    """With how many seeds of 0 to ``seeds - 1`` the proof does not pass a pair that is correct."""
    passed = sum(prove.prove(pair, seed=seed, steps=steps).verdict is Verdict.PASS for seed in range(seeds))
    return seeds - passed


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
    diagnoses = diagnose(subject, reference, port, location, seed=seed)
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


Rule = Callable[[Recording, Recording], bool]


def _close(
    phase: str, atol: float, rtol: float = 0.0, of: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> Rule:
    """Whether all tensors of a phase agree within ``atol + rtol * |torch|``, element by element."""

    def rule(reference: Recording, port: Recording) -> bool:
        return all(
            key in port.tensors
            and np.allclose(of(port.tensors[key]), of(reference.tensors[key]), rtol=rtol, atol=atol)
            for key in reference.phase(phase).values()
        )

    return rule


def _updated_close(atol: float, rtol: float) -> Rule:
    """The same of the parameters after one update."""

    def rule(reference: Recording, port: Recording) -> bool:
        for leaf, key in reference.phase("first_update").items():
            weight = reference.tensors.get(f"weights/{leaf}")
            if weight is not None and key in port.tensors:
                ours, theirs = weight + port.tensors[key], weight + reference.tensors[key]
                if not np.allclose(ours, theirs, rtol=rtol, atol=atol):
                    return False
        return True

    return rule


def _all(*rules: Rule) -> Rule:
    return lambda reference, port: all(rule(reference, port) for rule in rules)


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


# What others publish for their ports, used here on what they compare: bonsai and transformers the outputs in
# evaluation, levanter the probabilities, the gradients and the parameters after one update.
# transformers: tests/test_modeling_flax_common.py, check_pt_flax_outputs: no element differs by more than 4e-2.
# bonsai: bonsai/models/ConvNext/tests/test_outputs_ConvNext.py: torch.testing.assert_close(rtol=1e-5, atol=1e-5).
# levanter: tests/test_hf_gpt2_serialize.py: isclose(rtol=1e-2, atol=1e-2), at the end (rtol=1e-3, atol=2e-3).
RULES: Mapping[str, Rule] = {
    "transformers' rule": _close("eval_forward", atol=4e-2),
    "bonsai's rule": _close("eval_forward", atol=1e-5, rtol=1e-5),
    "levanter's rule": _all(
        _close("eval_forward", atol=1e-2, rtol=1e-2, of=_softmax),
        _close("parameter_gradients", atol=1e-2, rtol=1e-2),
        _updated_close(atol=2e-3, rtol=1e-3),
    ),
}


def text(results: Sequence[Result], alarms: Mapping[str, int], seeds: int) -> str:
    """Both tables in Markdown: the counts of each pair, then a row for each fault.

    Args:
      results: of `score`.
      alarms: pair -> its `false_alarms`.
      seeds: of how many.
    """
    pairs = list(dict.fromkeys(result.pair for result in results))
    counts = [(pair, alarms[pair], seeds, summary([r for r in results if r.pair == pair])) for pair in pairs]
    counts += [("all", sum(alarms.values()), seeds * len(pairs), summary(results))] if len(pairs) > 1 else []
    totals = [[name, f"{false} of {of}", *map(str, found.values())] for name, false, of, found in counts]
    faults = list(dict.fromkeys(result.fault for result in results))
    rows = [_row(fault, pairs, [r for r in results if r.fault == fault]) for fault in faults]
    return "\n\n".join(
        [
            _table(["pair", "false alarms", *summary(results)], totals),
            _table(["fault", "the port's author", *pairs, *RULES], rows),
        ]
    )


def _row(fault: str, pairs: Sequence[str], results: Sequence[Result]) -> list[str]:
    author = next((known.text for known in mutate.FAULTS if known.name == fault), "")
    cells = {result.pair: _cell(result) for result in results}
    caught = [f"{sum(r.rules.get(rule, True) for r in results)} of {len(results)}" for rule in RULES]
    return [fault, author, *(cells.get(pair, "") for pair in pairs), *caught]


def _cell(result: Result) -> str:
    """The error of the first phase that fails, and what did not work."""
    if not result.caught:
        return "MISSED"
    error = "refused" if result.verdict is Verdict.ERROR else f"{result.error:.0e} in {result.phases[0]}"
    wrong = [] if result.located else ["not located"]
    wrong += [] if result.named else [f"named {result.said}" if result.said else "not named"]
    return "; ".join([error, *wrong])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def summary(results: Sequence[Result]) -> Mapping[str, int]:
    """Counts over planted faults."""
    return {
        "planted": len(results),
        "caught": sum(r.caught for r in results),
        "located": sum(r.located for r in results),
        "named first": sum(r.named for r in results),
        **{rule: sum(r.rules.get(rule, True) for r in results) for rule in RULES},
    }


def page(tables: str, targets: Sequence[str], seeds: int) -> str:
    """The tables with the command that made them and the versions it ran with."""
    command = f"python -m parity mutate {' '.join(targets)} --seeds {seeds} --markdown FILE"
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", "jax", "flax", "optax")
    )
    return f"""# The score of the proof

Bugs of ports, planted one at a time into correct pairs. A cell holds the relative error of the first phase that
fails; the last columns, on how many pairs the rules catch it that other projects publish for their ports (on this
testbed, not on theirs; `parity/score.py` names the sources).

`{command}`; {versions}, Python {platform.python_version()}, {datetime.date.today().isoformat()}

{tables}
"""
