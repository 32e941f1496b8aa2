"""The page, its pictures and the table of the README are those of the results."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import machine, markdown, plots, report, results
from benchmarks.cells import Cell
from benchmarks.claims import Claim
from benchmarks.stats import Estimate
from benchmarks.tasks import accuracy

MACHINE = {
    "platform": "cpu",
    "device": "cpu",
    "cpu": "a CPU",
    "threads": 2,
    "versions": {"jax": "1", "torch": "2"},
    "data": "MNIST",
}
FACTS = MACHINE | {"date": "2000-01-01", "command": "python -m benchmarks"}
RECIPE = FACTS | {"task": "accuracy", "case": "mlp", "accuracy": {"jaxdl": [0.97]}, "seconds": [12.0]}
BEFORE, AFTER = "before\n<!-- benchmarks -->\n", "\n<!-- /benchmarks -->\nafter\n"


def race(**speeds):
    cells = [dataclasses.asdict(Cell(arm, "epoch", [speed] * 3, checks=[0.5])) for arm, speed in speeds.items()]
    return FACTS | {"task": "race", "case": "net", "cells": cells}


@pytest.fixture
def drawn(tmp_path):
    """A project with two results, drawn."""
    (tmp_path / "README.md").write_text(f"{BEFORE}old{AFTER}")
    folder = tmp_path / "some" / "results"
    results.save(RECIPE, folder)
    results.save(race(**{"jaxdl": 300.0, "torch-eager": 100.0}), folder)
    report.draw(tmp_path / "README.md", folder)
    return tmp_path


def test_the_readme_gets_goals_and_the_way_to_the_rest_between_its_marks(drawn):
    text = (drawn / "README.md").read_text()
    assert "old" not in text
    assert text.startswith(BEFORE)
    assert text.endswith(AFTER)
    row = "| Net, epoch: jaxdl / torch-eager | 3.00 | 3.00 to 3.00 | ahead | >= 2.5: reached |"
    recipe = "| Test accuracy of --recipe mlp, mean of 1 seeds | 97.00% | 97.00% to 97.00% |  | >= 98%: missed |"
    assert text.index(row) < text.index(recipe)
    assert "](some/results/README.md)" in text
    assert "![Ratios to PyTorch](some/results/ratios-cpu.png)" in text
    report.draw(drawn / "README.md", drawn / "some" / "results")
    assert (drawn / "README.md").read_text() == text


def test_the_page_has_every_result_with_its_command_and_machine(drawn):
    page = (drawn / "some" / "results" / "README.md").read_text()
    assert "![Ratios to PyTorch](ratios-cpu.png)" in page
    assert "| jaxdl | 300 | 0 | 3 | 3.333 |  |  | 0.5 |  |  |" in page
    assert "`python -m benchmarks`: MNIST; a CPU, 2 threads; jax 1, torch 2; 2000-01-01." in page


def test_a_readme_without_marks_is_left_alone(drawn):
    (drawn / "README.md").write_text("no marks")
    with pytest.raises(ValueError, match=r"README.md: expected the lines <!-- benchmarks -->"):
        report.draw(drawn / "README.md", drawn / "some" / "results")
    assert (drawn / "README.md").read_text() == "no marks"


def test_results_are_named_by_task_case_and_platform_and_sorted(tmp_path):
    assert results.save(RECIPE, tmp_path).name == "accuracy-mlp-cpu.json"
    for case, platform in (("cnn", "cpu"), ("net", "gpu"), ("net", "cpu")):
        results.save(FACTS | {"task": "race", "case": case, "platform": platform}, tmp_path)
    found = [results.name(result) for result in results.load(tmp_path)]
    assert found == ["race-net-cpu", "race-cnn-cpu", "race-net-gpu", "accuracy-mlp-cpu"]


def test_what_is_no_result_is_said_to_be_none(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected results, \*.json; there are none"):
        results.load(tmp_path)
    for text in ("{", "[1]", '{"task": "dance"}'):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(ValueError, match=r"x.json: expected a result"):
            results.load(tmp_path / "x.json")


def test_the_machine_is_described_without_folders(tmp_path, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    one = "model name\t: Some CPU\ncpu MHz\t\t: {}\n"
    cpuinfo.write_text(one.format(2400.1) + one.format(3100.0))
    monkeypatch.setenv("XLA_FLAGS", "--some")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.delenv("JAX_PLATFORMS")
    known = machine.facts(cpuinfo)
    assert (known["cpu"], known["clocks_mhz"]) == ("Some CPU", [2400, 3100])
    assert known["flags"] == {"XLA_FLAGS": "--some", "OMP_NUM_THREADS": "2"} | {
        "XLA_PYTHON_CLIENT_MEM_FRACTION": ".2"
    }
    line = machine.line(MACHINE | known | {"load": 0.5, "threads": 2})
    assert line.startswith("Some CPU, 2 threads, 2400 to 3100 MHz, load 0.5 at the start, ")
    assert "somewhere" not in json.dumps(known)


def test_a_bar_goes_to_the_right_where_the_left_side_is_better():
    more = Claim("a / b", Estimate(2.0, 1.6, 2.5), goal=1.5)
    less = Claim("a / b", Estimate(0.5, 0.4, 0.625), goal=0.8, larger_is_better=False)
    for claim in (more, less):
        found = plots.advantage(claim)
        assert (found.value, found.low, found.high) == pytest.approx((2.0, 1.6, 2.5))
        assert plots.colour(claim) == plots.AHEAD
    assert (plots.wanted(more), plots.wanted(less)) == (1.5, 1.25)
    assert plots.colour(Claim("a / b", Estimate(0.5, 0.4, 0.6))) == plots.BEHIND
    assert plots.colour(Claim("a / b", Estimate(1.5, 0.9, 2.0))) == plots.OPEN


def test_the_chart_has_a_bar_a_claim(tmp_path):
    """The longer bar has more of the colour, and a goal far off is on the picture."""
    areas = []
    for value in (1.5, 4.0):
        plots.ratios([Claim("a / b", Estimate(value, value, value), goal=30.0)], tmp_path / "ratios.png")
        pixels = np.asarray(Image.open(tmp_path / "ratios.png").convert("RGB"))
        areas.append(int((np.abs(pixels.astype(int) - (0x0B, 0x62, 0xA4)).sum(-1) < 10).sum()))
    assert areas[1] > 2 * areas[0] > 0


def test_tables_escape_bars_and_figures_have_three_digits():
    assert markdown.table(("a|b", "c"), [("1", "2")]) == "| a\\|b | c |\n| --- | ---: |\n| 1 | 2 |"
    assert [markdown.figures(x) for x in (2803.4, 43.62, 0.01213)] == ["2,803", "43.6", "0.0121"]


def test_accuracies_are_shown_with_their_spread():
    reached = {"jaxdl": [0.92, 0.93], "torch": [0.925, 0.925]}
    result = FACTS | {"task": "accuracy", "case": "document", "epochs": 10, "accuracy": reached}
    assert "| jaxdl | 92.50% | 0.71% | 92.00% | 93.00% | 2 |" in accuracy.tables(result)
    (claim,) = accuracy.claims(result)
    assert claim.verdict == "no difference"
    assert "| jaxdl | 97.00% | 0.00% | 97.00% | 97.00% | 1 | 12.0 |" in accuracy.tables(RECIPE)
