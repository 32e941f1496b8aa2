"""The race: slow, wrong, noisy and missing arms are reported as such."""

import argparse
import contextlib
import dataclasses
import json

import pytest

from benchmarks import cells, limits, report
from benchmarks.claims import STRONGEST, Goal
from benchmarks.process import ArmError, output
from benchmarks.tasks import race
from benchmarks.workloads import WORKLOADS

STEADY = [1.0, 1.01, 0.99, 1.0] * 2
MACHINE = {
    "platform": "cpu",
    "device": "cpu",
    "cpu": "a CPU",
    "threads": 2,
    "versions": {"jax": "1", "torch": "2"},
}
FACTS = MACHINE | {"data": "MNIST", "date": "2000-01-01", "command": "python -m benchmarks race"}
LEAST = {"flops": 4e9, "seconds": 0.002}
LIMITS = {"forward": LEAST, "backward": LEAST, "update": 0.003, "bandwidth": 1e10}
SERVED = """
import sys
from benchmarks.process import serve

class Fake:
    def __init__(self, workload, folder):
        {start}

    def offers(self):
        return ["epoch"]

serve(Fake)
"""


class Fake:
    """Stands for the process of an arm: its windows take given seconds, and its first pass gives given checks."""

    def __init__(self, seconds, checks=(0.5, 0.2)):
        self.seconds, self.given = iter(seconds), list(checks)

    def ask(self, method, *arguments):
        return getattr(self, method)(*arguments)

    def warm(self, _):
        return {"checks": self.given, "first": 1.5, "seconds": 0.5}

    def facts(self):
        return {"setup": {"threads": 2}, "num_workers": 0}

    def run(self, _, passes):
        second = next(self.seconds)
        if second is None:
            raise ArmError("out of memory")
        return {"steps": 100 * passes, "seconds": second}


@pytest.fixture
def compete(monkeypatch):
    """Races fake arms; returns the cells by name, and the page."""
    goals = (Goal("epoch", "fast", "steady", cpu=2.0), Goal("epoch", "odd", "steady", cpu=0.9))
    workload = dataclasses.replace(WORKLOADS["net"], goals=goals)
    monkeypatch.setitem(WORKLOADS, "net", workload)

    def run(**arms):
        found = cells.measure(workload, "epoch", arms, rounds=4, window=0.5)
        result = FACTS | {"task": "race", "case": "net", "cells": [dataclasses.asdict(cell) for cell in found]}
        result |= {"limits": LIMITS, "skipped": {"torch-graph": "no CUDA device"}}
        return {cell.arm: cell for cell in found}, report.page(json.loads(json.dumps(result)))

    return run


def steady():
    return {"steady": Fake(STEADY), "fast": Fake([x / 4 for x in STEADY])}


def row(page, start):
    return next(line for line in page.splitlines() if line.startswith(f"| {start} |"))


def test_a_slow_arm_is_reported_as_behind_and_its_goal_as_missed(compete):
    found, page = compete(**steady(), odd=Fake([3 * x for x in STEADY]))
    assert found["steady"].speeds == [100 / x for x in STEADY[:4]]
    assert row(page, "Net, epoch: odd / steady").endswith("| behind | >= 0.9: missed |")
    expected = "| Net, epoch: fast / steady | 4.00 | 3.96 to 4.04 | ahead | >= 2: reached |"
    assert row(page, "Net, epoch: fast / steady") == expected


def test_a_row_has_speed_work_share_of_the_limit_check_and_first_pass(compete):
    """100 steps/s of 4 GFLOP, of which 2 ms are products and 3 ms the update: half of the limit."""
    _, page = compete(**steady())
    expected = "| steady | 100 | 0.5 | 4 | 10.000 | 400 | 50% | 0.5, 0.2 | 1.5 | num_workers 0 |"
    assert row(page, "steady") == expected
    assert "Not run: torch-graph (no CUDA device)." in page


@pytest.mark.parametrize("checks", [(0.51, 0.2), (0.5, 0.3), (float("nan"), 0.2), (0.5, float("inf"))])
def test_a_fast_arm_with_another_loss_is_void(compete, checks):
    found, page = compete(**steady(), odd=Fake([x / 50 for x in STEADY], checks))
    assert [name for name, cell in found.items() if cell.void] == ["odd"]
    assert "void: the check is not that of the others" in row(page, "odd")
    assert "odd / steady" not in page
    assert "fast / steady" in page


def test_the_end_of_a_pass_may_differ_by_more_than_its_beginning(compete):
    found, _ = compete(**steady(), odd=Fake(STEADY, (0.5001, 0.2008)))
    assert not any(cell.void for cell in found.values())


