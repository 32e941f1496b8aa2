"""What has changed is told from what is noise."""

import dataclasses

import pytest

from benchmarks import __main__ as command_line
from benchmarks import results
from benchmarks.cells import Cell

FACTS = {
    "platform": "cpu",
    "device": "cpu",
    "cpu": "a CPU",
    "threads": 2,
    "versions": {"jax": "1"},
    "data": "MNIST",
}
STEADY = [99.0, 100.0, 101.0, 100.0]


@pytest.fixture
def sides(tmp_path, capsys):
    """Compares two folders, each given as arm -> speeds; returns the status and what is printed."""

    def compare(old, new, **changed):
        for side, speeds, more in (("old", old, {}), ("new", new, changed)):
            cells = [dataclasses.asdict(Cell(arm, "step", found)) for arm, found in speeds.items()]
            results.save(FACTS | {"task": "race", "case": "net", "cells": cells} | more, tmp_path / side)
        status = command_line.main(["compare", str(tmp_path / "old"), str(tmp_path / "new")])
        return status, capsys.readouterr().out

    return compare


def scaled(factor):
    return [factor * speed for speed in STEADY]


def row(page, arm):
    return next(line for line in page.splitlines() if f"race-net-cpu: step, {arm} |" in line)


def test_a_cell_that_got_slower_is_worse_and_the_status_is_1(sides):
    status, page = sides({"scan": STEADY, "jaxdl": STEADY}, {"scan": scaled(0.9), "jaxdl": scaled(1.1)})
    assert status == 1
    assert "| 100 steps/s | 90 steps/s | 0.90 |" in row(page, "scan")
    assert row(page, "scan").endswith("| worse |")
    assert row(page, "jaxdl").endswith("| better |")
    assert "0 of 2 cells changed by 7% or less." in page


def test_small_changes_are_none(sides):
    status, page = sides({"scan": STEADY}, {"scan": scaled(0.94)})
    assert (status, page) == (0, "1 of 1 cells changed by 7% or less.\n")


@pytest.mark.parametrize("new", [[60.0, 90.0, 60.0, 90.0], [88.0, 104.0, 89.0, 96.0]])
def test_a_change_within_the_spread_is_noise(sides, new):
    """The first has an IQR of more than a quarter of its median, the interval of the second holds 1."""
    status, page = sides({"scan": [103.0, 85.0, 101.0, 102.0]}, {"scan": new})
    assert row(page, "scan").endswith("| noisy |")
    assert status == 0


def test_more_seconds_are_worse(tmp_path, capsys):
    for side, seconds in (("old", 2.0), ("new", 3.0)):
        result = FACTS | {"task": "startup", "seconds": {"torch": [seconds] * 3}}
        results.save(result, tmp_path / side)
    files = [str(tmp_path / side / "startup-cpu.json") for side in ("old", "new")]
    assert command_line.main(["compare", *files]) == 1
    assert "| 2 s | 3 s | 1.50 | 1.50 to 1.50 | worse |" in capsys.readouterr().out


def test_other_conditions_and_lone_cells_are_named(sides):
    _, page = sides({"scan": STEADY, "torch-eager": STEADY}, {"scan": STEADY, "jaxdl": STEADY}, threads=4)
    assert "Not measured under the same conditions:\nthreads: 2 -> 4" in page
    assert "Only old: race-net-cpu: step, torch-eager" in page
    assert "Only new: race-net-cpu: step, jaxdl" in page


def test_sides_without_a_common_cell_are_an_error(tmp_path, capsys):
    results.save(FACTS | {"task": "startup", "seconds": {"torch": [1.0]}}, tmp_path / "old")
    results.save(FACTS | {"task": "startup", "seconds": {"jaxdl, warm cache": [1.0]}}, tmp_path / "new")
    assert command_line.main(["compare", str(tmp_path / "old"), str(tmp_path / "new")]) == 1
    assert "have no cell in common" in capsys.readouterr().err
    assert command_line.main(["compare", str(tmp_path / "old"), str(tmp_path / "none")]) == 1
    assert capsys.readouterr().err.startswith("benchmarks: error: ")
