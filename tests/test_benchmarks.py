"""The harness: slow, wrong, noisy and missing arms are reported as such; statistics are those worked by hand."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats

from benchmarks import __main__ as command_line
from benchmarks import prepare, report, startup, stats, train
from benchmarks.arms import jax_scan, jaxdl_command, torch_dataloader, torch_eager
from benchmarks.process import ArmError, output
from benchmarks.workloads import WORKLOADS, Goal

FAKE = """
from benchmarks.process import serve

class Fake:
    def __init__(self, workload, folder):
        self.seconds = iter({seconds})

    def warm(self):
        return {loss}, 0.5

    def facts(self):
        return {{}}

    def run(self, epochs):
        return {{"steps": 100 * epochs, "seconds": next(self.seconds)}}

serve(Fake)
"""
STEADY = [1.0, 1.01, 0.99, 1.0] * 2
MACHINE = {
    "platform": "cpu",
    "device": "cpu",
    "cpu": "a CPU",
    "threads": 2,
    "versions": {"jax": "1"},
    "data": "MNIST",
}
FACTS = MACHINE | {"date": "2000-01-01", "command": "python -m benchmarks train"}


@pytest.fixture
def race(tmp_path, monkeypatch):
    """Races fake arms, each given by its loss and the seconds of its windows; returns cells and page."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    pairs = (Goal("fast", "steady", cpu=2.0), Goal("odd", "steady", cpu=0.9))
    monkeypatch.setitem(WORKLOADS, "net", dataclasses.replace(WORKLOADS["net"], goals=pairs))

    def run(**arms):
        for name, source in arms.items():
            (tmp_path / f"fake_{name}.py").write_text(source)
        modules = {name: f"fake_{name}" for name in arms}
        cells = train.measure("net", modules, tmp_path, rounds=4, window=0.5)
        result = {"kind": "train", "workload": "net", "cells": [dataclasses.asdict(cell) for cell in cells]}
        return {cell.arm: cell for cell in cells}, report.page(json.loads(json.dumps(result | FACTS)))

    return run


def fake(seconds, loss=0.5):
    return FAKE.format(seconds=seconds, loss=loss)


def row(page, start):
    return next(line for line in page.splitlines() if line.startswith(f"| {start} |"))


STEADY_ARMS = {"steady": fake(STEADY), "fast": fake([x / 4 for x in STEADY])}


def test_a_slow_arm_is_reported_as_slower_and_its_goal_as_missed(race):
    cells, page = race(**STEADY_ARMS, odd=fake([3 * x for x in STEADY]))
    assert cells["steady"].speeds == [100 / x for x in STEADY[:4]]
    assert "slower" in row(page, "odd / steady")
    assert ">= 0.9: missed" in row(page, "odd / steady")
    assert row(page, "fast / steady") == "| fast / steady | 4.00 | 3.96 to 4.04 | faster | >= 2: reached |"


def test_a_fast_arm_with_another_loss_is_void(race):
    cells, page = race(**STEADY_ARMS, odd=fake([x / 50 for x in STEADY], loss=0.51))
    assert [name for name, cell in cells.items() if cell.void] == ["odd"]
    assert "void" in row(page, "odd")
    assert "| 0.51000 |" in row(page, "odd")
    assert "odd / steady" not in page


@pytest.mark.parametrize("loss", ["float('nan')", "float('inf')"])
def test_an_arm_whose_loss_is_no_number_is_void(race, loss):
    cells, _ = race(**STEADY_ARMS, odd=fake(STEADY, loss=loss))
    assert [name for name, cell in cells.items() if cell.void] == ["odd"]


def test_a_noisy_arm_is_raced_once_more_and_then_marked(race):
    cells, page = race(**STEADY_ARMS, odd=fake([1, 2, 1, 2, 0.5, 1, 0.5, 1]))
    assert cells["odd"].speeds == [200, 100, 200, 100]  # the second race counts
    assert "noisy" in row(page, "odd")
    assert "noisy" not in row(page, "steady")
    assert "too noisy to say" in row(page, "odd / steady")
    assert "reached" not in row(page, "odd / steady")


def test_an_arm_that_was_noisy_once_is_not_marked(race):
    cells, page = race(**STEADY_ARMS, odd=fake([1, 2, 1, 2, *STEADY[:4]]))
    assert not cells["odd"].noisy
    assert "no difference" in row(page, "odd / steady")


