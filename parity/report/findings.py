"""All that is known about a pair after a command has run: what every form of a report is made from.

Plain data. Of this package only `examine` needs torch and JAX, so that two dumps are judged without either.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from parity.pair import Pair
from parity.report.sources import Place, class_of, place_of
from parity.verdict import Judgement, Verdict

if TYPE_CHECKING:
    from parity.diagnose import Diagnosis
    from parity.locate import Fault, Location
    from parity.prove import Subject


@dataclasses.dataclass(frozen=True)
class Finding:
    """A fault, its place and its explanation.

    Attributes:
      kind: of `parity.locate.Fault`, as are ``place``, ``port``, ``error``, ``detail`` and ``train``.
      name, fix: the explanation that makes the error vanish; empty where none of those ``tried`` does.
      left: the error that is left under it.
      others: explanations that fit as well, with their fixes.
      source: where in the port's code.
    """

    kind: str
    place: str
    port: str
    error: float
    detail: str
    train: bool
    name: str = ""
    fix: str = ""
    left: float = math.nan
    others: tuple[tuple[str, str], ...] = ()
    tried: int = 0
    source: Place | None = None

    @property
    def title(self) -> str:
        """Kind and place: ``layer bn1 (port: norm1) in training``."""
        port = f" (port: {self.port})" if self.port and self.port != self.place else ""
        return f"{self.kind} {self.place}".strip() + port + (" in training" if self.only_in_training else "")

    @property
    def alternatives(self) -> str:
        """The names of what explains it as well."""
        return ", ".join(dict.fromkeys(name for name, _ in self.others))

    @property
    def only_in_training(self) -> bool:
        """A fault of the forward that evaluation does not show."""
        return self.train and self.kind in ("layer", "glue")


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer in both models; the errors are those of the whole run, so one fault shows in all that follow.

    Attributes:
      place, port: torch's path and the port's; empty for the model itself.
      classes: torch's class and the port's.
      inputs, outputs, gradient: relative errors of what it gets and gives, and of the gradient by what it gives.
      verdict: of outputs and gradient.
      fault: the kind of fault that lies here, empty without one; "glue" lies in front of the layer.
    """

    place: str
    port: str
    classes: tuple[str, str]
    inputs: float
    outputs: float
    gradient: float
    verdict: Verdict
    fault: str


@dataclasses.dataclass(frozen=True)
class Report:
    """A command's result.

    Attributes:
      command: "prove", "measure", "init", ...
      target: as it was given.
      judgement: phase by phase.
      call: the Python expression over ``pair`` that gives the judgement again; empty for two dumps.
      findings: every fault that was located.
      layers: in the order in which torch's layers end.
      unmatched: layers of torch without counterpart.
      source: the function that makes the pair.
    """

    command: str
    target: str
    judgement: Judgement
    call: str = ""
    findings: tuple[Finding, ...] = ()
    layers: tuple[Layer, ...] = ()
    unmatched: tuple[str, ...] = ()
    source: Place | None = None

    @property
    def failed(self) -> tuple[str, ...]:
        """The phases with FAIL or ERROR."""
        return tuple(p.name for p in self.judgement.phases if p.verdict in (Verdict.FAIL, Verdict.ERROR))


def examine(
    pair: Pair,
    target: str,
    command: str = "prove",
    *,
    seed: int = 0,
    steps: int = 5,
    layers: bool = False,
    diagnosing: bool = True,
) -> Report:
    """Proves a pair; where it fails, finds out where and why.

    Args:
      pair, target: what `parity.pair.load` made of what.
      command: for the report's head.
      seed, steps: of the proof.
      layers: give the tree of layers even where nothing fails.
      diagnosing: explain the faults.
    """
    from parity.diagnose import diagnose
    from parity.locate import locate
    from parity.prove import proof

    made = proof(pair, seed=seed, steps=steps)
    report = Report(
        command, target, made.judgement, f"prove(pair, seed={seed}, steps={steps})", source=place_of(target)
    )
    if made.subject is None or made.reference is None or made.port is None:
        return report
    if made.judgement.verdict is not Verdict.FAIL and not layers:
        return report
    try:
        location = locate(made.subject, made.judgement, made.reference.facts, seed=seed)
        explained: Sequence[Diagnosis] = ()
        if diagnosing and location.faults:
            explained = diagnose(made.subject, made.reference, made.port, location, seed=seed)
    except Exception as error:  # the verdict stands, whatever happens to a model that is run in pieces
        lost = f"where and why could not be found out: {type(error).__name__}: {error}"
        judgement = dataclasses.replace(made.judgement, warnings=(*made.judgement.warnings, lost))
        return dataclasses.replace(report, judgement=judgement)
    return dataclasses.replace(
        report,
        findings=_findings(pair, target, location, explained),
        layers=_layers(made.subject, made.judgement, location),
        unmatched=location.unmatched,
    )


