"""Sums: which other values a port adds up where torch adds up some."""

import math
from collections.abc import Iterator, Mapping

import numpy as np

from parity.diagnose.explanation import Candidate, Explanation
from parity.locate import Fault
from parity.prove import Subject
from parity.torch_side import TorchSide
from parity.trace import torch_calls
from parity.verdict import relative

MOST = 40  # terms that are tried together
NOTHING = 1e-9  # a coefficient that is none


def candidates(fault: Fault, subject: Subject, plain: np.ndarray, seed: int) -> Iterator[Candidate]:
    """For a value that is a sum of what torch's layers take and return, but not torch's sum.

    Args:
      fault: with one array that the port made.
      subject: the pair.
      plain: torch's value.
      seed: of the batch.
    """
    mine = fault.made[0] if fault.made else plain
    terms = _terms(fault, subject, mine.shape, seed)
    if not terms or mine.size <= 2 * len(terms):
        return
    ours, left = _solved(mine, terms)
    theirs, exact = _solved(plain, terms)
    if ours and theirs and exact < 1e-8:
        told = f"the port adds up {_words(ours)}, torch {_words(theirs)}"
        yield Explanation("other terms", f"{told} (in front of {fault.place or 'the output'})"), left


def _terms(fault: Fault, subject: Subject, shape: tuple[int, ...], seed: int) -> dict[str, np.ndarray]:
    """Values of one shape that are known in front of the place, by what they are."""
    side = TorchSide(subject.pair, subject.module, subject.weights)
    found: dict[str, np.ndarray] = {}
    for call in torch_calls(side, seed=seed, train=fault.train, gradients=False):
        here = call.path == fault.place
        values = {f"what {call.path or 'the model'} gets": call.inputs} if not here else {}
        values |= {call.path: call.outputs} if not here else {}
        for name, arrays in values.items():
            for array in arrays:
                known = any(np.array_equal(array, other) for other in found.values())
                if array.shape == shape and not known and len(found) < MOST:
                    found[name] = array
        if here:
            break
    return found


def _solved(value: np.ndarray, terms: Mapping[str, np.ndarray]) -> tuple[dict[str, float], float]:
    """The factors under which the terms add up to a value, and what is left of it."""
    columns = np.stack([term.ravel() for term in terms.values()], 1)
    factors = np.linalg.lstsq(columns, value.ravel(), rcond=None)[0]
    kept = {name: float(f) for name, f in zip(terms, factors, strict=True) if abs(f) > NOTHING}
    made = sum(factor * terms[name] for name, factor in kept.items())
    return kept, relative(np.asarray(made), value) if kept else math.inf


def _words(factors: Mapping[str, float]) -> str:
    return " + ".join(name if abs(f - 1) < NOTHING else f"{f:.6g} * ({name})" for name, f in factors.items())
