"""The command: the file has the size that was asked for, is a model, and mistakes are told in one line."""

import json

import numpy as np
import pytest

from jaxdl import inference, predict, train
from jaxdl.compress import __main__ as compress
from jaxdl.compress import forms
from jaxdl.data import sources

TRAINING = ["--dataset", "digits", "--normalize", "--optimizer", "adam", "--hidden", "64", "--batch-size", "128"]
QUIET = ["--quiet", "--no-tensorboard"]


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "dense"
    assert train.main([*TRAINING, *QUIET, "--epochs", "5", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def searched(dense, tmp_path_factory):
    """A search over two forms at one fifth of the size, one of them also at the half, and soft targets."""
    out = tmp_path_factory.mktemp("runs") / "small"
    argv = [str(dense), "--target-size", "20%", "--around", "0.5", "--search-epochs", "1", *QUIET]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forms, "FORMS", ((0.0, 1.0), (0.25, 0.5)))
        assert compress.main([*argv, "--epochs", "2", "--out", str(out)]) == 0
    return out


def test_the_file_is_no_larger_than_asked_and_nearly_so_large(dense, searched):
    whole = (dense / "weights.safetensors").stat().st_size
    size = (searched / "compressed.safetensors").stat().st_size
    assert 0.17 * whole < size <= 0.2 * whole
    known = json.loads((searched / "compress.json").read_text())
    assert known["compressed"]["bytes"] == size
    assert known["dense"]["bytes"] == whole
    for one in known["tried"]:
        target = known["target"] if one["bytes"] > known["target"] / 2 else known["target"] / 2
        assert one["bytes"] <= target


def test_what_was_tried_is_kept_and_the_best_of_the_size_chosen(searched):
    known = json.loads((searched / "compress.json").read_text())
    assert len(known["tried"]) == 4  # two forms at the size, one at the half of it, and soft targets
    assert sum("soft" in one["composition"] for one in known["tried"]) == 1
    of_size = [one for one in known["tried"] if one["bytes"] > known["target"] / 2]
    assert known["composition"] == max(of_size, key=lambda one: one["accuracy"])["composition"]
    assert (searched / "compress.png").stat().st_size < 200_000


def test_the_file_is_a_model_that_is_as_good_as_was_said(searched, capsys):
    assert predict.main([str(searched / "compressed.safetensors"), "--evaluate"]) == 0
    known = json.loads((searched / "compress.json").read_text())
    assert f"{known['compressed']['accuracy']:.2%}" in capsys.readouterr().out
    source = sources.load("digits")
    small, run = inference.load(searched / "compressed.safetensors"), inference.load(searched / "run")
    images = source.test["image"][:50]
    np.testing.assert_allclose(small.predict(images), run.predict(images), atol=0.1)  # int8 against float32


def test_a_composition_that_is_given_is_not_searched_and_may_be_too_large(dense, tmp_path, capsys):
    out = tmp_path / "given"
    given = "units:0.5,rank:0.5,sparsity:0.5,soft:0.3"
    argv = [str(dense), "--composition", given, "--target-size", "1%", "--epochs", "1", *QUIET, "--out", str(out)]
    assert compress.main(argv) == 2
    known = json.loads((out / "compress.json").read_text())
    assert (known["composition"], known["tried"]) == (given, [])
    assert json.loads((out / "run" / "config.json").read_text())["options"]["hidden"] == 32
    said = capsys.readouterr()
    assert "read again" in said.out
    size = (out / "compressed.safetensors").stat().st_size
    assert f"has {size} bytes; --target-size is {known['target']}" in said.err


def test_the_means_of_several(searched, tmp_path, capsys):
    assert compress.main(["--compare", str(searched), str(searched), "--out", str(tmp_path / "mean")]) == 0
    known = json.loads((searched / "compress.json").read_text())
    points = 100 * (known["compressed"]["accuracy"] - known["dense"]["accuracy"])
    assert f"{points:+.2f} points, mean of 2, at" in capsys.readouterr().out
    assert (tmp_path / "mean" / "compress.json").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "expected the folder of a run; see --help"),
        (["{tmp}"], "holds no run (no config.json in it)"),
        (["{unfinished}"], "the run has not ended yet"),
        (["{dense}", "--target-size", "0.1%"], "bytes; the smallest that can be made of this run is"),
        (["{dense}", "--target-size", "small"], "--target-size is a share or a number of bytes, such as 5%"),
        (["{dense}", "--target-size", "0%"], "--target-size is a share or a number of bytes, such as 5%"),
        (["{dense}", "--composition", "depth:1"], "--composition is a list such as"),
        (["{dense}", "--soft-weight", "2"], "--soft-weight expects a share from 0 to 1"),
        (["{dense}", "--search-epochs", "0"], "--search-epochs at least 1"),
        (["{dense}", "--hidden", "9"], "only its --dropout can be changed"),
        (["{dense}", "--early-stop", "2"], "leave it out"),
        (["{dense}", "--target-szie", "5%"], "unknown option --target-szie; did you mean --target-size?"),
        (["--compare", "{dense}", "--out", "{tmp}/mean"], "no report at"),
        (["--compare", "{dense}"], "say where: --out FOLDER"),
    ],
)
def test_mistakes_are_one_line(argv, message, dense, tmp_path, mistake):
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.json").write_text((dense / "config.json").read_text())
    words = [word.format(dense=dense, tmp=tmp_path, unfinished=unfinished) for word in argv]
    if words and "--compare" not in words:
        words += ["--out", str(tmp_path / "out")]
    said = mistake(compress.main, words)
    assert message in said.err
    assert not (tmp_path / "out" / "run").exists()
