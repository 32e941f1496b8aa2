import json

from jaxdl.consistency.__main__ import main
from jaxdl.consistency.options import METHODS, ConsistencyOptions
from jaxdl.consistency.report import report


def test_gains_are_those_over_the_labelled_images_alone(tmp_path):
    found = {"supervised": [0.90, 0.92], "fixmatch": [0.97, 0.95]}
    text = report(found, ConsistencyOptions(labels=100), tmp_path)
    assert text.splitlines()[2].split() == ["fixmatch", "96.00%", "1.41", "95.00%", "97.00%", "+5.00"]
    known = json.loads((tmp_path / "consistency.json").read_text())
    assert known["labels"] == 100
    assert known["methods"]["fixmatch"]["accuracies"] == [0.97, 0.95]
    assert (tmp_path / "consistency.png").read_bytes()[:4] == b"\x89PNG"


def test_a_comparison_trains_every_method_once(tmp_path, capsys):
    argv = ["--compare", "--seeds", "1", "--labels", "20", "--dataset", "digits", "--steps", "1"]
    argv += ["--batch-size", "4", "--channels", "2", "3", "--hidden", "4", "--out", str(tmp_path / "all")]
    assert main(argv) == 0
    first = capsys.readouterr().out
    assert [line.split(",")[0] for line in first.splitlines()[: len(METHODS)]] == list(METHODS)
    stamps = [(tmp_path / "all" / f"{method}-0" / "summary.json").stat().st_mtime_ns for method in METHODS]
    assert main(argv) == 0  # the trainings are there
    assert capsys.readouterr().out == first
    assert stamps == [(tmp_path / "all" / f"{method}-0" / "summary.json").stat().st_mtime_ns for method in METHODS]
