"""Verdicts on made-up recordings: what passes, fails, abstains, and why."""

import math

import numpy as np
import pytest

from parity.recording import Recording
from parity.verdict import Verdict, judge, relative

FACTS = {"skipped": {}}


def recording(**tensors):
    return Recording({name.replace("__", "/"): np.asarray(value, float) for name, value in tensors.items()}, FACTS)


def verdict_of(phase, theirs, mine, shaken=None):
    name = f"{phase}__x"
    perturbed = None if shaken is None else recording(**{name: shaken})
    phases = judge(recording(**{name: theirs}), recording(**{name: mine}), None, perturbed)
    return next(found for found in phases if found.name == phase).leaves[0]


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0.0),
        ([3.0, 4.5], [3.0, 4.0], 0.1),
        ([0.0], [0.0], 0.0),
        ([1.0], [0.0], math.inf),
        ([np.nan, 1.0], [np.nan, 1.0], 0.0),
        ([np.nan, 1.0], [1.0, 1.0], math.inf),
        ([1.0, 1.0], [1.0], math.inf),
    ],
)
def test_the_error_is_relative_in_l2(mine, theirs, expected):
    assert relative(np.asarray(mine), np.asarray(theirs)) == pytest.approx(expected)


def test_an_error_above_the_threshold_fails_and_one_below_passes():
    assert verdict_of("eval_forward", [1.0, 2.0], [1.0, 2.0 + 1e-12]).verdict is Verdict.PASS
    assert verdict_of("eval_forward", [1.0, 2.0], [1.0, 2.0 + 1e-8]).verdict is Verdict.FAIL


def test_what_rounding_does_to_torch_itself_proves_nothing():
    leaf = verdict_of("eval_forward", [1.0], [1.001], shaken=[0.9995])
    assert leaf.verdict is Verdict.ABSTAIN
    assert "rounding alone" in leaf.reason


def test_an_error_far_above_the_floor_still_fails():
    assert verdict_of("eval_forward", [1.0], [1.1], shaken=[0.9995]).verdict is Verdict.FAIL


def test_a_structurally_zero_gradient_abstains_and_a_lost_one_fails():
    def phase(mine):
        theirs = recording(parameter_gradients__a=[1.0], parameter_gradients__b=[1e-17])
        port = recording(parameter_gradients__a=[1.0], parameter_gradients__b=[mine])
        found = next(p for p in judge(theirs, port) if p.name == "parameter_gradients")
        return {leaf.name: leaf.verdict for leaf in found.leaves}, found.verdict

    assert phase(-3e-17) == ({"a": Verdict.PASS, "b": Verdict.ABSTAIN}, Verdict.PASS)
    assert phase(1e-3) == ({"a": Verdict.PASS, "b": Verdict.FAIL}, Verdict.FAIL)


def test_a_tensor_that_one_side_lacks_fails():
    theirs, mine = recording(eval_forward__a=[1.0], eval_forward__b=[1.0]), recording(eval_forward__a=[1.0])
    phase = next(p for p in judge(theirs, mine) if p.name == "eval_forward")
    assert [(leaf.name, leaf.verdict) for leaf in phase.leaves] == [("a", Verdict.PASS), ("b", Verdict.FAIL)]
    assert phase.leaves[1].reason == "the port has no such tensor"


def test_a_multiple_of_torchs_is_told():
    assert verdict_of("eval_forward", [1.0, 2.0], [0.5, 1.0]).reason == "0.5 times torch's"


def test_momentum_kept_multiplied_by_the_rate_is_the_same_momentum():
    name = "optimizer_state__w.momentum_buffer"
    theirs, mine = recording(**{name: [1.0, 2.0]}), recording(**{"optimizer_state__w.trace": [0.1, 0.2]})
    phase = next(p for p in judge(theirs, mine) if p.name == "optimizer_state")
    assert phase.verdict is Verdict.PASS
