"""The pytest plugin, in suites of its own: the fixture, the marker, and that it costs nothing until it is used."""

import subprocess
import sys

import pytest

import parity.diagnose
import parity.locate
import parity.prove  # noqa: F401  here once, so that the inner runs do not import them anew

pytest_plugins = ["pytester"]

HEAD = """
import pytest
import torch
from flax import nnx

from parity import Pair


class Port(nnx.Module):
    def __init__(self, factor):
        self.fc = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        self.factor = factor

    def __call__(self, x):
        return self.factor * self.fc(x)


def pair(factor=1.0):
    torch_module = torch.nn.Sequential()
    torch_module.add_module("fc", torch.nn.Linear(3, 2))
    inputs = lambda rng: rng.normal(0.5, 1, (4, 3))
    return Pair(torch=torch_module, flax=lambda: Port(factor), inputs=inputs, name="port")
"""


@pytest.fixture
def suite(pytester):
    """Runs an inner suite."""

    def run(body: str) -> pytest.RunResult:
        pytester.makepyfile(HEAD + body)
        return pytester.runpytest_inprocess(
            "-p", "parity.pytest_plugin", "--strict-markers", "-p", "no:cacheprovider"
        )

    return run


def test_the_fixture_passes_a_right_port_and_fails_a_wrong_one_readably(suite):
    result = suite("""
def test_right(parity):
    assert parity.prove(pair(), steps=1).phase("eval_forward").leaves

def test_wrong(parity):
    parity.prove(pair(2.0), seed=1)
""")

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*AssertionError: port: FAIL, the port differs in eval_forward*"])
    result.stdout.fnmatch_lines(["*2 times torch's*"])


def test_the_marker_proves_what_a_test_returns(suite):
    result = suite("""
@pytest.fixture
def factor():
    return 1.0

@pytest.mark.parity(steps=1, seed=2)
def test_right(factor):
    return pair(factor)

@pytest.mark.parity
def test_wrong():
    return pair(0.5)

@pytest.mark.parity
class TestPorts:
    def test_right(self):
        return pair()
""")

    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["port: FAIL, the port differs in eval_forward*"])


def test_misuse_is_said_in_a_line(suite):
    result = suite("""
@pytest.mark.parity
def test_returns_nothing():
    pair()

@pytest.mark.parity(stepps=1)
def test_mistyped():
    return pair()
""")

    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["a test marked parity returns a parity.Pair, this returned NoneType"])
    result.stdout.fnmatch_lines(["the marker parity takes steps=... and seed=..., nothing else"])


def test_what_proves_nothing_is_skipped_and_not_passed(suite):
    result = suite("""
from parity import pytest_plugin
from parity.verdict import Judgement, Leaf, Phase, Verdict

@pytest.fixture
def nothing(monkeypatch):
    phase = Phase("eval_forward", (Leaf("output", Verdict.ABSTAIN),))
    monkeypatch.setattr(pytest_plugin.Parity, "prove", lambda *_: Judgement("port", (phase,)))

@pytest.mark.parity
def test_open(nothing):
    return pair()
""")

    result.assert_outcomes(skipped=1)


def test_the_plugin_loads_neither_torch_nor_jax():
    code = "import sys, parity.pytest_plugin; assert not {'torch', 'jax', 'flax'} & sys.modules.keys()"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