def test_a_noisy_arm_is_raced_once_more_and_then_marked(compete):
    found, page = compete(**steady(), odd=Fake([1, 2, 1, 2, 0.5, 1, 0.5, 1]))
    assert found["odd"].speeds == [200, 100, 200, 100]  # the second race counts
    assert "noisy" in row(page, "odd")
    assert "noisy" not in row(page, "steady")
    assert row(page, "Net, epoch: odd / steady").endswith("| too noisy to say |  |")


def test_an_arm_that_was_noisy_once_is_not_marked(compete):
    found, page = compete(**steady(), odd=Fake([1, 2, 1, 2, *STEADY[:4]]))
    assert found["odd"].speeds == [100 / x for x in STEADY[:4]]
    assert "| no difference |" in row(page, "Net, epoch: odd / steady")


def test_an_arm_that_fails_on_the_way_is_skipped_with_its_reason(compete):
    found, page = compete(**steady(), odd=Fake([1.0, None]))
    assert not found["odd"].speeds
    assert row(page, "odd").endswith("| skipped: out of memory |")
    assert not found["steady"].void


def test_evaluations_count_apart(compete):
    arm = Fake(STEADY)
    arm.run = lambda *_: {"steps": 100, "seconds": 2.0, "evaluation": 1.0}
    found, page = compete(**steady(), odd=arm)
    assert (found["odd"].speeds, found["odd"].with_evaluation) == ([100] * 4, [50] * 4)
    assert "50 with evaluation" in row(page, "odd")


def test_windows_take_turns_and_last_as_long_as_an_arm_asks(monkeypatch):
    log = []
    monkeypatch.setattr(
        Fake, "run", lambda self, _, passes: log.append((self, passes)) or {"steps": 1, "seconds": 1}
    )
    monkeypatch.setattr(Fake, "facts", lambda self: {"window": 13} if self is arms["b"] else {})
    arms = {"a": Fake([]), "b": Fake([])}
    cells.measure(WORKLOADS["net"], "epoch", arms, rounds=2)
    assert log == [(arms["a"], 4), (arms["b"], 26)] * 2  # passes of half a second: 2 s, and 13


def test_the_strongest_torch_arm_is_the_fastest_that_is_not_void(monkeypatch):
    workload = dataclasses.replace(WORKLOADS["net"], goals=(Goal("epoch", "jaxdl", STRONGEST, cpu=1.5),))
    monkeypatch.setitem(WORKLOADS, "net", workload)
    speeds = {"jaxdl": 6.0, "scan": 9.0, "torch-eager": 2.0, "torch-compile": 3.0, "torch-compile-max": 8.0}
    found = [cells.Cell(arm, "epoch", [speed] * 3, void=speed == 8) for arm, speed in speeds.items()]
    found += [cells.Cell("torch-eager", "step", [7.0] * 3)]
    result = {"case": "net", "platform": "cpu", "cells": [dataclasses.asdict(cell) for cell in found]}
    (claim,) = race.claims(result)
    assert claim.what == "Net, epoch: jaxdl / torch-compile, the strongest"
    assert (claim.estimate.value, claim.outcome) == (2.0, ">= 1.5: reached")


def test_an_arm_that_cannot_start_is_listed_with_its_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for name, start in {"good": "pass", "bad": "sys.exit('no CUDA device')"}.items():
        (tmp_path / f"fake_{name}.py").write_text(SERVED.format(start=start))
    with contextlib.ExitStack() as stack:
        arms = {"good": "fake_good", "bad": "fake_bad"}
        workers, offers, skipped = race.start(arms, "net", tmp_path, stack)
        assert (list(workers), offers, skipped) == (["good"], {"good": ["epoch"]}, {"bad": "no CUDA device"})
    with pytest.raises(ArmError, match="no data here"):
        output(["-c", "import sys; sys.exit('no data here')"])


def test_rounds_must_be_some():
    with pytest.raises(ValueError, match="--rounds: expected 1 or more, got 0"):
        next(race.run(argparse.Namespace(rounds=0)))


def test_the_least_time_of_a_phase():
    """The optimizer's part counts where it runs; evaluation has batches of 500 instead of 64."""
    found = {
        "forward": {"flops": 64.0, "seconds": 0.64},
        "backward": {"flops": 200.0, "seconds": 2.0},
        "update": 0.5,
    }
    net = WORKLOADS["net"]
    assert limits.of(found, net, "forward") == {"flops": 64.0, "seconds": 0.64}
    assert limits.of(found, net, "evaluation") == pytest.approx({"flops": 500.0, "seconds": 5.0})
    assert limits.of(found, net, "backward") == {"flops": 200.0, "seconds": 2.0}
    assert limits.of(found, net, "step") == limits.of(found, net, "epoch") == {"flops": 200.0, "seconds": 2.5}
