"""Ports of many kinds of layers that are right: a proof that fails on one of them raises a false alarm."""

import pytest

from parity.prove import prove
from parity.twins.families import FAMILIES
from parity.verdict import Verdict


@pytest.mark.parametrize("name", FAMILIES)
def test_a_correct_port_passes(name):
    judgement = prove(FAMILIES[name](), steps=2)
    failed = [
        (phase.name, phase.error or phase.worst) for phase in judgement.phases if phase.verdict.name == "FAIL"
    ]
    assert judgement.verdict is Verdict.PASS, failed
