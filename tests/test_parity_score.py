"""The score: faults of each kind of place are caught, located and named; the table and the counts."""

import jax
import pytest
import torch
import torch.nn.functional as F
from flax import nnx

from jaxdl.nn import losses
from jaxdl.optim import optimizers
from parity import Pair, score
from parity.twins.images import labels
from parity.verdict import Verdict

NAMES = ("missing bias", "norm eps", "bfloat16 layer", "gelu form", "loss summed", "learning rate")


class Original(torch.nn.Module):
    """Two layers and gelu."""

    def __init__(self):
        super().__init__()
        self.fc1 = torch.nn.Linear(4, 6)
        self.fc2 = torch.nn.Linear(6, 3)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x)))


class Port(nnx.Module):
    def __init__(self):
        self.fc1 = nnx.Linear(4, 6, rngs=nnx.Rngs(0))
        self.fc2 = nnx.Linear(6, 3, rngs=nnx.Rngs(1))

    def __call__(self, x):
        return self.fc2(jax.nn.gelu(self.fc1(x), approximate=False))


@pytest.fixture(scope="module")
def results():
    pair = Pair(
        torch=Original,
        flax=Port,
        inputs=lambda rng: rng.normal(size=(5, 4)),
        targets=labels(5, 3),
        loss=(F.cross_entropy, losses.cross_entropy),
        torch_optimizer=lambda m: torch.optim.SGD(m.parameters(), 0.1),
        tx=optimizers.sgd(0.1),
    )
    return list(score.score(pair, NAMES, steps=1))


def test_every_fault_that_has_a_place_is_planted(results):
    assert {result.fault for result in results} == set(NAMES) - {"norm eps"}


def test_every_fault_is_caught_located_and_named(results):
    for result in results:
        assert (result.caught, result.located, result.named) == (True, True, True), result


def test_the_first_failing_phase_tells_where_it_begins(results):
    first = {result.fault: result.phases[0] for result in results}
    assert first["missing bias"] == "weights"
    assert first["gelu form"] == first["bfloat16 layer"] == "eval_forward"
    assert first["loss summed"] == "loss"
    assert first["learning rate"] == "first_update"


def made(**changes):
    fields = {
        "pair": "twins", "fault": "norm eps", "verdict": Verdict.FAIL, "phases": ("eval_forward", "loss"),
        "error": 3e-7, "located": True, "named": True, "said": "norm eps", "rules": {},
    }  # fmt: skip
    return score.Result(**(fields | changes))


def test_the_table_has_a_row_for_each_fault():
    head, line, *rows = score.text([made(), made(named=False, said="", located=False, phases=())]).splitlines()
    assert head.startswith("| pair | fault | proof | first failing phase | error | located | named |")
    assert line.count("---") == head.count("|") - 1
    assert rows[0].startswith("| twins | norm eps | FAIL | eval_forward | 3.0e-07 | yes | yes |")
    assert rows[1].startswith("| twins | norm eps | FAIL |  | 3.0e-07 | no | no |")


def test_the_table_says_what_was_named_instead():
    assert "| momentum |" in score.text([made(named=False, said="momentum")])


def test_counts_are_over_all_faults():
    results = [made(), made(pair="other", located=False, named=False), made(verdict=Verdict.PASS, fault="padding")]
    found = score.summary(results)
    expected = {"planted": 3, "kinds": 2, "caught": 2, "located": 2, "named": 2}
    assert {key: found[key] for key in expected} == expected


def test_an_error_counts_as_caught():
    assert made(verdict=Verdict.ERROR).caught
    assert not made(verdict=Verdict.ABSTAIN).caught
