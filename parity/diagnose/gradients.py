"""Gradients: what a wrong one looks like, zero or a multiple."""

import math
from collections.abc import Iterator

import numpy as np

from parity.diagnose.explanation import Candidate, Explanation
from parity.diagnose.values import multiple, stacked
from parity.locate import Fault
from parity.recording import Recording
from parity.verdict import relative


def candidates(fault: Fault, port: Recording, reference: Recording) -> Iterator[Candidate]:
    """For a layer whose backward differs while its forward is right."""
    if fault.made is not None and fault.wanted is not None:
        yield from _passed(fault)
    own = reference.phase("parameter_gradients").values()
    wrong = [key for key in own if key in port.tensors and _differs(port, reference, key)]
    wrong = wrong or [key for key in reference.tensors if key.startswith("input_gradients/")]
    mine = stacked({key: port.tensors[key] for key in wrong})
    theirs = stacked({key: reference.tensors[key] for key in wrong})
    yield from _looks(fault, "behind it", mine, theirs)


def _passed(fault: Fault) -> Iterator[Candidate]:
    """From what the layer passes to its own inputs, whatever else reaches these."""
    mine, theirs = (np.concatenate([x.ravel() for x in parts or ()]) for parts in (fault.made, fault.wanted))
    yield from _looks(fault, "that it passes on", mine, theirs)


def _looks(fault: Fault, which: str, mine: np.ndarray, theirs: np.ndarray) -> Iterator[Candidate]:
    fix = f"no gradient passes {fault.place}: look for stop_gradient, or an operation without one"
    yield Explanation("stopped gradient", fix), math.inf if mine.any() else 0.0
    if theirs.any():
        factor = multiple(mine, theirs)
        fix = f"{fault.place}: the gradient {which} is {factor:.6g} times torch's"
        yield Explanation("scaled gradient", fix), relative(mine, factor * theirs)


def _differs(port: Recording, reference: Recording, key: str) -> bool:
    return relative(port.tensors[key], reference.tensors[key]) > 1e-10
