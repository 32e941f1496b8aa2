import json

import pytest

from jaxdl import comparison
from jaxdl.config import TrainConfig, replace
from jaxdl.train import plain

DIGITS = replace(TrainConfig(), {"dataset": "digits", "hidden": 4, "steps": 3, "tensorboard": False})


def test_a_training_is_done_once(tmp_path, monkeypatch, capsys):
    out = tmp_path / "a"
    first = comparison.completed(DIGITS, plain, out)
    assert first == json.loads((out / "summary.json").read_text())
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(comparison.train, "train", None)
    assert comparison.completed(DIGITS, plain, out) == first


def test_a_longer_one_goes_on(tmp_path):
    comparison.completed(DIGITS, plain, tmp_path)
    assert comparison.completed(replace(DIGITS, {"steps": 5}), plain, tmp_path)["steps"] == 5


def test_other_options_are_an_error(tmp_path):
    comparison.completed(DIGITS, plain, tmp_path)
    with pytest.raises(ValueError, match="started with other options: --hidden was 4, is 5"):
        comparison.completed(replace(DIGITS, {"hidden": 5}), plain, tmp_path)


def test_a_training_that_fails_ends_the_comparison(tmp_path, capsys):
    with pytest.raises(comparison.IncompleteError) as failure:
        comparison.completed(replace(DIGITS, {"lr": 1.5, "momentum": 1.5, "steps": 900}), plain, tmp_path)
    assert failure.value.status == 1
    assert capsys.readouterr().err.startswith("error: the loss is ")


def test_a_folder_with_nothing_in_it_goes_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with comparison.folder(None, "x") as path:
        assert path.is_dir()
    assert list(tmp_path.iterdir()) == []
    with comparison.folder(tmp_path / "kept", "x") as path:
        (path / "file").write_text("")
    assert (tmp_path / "kept" / "file").exists()
