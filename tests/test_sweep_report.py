"""The table of a sweep and what is written of it, by hand."""

import json

import pytest

from jaxdl.config import TrainConfig
from jaxdl.sweep import report as sweep_report
from jaxdl.sweep.plan import Member


def member(number, setting, *accuracies, train_loss=0.1):
    own = Member(number, setting, TrainConfig())
    for epoch, accuracy in enumerate(accuracies, 1):
        record = {"accuracy": accuracy, "loss": 0.2, "train_accuracy": 1.0, "train_loss": train_loss}
        own.records.append(record | {"step": 10 * epoch, "epoch": float(epoch)})
    return own


def test_the_table_has_mean_interval_and_spread():
    plan = [member(0, {"lr": 0.1}, 0.9, 0.95), member(1, {"lr": 0.1}, 0.9, 0.97), member(2, {"lr": 0.2}, 0.5, 0.6)]
    head, first, second = sweep_report.table(sweep_report.grouped(plan)).splitlines()
    assert head.split("  ")[0] == "setting"
    # Two values, 0.02 apart: std 0.01 * sqrt(2), interval +- 12.7062 * 0.01.
    assert first.split() == ["lr=0.1", "2", "96.00%", "83.29%", "to", "108.71%", "1.414", "95.00%", "97.00%"]
    assert second.split() == ["lr=0.2", "1", "60.00%", "60.00%", "60.00%"]


def test_without_several_members_there_is_no_spread():
    plan = [member(0, {"lr": 0.1}, 0.95), member(1, {"lr": 0.2}, 0.96)]
    table = sweep_report.table(sweep_report.grouped(plan)).splitlines()
    found = [line.split() for line in table]
    assert found == [["setting", "accuracy"], ["lr=0.1", "95.00%"], ["lr=0.2", "96.00%"]]


def test_a_member_that_failed_counts_in_no_mean(tmp_path):
    plan = [member(0, {}, 0.95), member(1, {}, 0.1, train_loss=float("nan"))]
    text = sweep_report.report(plan, [{"members": 2}], 2.0, tmp_path)
    assert "95.00%" in text
    assert "1 failed: no number as loss" in text
    assert text.endswith("20 steps in 2.0 s: 10 steps/s of all members")
    result = json.loads((tmp_path / "sweep.json").read_text())
    assert result["settings"] == [
        {
            "setting": {},
            "members": [0, 1],
            "accuracy": pytest.approx(
                {"n": 1, "mean": 0.95, "std": None, "low": None, "high": None, "smallest": 0.95, "largest": 0.95}
            ),
        }
    ]
    assert [own["failed"] for own in result["members"]] == [False, True]
    assert "accuracy" not in result["members"][1]
    assert (tmp_path / "sweep.png").exists()
