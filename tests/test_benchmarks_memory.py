"""Peak memory: what is read is what was taken, and the arms of torch train what the race trains."""

import dataclasses
import json

import pytest

from benchmarks import memory as reading
from benchmarks import prepare, report
from benchmarks.arms import torch_memory
from benchmarks.arms.torch_parts import Torch
from benchmarks.process import ArmError
from benchmarks.tasks import memory
from benchmarks.turns import as_json, take_turns
from benchmarks.workloads import WORKLOADS

FACTS = {
    "task": "memory",
    "case": "net",
    "device": "a device",
    "data": "MNIST",
    "steps": 2,
    "cpu": "a CPU",
    "threads": 2,
    "versions": {"jax": "1"},
    "date": "2000-01-01",
    "command": "python -m benchmarks memory",
}
GREEDY = """
import json
from benchmarks.memory import measured, resident
imports = resident()
block = bytearray(200_000_000)
del block
print(json.dumps(measured(imports, None)))
"""


def page(platform, **arms):
    """Of arms that are given by their samples."""
    entrants = {name: {"samples": samples, "failed": ""} for name, samples in arms.items()}
    result = json.loads(json.dumps(FACTS | {"platform": platform, "arms": entrants}))
    return memory.claims(result), report.page(result)


def row(text, start):
    return next(line for line in text.splitlines() if line.startswith(f"| {start} |"))


def samples(imports, training, gpu=None):
    found = {"imports": [imports] * 3, "training": [training] * 3, "together": [imports + training] * 3}
    return found | ({"GPU": [gpu] * 3} if gpu else {})


def test_status_of_a_process_is_read_in_units_of_1024_bytes(tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmPeak:\t  999999 kB\nVmHWM:\t  500000 kB\nVmRSS:\t  250000 kB\n")
    assert reading.resident(status) == 256.0
    assert reading.measured(256.0, None, status) == {"imports": 256.0, "training": 256.0}
    assert reading.measured(256.0, 3_000_000, status) == {"imports": 256.0, "training": 256.0, "GPU": 3.0}


def test_memory_that_was_given_back_counts(tmp_path, monkeypatch):
    (tmp_path / "greedy.py").write_text(GREEDY)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = memory.measure(["greedy"])
    assert 199 < found["training"] < 220
    assert found["together"] == found["imports"] + found["training"]


def test_a_process_that_fails_is_reported_as_such(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("raise SystemExit('no such workload')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ArmError, match="no such workload"):
        memory.measure(["broken"])
    (*_, entrants) = take_turns({"jaxdl": lambda: memory.measure(["broken"])}, 1)
    result = FACTS | {"platform": "cpu", "arms": as_json(entrants)}
    assert "failed: no such workload" in row(report.page(result), "jaxdl")
    assert memory.claims(result) == []


def test_the_goal_is_held_against_the_leanest_arm_of_torch():
    bare = {"torch-eager": samples(200, 400), "lean": samples(200, 200)}
    claims, text = page("cpu", jaxdl=samples(300, 300), **bare)
    assert row(text, "jaxdl") == "| jaxdl | 300 | 300 | 600 | 0 | 3 |  |  |"
    eager, lean = claims
    assert (eager.estimate.value, eager.goal) == (1.0, None)
    assert (lean.estimate.value, lean.verdict, lean.outcome) == (1.5, "behind", "<= 1.25: missed")


def test_on_a_gpu_its_memory_is_compared():
    claims, text = page("gpu", jaxdl=samples(300, 300, 50), lean=samples(200, 200, 100))
    assert row(text, "jaxdl").endswith("| 50 |  |")
    (claim,) = claims
    assert (claim.estimate.value, claim.outcome) == (0.5, "<= 1: reached")


def test_the_arms_of_torch_train_what_the_race_trains(tmp_path):
    workload = dataclasses.replace(WORKLOADS["net"], examples=(130, 20))
    prepare.write(WORKLOADS["net"], prepare.synthetic(workload), tmp_path)
    losses = []
    for make in (Torch, torch_memory.Floats, torch_memory.Bytes):
        arm = make("net", tmp_path)
        parts = arm.train(arm.batches(arm.orders[0])), arm.evaluation()
        losses.append([float(loss) for part in parts for loss, *_ in part])
    assert len(losses[0]) == 4  # three batches and one of the test
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0] == pytest.approx(losses[2], rel=1e-6)