def test_an_arm_that_cannot_run_is_skipped_with_its_reason(race):
    cells, page = race(**STEADY_ARMS, odd="raise ImportError('no such framework')")
    assert cells["odd"].skipped == "ImportError: no such framework"
    assert "skipped: ImportError: no such framework" in row(page, "odd")
    assert not cells["steady"].void


def test_summary_of_hand_worked_numbers():
    assert stats.summary([4, 1, 3, 2]) == stats.Summary(median=2.5, iqr=1.5, n=4)
    assert stats.summary([4, 1, 3, 2]).noisy
    assert not stats.summary([100, 110, 120, 130]).noisy  # 15 of 115
    assert stats.mean_std([1, 2, 3]) == (2.0, 1.0)
    assert stats.mean_std([7]) == (7.0, 0.0)


def test_ratio_of_constant_samples_has_no_width():
    assert stats.ratio([6, 6, 6], [2, 2]) == stats.Estimate(3.0, 3.0, 3.0)


def test_ratio_interval_has_the_bounds_of_an_enumerated_bootstrap():
    """One of two values each: all four quotients of medians of (1, 2) over (1,) are 1, 1.5, 1.5, 2."""
    estimate = stats.ratio([1, 2], [1])
    assert estimate == stats.Estimate(1.5, 1.0, 2.0)


def test_verdict_needs_an_interval_without_one():
    assert stats.verdict(stats.Estimate(1.2, 1.1, 1.3)) == "faster"
    assert stats.verdict(stats.Estimate(0.8, 0.7, 0.9)) == "slower"
    assert stats.verdict(stats.Estimate(1.1, 0.9, 1.3)) == "no difference"


def test_difference_is_welchs_interval():
    """Means 2 and 4, variances 1 and 4: standard error sqrt(5/3), 50/17 degrees of freedom."""
    half = scipy.stats.t.ppf(0.975, 50 / 17) * np.sqrt(5 / 3)
    found = stats.difference([1, 2, 3], [2, 4, 6])
    assert (found.value, found.low, found.high) == pytest.approx((-2, -2 - half, -2 + half), rel=1e-12)
    theirs = scipy.stats.ttest_ind([1, 2, 3], [2, 4, 6], equal_var=False).confidence_interval()
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=1e-12)
    assert stats.difference([1, 1], [3, 3]) == stats.Estimate(-2.0, -2.0, -2.0)
    with pytest.raises(ValueError, match="two samples or more on each side, got 1 and 2"):
        stats.difference([1], [1, 2])


def test_losses_are_compared_with_their_median():
    assert stats.disagreeing({"a": 1.0, "b": 1.0005, "c": 1.1}, 1e-3) == ["c"]
    assert stats.disagreeing({"a": 1.0, "b": 2.0}, 1e-3) == ["a", "b"]
    assert stats.disagreeing({"a": float("nan")}, 1e-3) == ["a"]


def test_the_command_is_timed_from_its_first_evaluation_to_its_last():
    """Three epochs of 150 steps: evaluations take 1, 2 and 3 s, and epochs two and three 10 s each without."""
    lines = ["Epoch [1/3], Step [100/150], Loss: 1", "Epoch [1/3], Step [150/150], Loss: 1"]
    lines += ["Epoch [1/3], Test loss: 1.0, Test accuracy: 1.00%", "Epoch [2/3], Step [100/150], Loss: 1"]
    lines += ["Epoch [2/3], Step [150/150], Loss: 1", "Epoch [2/3], Test loss: 1.0, Test accuracy: 1.00%"]
    lines += ["Epoch [3/3], Step [150/150], Loss: 1", "Epoch [3/3], Test loss: 1.0, Test accuracy: 1.00%", "end"]
    seconds = [5.0, 7.0, 8.0, 14.0, 18.0, 20.0, 30.0, 33.0, 50.0]
    found = jaxdl_command.window(list(zip(seconds, lines, strict=True)))
    assert found == {"steps": 300, "seconds": 25.0, "evaluation": 5.0}


def test_start_up_ends_at_the_first_step_and_ends_the_process():
    script = (
        "import time; print('hello'); print('Epoch [1/10], Step [1/938], Loss: 2.3', flush=True); time.sleep(99)"
    )
    assert 0 < startup.first_step(["-c", script]) < 60
    with pytest.raises(ArmError, match="without a step"):
        startup.first_step(["-c", "print('Epoch [1/10], Step [2/938], Loss: 2.3')"])
    with pytest.raises(ArmError, match="no data here"):
        output(["-c", "import sys; sys.exit('no data here')"])


