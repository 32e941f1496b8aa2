"""Norms on inputs of large mean: a difference of squares is caught, a careful variance passes."""

import pytest
import torch
from flax import nnx

from parity import Pair
from parity.diagnose import diagnose
from parity.locate import locate
from parity.prove import proof
from parity.verdict import Verdict


def pair(fast):
    return Pair(
        torch=lambda: torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.LayerNorm(6)),
        flax=lambda: nnx.Sequential(
            nnx.Linear(4, 6, rngs=nnx.Rngs(0)),
            nnx.LayerNorm(6, epsilon=1e-5, use_fast_variance=fast, rngs=nnx.Rngs(0)),
        ),
        inputs=lambda rng: rng.normal(0.5, 1, (5, 4)),
    )


@pytest.mark.parametrize(("fast", "expected"), [(False, Verdict.PASS), (True, Verdict.FAIL)])
def test_only_a_difference_of_squares_fails_and_only_at_a_large_mean(fast, expected):
    judgement = proof(pair(fast)).judgement
    assert judgement.phase("large_mean").verdict is expected
    assert {judgement.phase(name).verdict for name in ("eval_forward", "train_forward")} == {Verdict.PASS}
    assert judgement.verdict is expected


def test_it_is_located_and_named():
    found = proof(pair(fast=True))
    location = locate(found.subject, found.judgement, found.reference.facts)
    assert [(fault.kind, fault.place) for fault in location.faults] == [("variance", "1")]
    (diagnosis,) = diagnose(found.subject, found.reference, found.port, location)
    assert diagnosis.explanation.name == "fast variance"
    assert "use_fast_variance=False" in diagnosis.explanation.fix


def test_a_model_without_norms_skips_the_phase():
    plain = Pair(
        torch=lambda: torch.nn.Linear(4, 3),
        flax=lambda: nnx.Linear(4, 3, rngs=nnx.Rngs(0)),
        inputs=lambda rng: rng.normal(0.5, 1, (5, 4)),
    )
    phase = proof(plain).judgement.phase("large_mean")
    assert phase.verdict is Verdict.SKIP
    assert phase.skipped == "torch has no norm that the port calls too"
