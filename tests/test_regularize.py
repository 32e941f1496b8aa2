"""The picture of overfitting as a user makes it, on a few digits."""

import json

import pytest
from PIL import Image

from jaxdl.regularize import __main__ as regularize

SMALL = ["--dataset", "digits", "--examples", "60", "--hidden", "32", "--batch-size", "10", "--lr", "0.03"]


def test_a_network_overfits_and_the_cures_are_measured_beside_it(tmp_path, capsys):
    out = tmp_path / "r"
    argv = [*SMALL, "--epochs", "10", "--cures", "l2=0.1 dropout=0.2", "--out", str(out)]
    assert regularize.main(argv) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("none, seed 0: ")
    assert [line.split()[0] for line in said[-2:]] == ["none", "l2=0.1"]
    runs = json.loads((out / "regularize.json").read_text())["runs"]
    plain = runs["none"][0]
    assert plain["train_accuracy"] == 1.0
    assert plain["test_accuracy"] < 0.9
    assert plain["lowest_test_loss"] <= plain["test_loss"] + 1e-6
    assert runs["l2=0.1 dropout=0.2"][0]["train_loss"] > 10 * plain["train_loss"]
    options = json.loads((out / "seed-0" / "l2=0.1-dropout=0.2" / "config.json").read_text())["options"]
    assert (options["l2"], options["dropout"]) == (0.1, 0.2)
    with Image.open(out / "regularize.png") as picture:
        assert picture.width == 1100
    assert (out / "regularize.png").stat().st_size < 200_000


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--cures", "dropout"], "--cures expects OPTION=VALUE, several joined by spaces; got 'dropout'"),
        (["--cures", "dropuot=0.5"], "unknown option --dropuot; did you mean --dropout?"),
        (["--examples", "5"], "expected from 10 (one a class) to 1437 training images of digits; got 5"),
        (["--seeds", "0"], "--seeds must be at least 1; got 0"),
        (["--exampels", "5"], "unknown option --exampels; did you mean --examples?"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_no_folder(argv, message, tmp_path, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    said = mistake(regularize.main, ["--dataset", "digits", *argv])
    assert said.err.startswith("jaxdl.regularize: error: ")
    assert message in said.err
    assert list(tmp_path.iterdir()) == []