# A ragged last batch is a program of its own, and the CNN's take long to compile.
@pytest.mark.parametrize(("name", "examples"), [("net", 150), ("cnn", 128)])
def test_the_arms_start_with_the_same_weights_and_see_the_same_batches(name, examples, tmp_path, monkeypatch):
    monkeypatch.setattr(jax_scan, "enable_compilation_cache", lambda: None)
    prepare.write(WORKLOADS[name], prepare.synthetic(examples, 20), tmp_path)
    modules = {"scan": jax_scan.Scan, "eager": torch_eager.Eager}
    losses = {arm: make(name, tmp_path).warm()[0] for arm, make in modules.items()}
    assert stats.disagreeing(losses, 1e-5) == []
    loader = torch_dataloader.Loaded(name, tmp_path)
    images, labels = next(loader.batches(loader.orders[1]))
    expected, _ = next(torch_eager.Eager(name, tmp_path).batches(loader.orders[1]))
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(labels, loader.labels[loader.orders[1][: len(labels)]])


def test_accuracy_without_mnist_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds neither the original files of mnist"):
        prepare.load(tmp_path, need_mnist=True)


def test_results_name_no_folder_of_this_machine():
    expected = "python -m benchmarks train --data-dir FOLDER --quick"
    assert command_line.command(["train", "--data-dir", "/data/mnist", "--quick"]) == expected
    assert (
        command_line.command(["train", "--data-dir=/data/mnist"]) == "python -m benchmarks train --data-dir=FOLDER"
    )


def test_what_was_measured_is_saved_before_a_later_seed_fails(tmp_path, monkeypatch, capsys):
    def cut_off(_):
        yield FACTS | {"kind": "recipe", "recipe": "mlp", "accuracy": [0.98], "seconds": [12.0]}
        raise ArmError("no more")

    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setitem(command_line.TASKS, "accuracy", cut_off)
    assert command_line.main(["accuracy", "--recipe", "mlp"]) == 1
    assert capsys.readouterr().err == "benchmarks: error: no more\n"
    assert [result["accuracy"] for result in report.load(tmp_path)] == [[0.98]]


def test_a_comparison_needs_two_seeds(capsys):
    assert command_line.main(["accuracy", "--seeds", "1", "--data-dir", "nowhere"]) == 1
    assert capsys.readouterr().err == "benchmarks: error: --seeds: expected 2 or more, got 1\n"


def test_pages_of_start_up_and_accuracy_state_the_verdict():
    times = {"jaxdl, warm cache": [3.0, 3.0], "torch": [2.0, 2.0], "jaxdl, cold cache": [5.0, 5.0]}
    page = report.page({"kind": "startup", "seconds": times, "goal": 1.5} | FACTS)
    expected = "| jaxdl, warm cache | 3.00 | 0.00 | 2 | 1.50 (1.50 to 1.50) | <= 1.5: reached |"
    assert row(page, "jaxdl, warm cache") == expected
    reached = {"jaxdl": [0.92, 0.93], "torch": [0.925, 0.925]}
    page = report.page({"kind": "accuracy", "epochs": 10, "accuracy": reached} | FACTS)
    assert row(page, "jaxdl") == "| jaxdl | 92.50% | 0.71% | 92.00% | 93.00% | 2 |  |"
    assert "no difference" in row(page, "jaxdl - torch")
    page = report.page({"kind": "recipe", "recipe": "mlp", "accuracy": [0.98], "seconds": [12.0]} | FACTS)
    assert row(page, "--recipe mlp") == "| --recipe mlp | 98.00% | 0.00% | 98.00% | 98.00% | 1 | 12.0 |"


def test_tables_go_between_the_marks_of_the_readme(tmp_path):
    result = {"kind": "recipe", "recipe": "mlp", "accuracy": [0.98], "seconds": [12.0]} | FACTS
    assert report.save(result, tmp_path / "results").name == "recipe-mlp-cpu.json"
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- benchmarks -->\nold\n<!-- /benchmarks -->\nafter\n")
    report.update(report.load(tmp_path / "results"), readme)
    text = readme.read_text()
    assert "old" not in text
    assert "| --recipe mlp | 98.00% |" in text
    assert text.startswith("before\n<!-- benchmarks -->\n")
    assert text.endswith("\n<!-- /benchmarks -->\nafter\n")
    report.update(report.load(tmp_path / "results"), readme)
    assert readme.read_text() == text
    readme.write_text("no marks")
    with pytest.raises(ValueError, match=r"README.md: expected the lines <!-- benchmarks -->"):
        report.update([], readme)
