"""Saving and restoring: what comes back is what was saved, or the arm has failed."""

import json

import pytest
import torch

from benchmarks import report
from benchmarks.arms import jaxdl_checkpoint, torch_checkpoint
from benchmarks.process import ArmError
from benchmarks.tasks import checkpoint

FACTS = {
    "task": "checkpoint",
    "data": "random weights",
    "cpu": "a CPU",
    "threads": 2,
    "versions": {"jax": "1"},
    "date": "2000-01-01",
    "command": "python -m benchmarks checkpoint",
}
ABOUT = {"platform": "cpu", "device": "cpu", "bytes": 1_220_000}


@pytest.fixture
def compete(monkeypatch):
    """Races arms that are given by the seconds of a part; returns result and page."""

    class Fake:
        def __init__(self, arm, *_):
            self.arm = arm

        def ask(self, method):
            if method == "facts":
                return ABOUT
            if given[self.arm] is None:
                raise ArmError("No space left on device")
            return dict.fromkeys(checkpoint.PARTS, next(given[self.arm]))

        def close(self):
            pass

    given = {}

    def run(**arms):
        given.update({arm: seconds and iter([9.0, *seconds, *seconds]) for arm, seconds in arms.items()})
        *_, (facts, found) = checkpoint.race({arm: arm for arm in arms}, "net:128", 4)
        case = {"Net": {"bytes": facts["bytes"], "arms": found}}
        result = json.loads(json.dumps(FACTS | {"platform": "cpu", "device": "cpu", "cases": case}))
        return result, report.page(result)

    monkeypatch.setattr(checkpoint, "Worker", Fake)
    return run


def row(page, start):
    return next(line for line in page.splitlines() if line.startswith(f"| {start} "))


@pytest.mark.parametrize("module", [jaxdl_checkpoint, torch_checkpoint])
def test_every_part_is_timed_and_the_files_go(module, tmp_path):
    found = module.Files("net:8", tmp_path).run()
    assert list(found) == list(checkpoint.PARTS)
    assert all(seconds > 0 for seconds in found.values())
    assert found["safe on disk"] > found["training waits"]
    assert list(tmp_path.iterdir()) == []


def test_adams_state_is_saved_and_no_part_of_it_is_empty(tmp_path):
    """Zeros would be compressed to nothing."""
    files = jaxdl_checkpoint.Files("net:8", tmp_path)
    assert files.facts()["bytes"] == pytest.approx(3 * 4 * (784 * 8 + 8 + 80 + 10), abs=16)
    mean, square = files.state.opt_state[0].exp_avg, files.state.opt_state[0].exp_avg_sq
    assert all(part["fc1"]["weight"].any() for part in (mean, square))


def test_jaxdl_notices_that_something_else_came_back(tmp_path, monkeypatch):
    files = jaxdl_checkpoint.Files("net:8", tmp_path)
    other = jaxdl_checkpoint.Files("net:8", tmp_path)
    changed = other.state.params["fc2"]["bias"] + 1
    other.state.params["fc2"]["bias"] = changed
    monkeypatch.setattr(jaxdl_checkpoint.Checkpoints, "restore", lambda *_: (other.state, {}))
    with pytest.raises(ValueError, match=r"what was restored is not what was saved: params.fc2.bias$"):
        files.run()


def test_torch_notices_that_something_else_came_back(tmp_path, monkeypatch):
    files = torch_checkpoint.Files("net:8", tmp_path)

    def load(path, **options):
        found = original(path, **options)
        found["net"]["1.bias"] += 1
        return found

    original = torch.load
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(ValueError, match=r"what was restored is not what was saved: 1.bias$"):
        files.run()


def test_the_first_time_does_not_count_and_a_noisy_part_is_marked(compete):
    result, page = compete(jaxdl=[0.2, 0.2, 0.2, 0.2], torch=[0.1, 0.1, 0.2, 0.2])
    line = row(page, "restored")
    assert "| 200 | 0 | 150 | 100 | 4 | noisy: torch |" in line
    assert [claim.verdict for claim in checkpoint.claims(result)] == ["too noisy to say"] * 2


def test_an_arm_that_cannot_save_is_reported(compete):
    result, page = compete(jaxdl=[0.2] * 4, torch=None)
    assert "torch failed: No space left on device" in row(page, "**Net**, 1.2 MB with Adam's state")
    assert "| 200 | 0 |  |  | 4 |" in row(page, "restored")
    assert checkpoint.claims(result) == []
