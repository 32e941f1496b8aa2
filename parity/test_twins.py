"""Every pair that is shipped is proven: ``pytest parity``."""

import pytest

from parity.pytest_plugin import Parity
from parity.twins import PAIRS
from parity.verdict import Verdict


@pytest.mark.parametrize("name", PAIRS)
def test_a_shipped_pair_is_proven(name):
    judgement = Parity().prove(PAIRS[name]())

    assert judgement.verdict is Verdict.PASS
    skipped = {phase.name for phase in judgement.phases if phase.skipped}
    assert skipped <= {"weights", "buffers", "optimizer_state"}  # no statistics, SGD that keeps nothing
