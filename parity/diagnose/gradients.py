"""Gradients: what a wrong one looks like, zero or a multiple."""

import math
from collections.abc import Iterator

import numpy as np

from parity.diagnose.explanation import Candidate, Explanation
from parity.diagnose.values import multiple
from parity.locate import Fault
from parity.verdict import relative


def candidates(fault: Fault) -> Iterator[Candidate]:
    """For a layer that passes other gradients on while its forward is right, or glue behind it that does."""
    if fault.made is None or fault.wanted is None:
        return
    mine, theirs = (np.concatenate([x.ravel() for x in parts]) for parts in (fault.made, fault.wanted))
    which = "behind it" if fault.arrives else "that it passes on"
    fix = f"no gradient passes {fault.place}: look for stop_gradient, or an operation without one"
    yield Explanation("stopped gradient", fix), math.inf if mine.any() else 0.0
    if theirs.any():
        factor = multiple(mine, theirs)
        fix = f"{fault.place}: the gradient {which} is {factor:.6g} times torch's"
        yield Explanation("scaled gradient", fix), relative(mine, factor * theirs)
