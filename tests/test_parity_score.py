"""The score: faults of each kind of place are caught, located and named; the table and the counts."""

import dataclasses

import jax
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from flax import nnx

from jaxdl.nn import losses
from jaxdl.optim import optimizers
from parity import Pair, score
from parity.recording import Recording
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
def pair():
    return Pair(
        torch=Original,
        flax=Port,
        inputs=lambda rng: rng.normal(size=(5, 4)),
        targets=labels(5, 3),
        loss=(F.cross_entropy, losses.cross_entropy),
        torch_optimizer=lambda m: torch.optim.SGD(m.parameters(), 0.1),
        tx=optimizers.sgd(0.1),
    )


@pytest.fixture(scope="module")
def results(pair):
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


def text(results):
    return score.text(results, {"twins": 0, "other": 1}, 20)


RULES = dict.fromkeys(score.RULES, False)


def test_a_row_holds_one_fault_on_every_pair():
    results = [made(rules=RULES), made(pair="other", rules=RULES | {"bonsai's rule": True})]
    *_, head, _, row = text(results).splitlines()
    assert head.startswith("| fault | the port's author | twins | other |")
    assert row.startswith("| norm eps |")
    assert row.endswith("| 3e-07 in eval_forward | 3e-07 in eval_forward | 0 of 2 | 1 of 2 | 0 of 2 |")


def test_the_table_says_what_did_not_work():
    assert "| 3e-07 in eval_forward; named momentum |" in text([made(named=False, said="momentum")])
    assert "| 3e-07 in eval_forward; not located |" in text([made(located=False)])
    assert "| MISSED |" in text([made(verdict=Verdict.PASS)])
    assert "| refused |" in text([made(verdict=Verdict.ERROR)])


def test_counts_are_over_the_faults_of_a_pair_and_over_all():
    results = [made(), made(pair="other", located=False, named=False), made(verdict=Verdict.PASS, fault="padding")]
    head, _, twins, other, everything = text(results).splitlines()[:5]
    assert head.startswith("| pair | false alarms | planted | caught | located | named first |")
    assert twins.startswith("| twins | 0 of 20 | 2 | 1 | 2 | 2 |")
    assert other.startswith("| other | 1 of 20 | 1 | 1 | 0 | 0 |")
    assert everything.startswith("| all | 1 of 40 | 3 | 2 | 2 | 2 |")


def test_the_page_says_how_it_was_made():
    made = score.page("the tables", ["a.py:one", "block"], 20)
    assert "`python -m parity mutate a.py:one block --seeds 20 --markdown FILE`; torch 2." in made
    assert made.endswith("the tables\n")


def test_a_correct_pair_raises_no_alarm(pair):
    assert score.false_alarms(pair, seeds=2, steps=1) == 0
    assert score.false_alarms(dataclasses.replace(pair, tx=optimizers.sgd(0.2)), seeds=1, steps=1) == 1


def recordings(**changes):
    tensors = {"weights/w": 1.0, "eval_forward/output": 0.5, "parameter_gradients/w": 0.1, "first_update/w": -0.01}
    made = [{key: np.array([value, 0.0]) for key, value in each.items()} for each in (tensors, tensors | changes)]
    return [Recording(each, {}) for each in made]


@pytest.mark.parametrize(
    ("rule", "changes", "passes"),
    [
        ("transformers' rule", {"eval_forward/output": 0.53}, True),
        ("transformers' rule", {"eval_forward/output": 0.55}, False),
        ("bonsai's rule", {"eval_forward/output": 0.50001}, True),
        ("bonsai's rule", {"eval_forward/output": 0.50003}, False),
        ("levanter's rule", {"eval_forward/output": 0.52}, True),
        ("levanter's rule", {"eval_forward/output": 0.7}, False),
        ("levanter's rule", {"parameter_gradients/w": 0.12}, False),
        ("levanter's rule", {"first_update/w": -0.0125}, True),
        ("levanter's rule", {"first_update/w": -0.02}, False),
    ],
)
def test_the_rules_of_others_are_as_published(rule, changes, passes):
    assert score.RULES[rule](*recordings(**changes)) is passes


def test_an_error_counts_as_caught():
    assert made(verdict=Verdict.ERROR).caught
    assert not made(verdict=Verdict.ABSTAIN).caught
