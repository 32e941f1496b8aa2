"""The time of a proof: only one that ends with PASS has a time."""

import argparse
import contextlib
import json

import pytest

from benchmarks import report
from benchmarks.process import ArmError, timed
from benchmarks.tasks import proof

FACTS = {"cpu": "a CPU", "threads": 2, "versions": {"jax": "1"}, "date": "2000-01-01", "command": "the command"}
PARITY = {
    "net": "print('  PASS  44 tensors agree')",
    "bad": "print('the port'); print('  FAIL  the port differs in loss'); raise SystemExit(1)",
    "wrong": "raise SystemExit('parity: no pair wrong')",
}


@pytest.fixture
def found(monkeypatch):
    """The result of a trial with stand-ins for parity."""

    @contextlib.contextmanager
    def stand_in(argv):
        with timed(["-c", PARITY[argv[-1].rpartition("/")[2]]]) as lines:
            yield lines

    monkeypatch.setattr(proof, "timed", stand_in)
    options = argparse.Namespace(pairs=["net", "bad", "folder/wrong"], quick=True)
    (result,) = proof.run(options)
    return json.loads(json.dumps(result | FACTS))


def row(page, start):
    return next(line for line in page.splitlines() if line.startswith(f"| {start} |"))


def test_what_is_no_proof_is_reported_with_its_reason(found):
    page = report.page(found)
    assert row(page, "bad") == "| bad |  |  |  | no proof: FAIL the port differs in loss |"
    assert row(page, "wrong") == "| wrong |  |  |  | no proof: parity: no pair wrong |"
    assert list(proof.measures(found)) == ["proof of net"]
    (seconds,) = proof.measures(found)["proof of net"].samples
    assert 0 < seconds < 30


@pytest.mark.parametrize(
    ("seconds", "remark"),
    [([50, 51, 52], "<= 60: reached"), ([70, 71, 72], "<= 60: missed"), ([30, 50, 90], "noisy")],
)
def test_the_goal_is_held_against_the_median(found, seconds, remark):
    pairs = {"cnn": {"samples": {"seconds": seconds}, "failed": ""}}
    assert row(report.page(found | {"pairs": pairs}), "cnn").endswith(f"| 3 | {remark} |")


def test_parity_is_run_for_each_pair(monkeypatch):
    asked = []

    @contextlib.contextmanager
    def listen(argv):
        asked.append(argv)
        yield iter(())

    monkeypatch.setattr(proof, "timed", listen)
    proof.prove("cnn")
    assert asked == [["-m", "parity", "prove", "cnn"]]
    monkeypatch.setattr(proof, "prove", lambda pair: (_ for _ in ()).throw(ArmError(f"FAIL {pair}")))
    (result,) = proof.run(argparse.Namespace(pairs=["net"], quick=True))
    assert result["pairs"]["net"]["failed"] == "FAIL net"