def initial(judgement: Judgement, target: str, seeds: int) -> Report:
    """Of `parity.initial.check`: its tests hold p-values against a level, so distances have no threshold."""
    failed = [leaf for phase in judgement.phases for leaf in phase.leaves if leaf.verdict is Verdict.FAIL]
    source = place_of(target)
    findings = tuple(
        Finding(
            "initial", leaf.name, "", leaf.error, leaf.reason, False, fix=getattr(leaf, "fix", ""), source=source
        )
        for leaf in failed
    )
    phases = tuple(
        dataclasses.replace(
            phase, leaves=tuple(dataclasses.replace(leaf, limit=math.nan) for leaf in phase.leaves)
        )
        for phase in judgement.phases
    )
    shown = dataclasses.replace(judgement, phases=phases)
    return Report("init", target, shown, f"check(pair, seeds={seeds})", findings, source=source)


def tree(layers: Sequence[Layer]) -> Mapping[str | None, list[Layer]]:
    """The layers directly within each, by its path; under None the outermost."""
    known = {layer.place for layer in layers}
    found: dict[str | None, list[Layer]] = {}
    for layer in layers:
        found.setdefault(_parent(layer.place, known), []).append(layer)
    return found


def _parent(place: str, known: set[str]) -> str | None:
    if not place:
        return None
    parent = place.rpartition(".")[0]
    while parent and parent not in known:
        parent = parent.rpartition(".")[0]
    return parent if parent in known else None


def _findings(
    pair: Pair, target: str, location: "Location", explained: "Sequence[Diagnosis]"
) -> tuple[Finding, ...]:
    if not explained:
        return tuple(_finding(pair, target, fault) for fault in location.faults)
    return tuple(_finding(pair, target, diagnosis.fault, **_explained(diagnosis)) for diagnosis in explained)


def _explained(diagnosis: "Diagnosis") -> dict[str, Any]:
    others = tuple((other.name, other.fix) for other in diagnosis.others)
    given: dict[str, Any] = {"left": diagnosis.after, "tried": diagnosis.tried, "others": others}
    if diagnosis.explanation:
        given |= {"name": diagnosis.explanation.name, "fix": diagnosis.explanation.advice}
    return given


def _finding(pair: Pair, target: str, fault: "Fault", **given: Any) -> Finding:
    source = place_of(target, pair, fault.kind, fault.port)
    return Finding(
        fault.kind, fault.place, fault.port, fault.error, fault.detail, fault.train, source=source, **given
    )


def _layers(subject: "Subject", judgement: Judgement, location: "Location") -> tuple[Layer, ...]:
    """The tree. Where the model is right a layer that differs only holds its elements in another order."""
    spoiled = {"eval_forward", "train_forward", "loss", "input_gradients", "parameter_gradients"}
    failed = {phase.name for phase in judgement.phases if phase.verdict is Verdict.FAIL}
    wrong = Verdict.FAIL if failed & spoiled else Verdict.ABSTAIN
    theirs = {name: type(module).__name__ for name, module in subject.module.named_modules()}
    port = subject.pair.flax_module()
    faults: dict[str, str] = {}
    for fault in location.faults:
        owner = fault.place.rpartition(".")[0] if fault.kind in ("weights", "buffers") else fault.place
        faults.setdefault(owner, fault.kind)
    found: dict[str, Layer] = {}
    for row in location.rows:
        made = Layer(
            row.place,
            row.port,
            (theirs.get(row.place, ""), class_of(port, row.port)),
            row.inputs,
            row.outputs,
            row.gradient,
            wrong if row.verdict is Verdict.FAIL else row.verdict,
            faults.get(row.place, "") if row.place else "",
        )
        before = found.get(row.place)
        found[row.place] = _worst(before, made) if before else made
    return tuple(found.values())


def _worst(first: Layer, second: Layer) -> Layer:
    """Of two calls of one layer the larger errors."""
    return dataclasses.replace(
        first,
        inputs=max(first.inputs, second.inputs),
        outputs=max(first.outputs, second.outputs),
        gradient=max(first.gradient, second.gradient),
        verdict=second.verdict if first.verdict is Verdict.PASS else first.verdict,
    )
