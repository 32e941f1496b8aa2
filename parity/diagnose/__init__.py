"""Why a port goes wrong: the change to torch's side that makes it compute what the port computes.

Every explanation is tried on a copy of the torch module, its loss or its optimizer, at the place that
`parity.locate` found; the one under which the two agree is named, with what to change in the port.
"""

import dataclasses
import math
import warnings
from collections.abc import Iterator

from parity.diagnose import glue, gradients, layers, loss, optimizer, statistics, weights
from parity.diagnose.explanation import EXPLAINED, Candidate, Explanation
from parity.diagnose.weights import explain_weight
from parity.locate import Fault, Location
from parity.prove import Subject, precise
from parity.recording import Recording

__all__ = ["EXPLAINED", "Diagnosis", "Explanation", "diagnose", "explain_weight"]


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """A fault and its likeliest explanation.

    Attributes:
      fault: what was located.
      explanation: None where none of those that were tried makes the error vanish.
      before, after: the error, and what is left of it under the explanation.
      others: explanations that fit as well.
      tried: how many there were.
    """

    fault: Fault
    explanation: Explanation | None
    before: float
    after: float
    others: tuple[Explanation, ...]
    tried: int


def diagnose(
    subject: Subject, reference: Recording, port: Recording, location: Location, *, seed: int = 0
) -> list[Diagnosis]:
    """The best explanation of every located fault.

    Args:
      subject, reference, port: of `parity.prove`.
      location: of `parity.locate`.
      seed: as in the proof.

    Returns:
      One a fault, or two where two explain it together: a wrong setting and a wrong schedule.
    """
    with precise(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of loops that nobody would write
        found: list[Diagnosis] = []
        for fault in location.faults:
            one = _ranked(fault, list(_candidates(fault, subject, reference, port, seed)))
            unexplained = fault.kind in ("optimizer", "schedule") and one.explanation is None
            both = optimizer.pairs(subject, reference, port) if unexplained else None
            found += [_together(one, each) for each in both] if both else [one]
    return found


def _candidates(
    fault: Fault, subject: Subject, reference: Recording, port: Recording, seed: int
) -> Iterator[Candidate]:
    if fault.kind == "weights":
        yield from weights.candidates(fault, subject)
    elif fault.kind == "layer":
        yield from weights.candidates_of_layer(fault, subject)
        yield from layers.candidates(fault, subject, seed)
    elif fault.kind == "glue":
        yield from glue.candidates(fault, subject, seed)
    elif fault.kind == "variance":
        yield from layers.variance(fault)
    elif fault.kind == "buffers":
        yield from statistics.candidates(fault, subject, seed)
    elif fault.kind == "loss":
        yield from loss.candidates(fault, subject, seed)
    elif fault.kind == "backward":
        yield from gradients.candidates(fault)
    elif fault.kind in ("optimizer", "schedule"):
        yield from optimizer.candidates(subject, reference, port)


def _together(one: Diagnosis, explanation: Explanation) -> Diagnosis:
    """One of two explanations that leave nothing together."""
    kind = "schedule" if "schedule" in explanation.name else "optimizer"
    fault = dataclasses.replace(one.fault, kind=kind, detail=f"{one.fault.detail}; one of two reasons")
    return dataclasses.replace(one, fault=fault, explanation=explanation, after=0.0)


def _ranked(fault: Fault, candidates: list[Candidate]) -> Diagnosis:
    """The candidate that leaves least; of those that leave nothing but rounding, the first that was tried."""
    finite = [candidate for candidate in candidates if math.isfinite(candidate[1])]
    ranked = sorted(finite, key=lambda candidate: max(candidate[1], 1e-12))
    fitting = [candidate for candidate in ranked if candidate[1] <= min(EXPLAINED, fault.error / 10)]
    best, left = (fitting or ranked or [(None, math.nan)])[0]
    best = best if fitting else None
    others = tuple(dict.fromkeys(other for other, _ in fitting if best and other.name != best.name))
    return Diagnosis(fault, best, fault.error, left, others, len(candidates))
