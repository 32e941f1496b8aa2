"""The overhead of devices: what is measured is a step, and what is said of it is what was measured."""

import dataclasses
import json

import pytest

from benchmarks import prepare, report
from benchmarks.process import ArmError, Worker
from benchmarks.tasks import devices
from benchmarks.workloads import WORKLOADS

FACTS = {
    "task": "devices",
    "case": "net",
    "platform": "cpu",
    "device": "a device",
    "data": "MNIST",
    "cpu": "a CPU",
    "threads": 2,
    "versions": {"jax": "1"},
    "date": "2000-01-01",
    "command": "python -m benchmarks devices",
}


def result(**arms):
    """Of ways that are given by their ms a step, or by why they failed."""
    entrants = {
        name.replace("_", ":"): {"samples": {}, "failed": given}
        if isinstance(given, str)
        else {"samples": {"ms": [given] * 3}, "failed": ""}
        for name, given in arms.items()
    }
    return json.loads(json.dumps(FACTS | {"arms": entrants}))


def test_overhead_is_a_ratio_to_one_device_and_called_by_its_name():
    found = result(jit_1=2.0, jit_4=5.0, pmap_4=6.0)
    page = report.page(found)
    assert "virtual devices on shared cores" in page
    assert next(line for line in page.splitlines() if line.startswith("| pmap on 4 |")).endswith("| 3.00 |")
    claims = {claim.what: claim.estimate.value for claim in devices.claims(found)}
    assert claims == {
        "Net, a step over virtual devices on shared cores: jit:4 / jit:1": 2.5,
        "Net, a step over virtual devices on shared cores: pmap:4 / jit:1": 3.0,
        "Net, a step over virtual devices on shared cores: pmap:4 / jit:4": 1.2,
    }


def test_a_way_that_fails_is_reported():
    found = result(jit_1=2.0, jit_4="--devices must lie between 1 and the 1 there are")
    assert "| failed: --devices must lie between 1 and the 1 there are |" in report.page(found)
    assert devices.claims(found) == []


def test_a_worker_takes_steps_on_as_many_devices_as_it_is_told(tmp_path):
    made = dataclasses.replace(WORKLOADS["net"], examples=(64 * 20, 100))
    prepare.write(WORKLOADS["net"], prepare.synthetic(made), tmp_path)
    worker = Worker("benchmarks.arms.jaxdl_devices", "net:pmap:2", tmp_path)
    try:
        facts, measured = worker.ask("facts"), worker.ask("measure", 1)
    finally:
        worker.close()
    assert (facts["devices"], facts["platform"]) == (2, "cpu")
    assert measured["ms"] > 0


def test_without_data_there_is_nothing_to_measure(tmp_path):
    worker = Worker("benchmarks.arms.jaxdl_devices", "net:jit:2", tmp_path)
    try:
        with pytest.raises(ArmError, match=r"data\.npz"):
            worker.ask("facts")
    finally:
        worker.close()
