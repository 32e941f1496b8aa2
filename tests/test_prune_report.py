"""Means over several reports, by hand."""

import json

import pytest

from jaxdl.config import replace
from jaxdl.prune import report
from jaxdl.prune.options import PruneConfig


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "weights, global"),
        ({"scope": "layer", "criterion": "random"}, "weights, layer, random"),
        ({"structure": "units"}, "units"),
        ({"structure": "2:4"}, "2:4"),
    ],
)
def test_what_was_pruned_in_words(options, text):
    assert report.described(replace(PruneConfig(), options)) == text


def known(amount, accuracy, curve):
    return {"what": "units", "amount": amount, "pruned": {"accuracy": accuracy}, "curves": {"random": curve}}


def test_means_point_by_point():
    reports = [
        known(0.5, 0.9, [[0.0, 0.98], [0.5, 0.5]]),
        known(0.5, 0.8, [[0.0, 0.96], [0.5, 0.3]]),
        known(0.7, 0.6, [[0.0, 0.97], [0.5, 0.4]]),
    ]
    assert report.trained_points(reports) == {"units, trained further": [[0.5, pytest.approx(0.85)], [0.7, 0.6]]}
    assert report.mean_curves(reports)["random"] == [[0, pytest.approx(0.97)], [0.5, pytest.approx(0.4)]]


def test_units_and_weights_are_compared_apart(tmp_path):
    for name, kind in (("a", "units"), ("b", "weights")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "prune.json").write_text(json.dumps({"kind": kind}))
    with pytest.raises(ValueError, match="compare them apart"):
        report.compare([tmp_path / "a", tmp_path / "b"], tmp_path / "out")


def test_a_damaged_report_is_an_error(tmp_path):
    (tmp_path / "prune.json").write_text("{")
    with pytest.raises(ValueError, match=r"prune.json is damaged"):
        report.read(tmp_path)
