"""The command from its options to its files, on the digits."""

import json

import pytest

from jaxdl import inference
from jaxdl.consistency.__main__ import main

DIGITS = ["--dataset", "digits", "--steps", "3", "--no-tensorboard"]
SMALL = [*DIGITS, "--channels", "2", "3", "--hidden", "4", "--labels", "20", "--batch-size", "4"]


@pytest.mark.parametrize("method", ["mean_teacher", "fixmatch"])
def test_a_run_is_a_plain_one_that_can_be_loaded(tmp_path, method):
    run = tmp_path / "run"
    assert main([*SMALL, "--method", method, "--out", str(run), "--quiet"]) == 0
    trained = inference.load(run)
    summary = json.loads((run / "summary.json").read_text())
    from jaxdl.data import sources

    # The weights that were saved are those that were measured.
    assert trained.evaluate(sources.load("digits"))["accuracy"] == pytest.approx(summary["accuracy"])
    assert json.loads((run / "config.json").read_text())["technique"]["method"] == method


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--labels", "9"], "expected from 10 (one a class) to 1437 training images of digits; got 9"),
        (["--threshold", "1.5"], "the threshold must lie in [0, 1]; got 1.5"),
        (["--threshold", "-0.5"], "the threshold must lie in [0, 1]; got -0.5"),
        (["--ratio", "0"], "--ratio must lie between 1 and the 1437 training images; got 0"),
        (["--weight", "-1"], "--weight must be at least 0; got -1.0"),
        (["--method", "mean_teacher", "--decay", "1"], "the decay of the teacher must lie in [0, 1); got 1.0"),
        (["--method", "pi", "--threshold", "0.9"], "--threshold has no meaning for pi"),
        (["--method", "pi", "--ramp", "-1"], "--ramp must be at least 0; got -1"),
        (["--method", "rdrop", "--dropout", "0"], "expected --dropout above 0"),
        (["--strong", "cropp:2"], "--augment: 'cropp:2': unknown name; did you mean crop?"),
        (["--compare", "--threshold", "0.9"], "--threshold belongs to some methods only"),
        (["--compare", "--seeds", "0"], "--seeds must be at least 1; got 0"),
    ],
)
def test_wrong_options_are_one_line_and_status_2(tmp_path, capsys, argv, message):
    assert main([*DIGITS, *argv, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
