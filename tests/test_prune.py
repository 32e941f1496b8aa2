"""The command: runs that are pruned as asked, normal runs afterwards, reports, and mistakes told in one line."""

import json

import numpy as np
import pytest
import safetensors.numpy

from jaxdl import inference, predict, train, tree
from jaxdl.data import sources
from jaxdl.engine import hooks
from jaxdl.prune import __main__ as prune
from jaxdl.prune import report

TRAINING = ["--dataset", "digits", "--normalize", "--optimizer", "adam", "--hidden", "20", "--batch-size", "128"]
QUIET = ["--quiet", "--no-tensorboard"]


class StopError(Exception):
    """What ends a run in the middle."""


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "dense"
    assert train.main([*TRAINING, *QUIET, "--epochs", "6", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def pruned(dense, tmp_path_factory):
    """Four fifths of the weights gone."""
    out = tmp_path_factory.mktemp("runs") / "pruned"
    assert prune.main([str(dense), "--amount", "0.8", "--prune-every", "10", *QUIET, "--out", str(out)]) == 0
    return out


def arrays(run):
    return safetensors.numpy.load_file(run / "weights.safetensors")


def test_weights_are_zero_to_the_amount(dense, pruned):
    before, after = arrays(dense), arrays(pruned)
    weights = [after["fc1.weight"], after["fc2.weight"]]
    assert sum((weight == 0).sum() for weight in weights) == round(0.8 * (64 * 20 + 20 * 10))
    assert {name: array.shape for name, array in after.items()} == {
        name: array.shape for name, array in before.items()
    }
    assert (after["fc1.bias"] != 0).all()


def test_the_report_says_what_the_files_say(dense, pruned):
    known = json.loads((pruned / "prune.json").read_text())
    assert known["pruned"]["sparsity"] == pytest.approx(0.8, abs=1e-3)
    assert known["pruned"]["accuracy"] == pytest.approx(
        json.loads((pruned / "summary.json").read_text())["accuracy"]
    )
    assert known["dense"]["accuracy"] == pytest.approx(
        json.loads((dense / "summary.json").read_text())["accuracy"]
    )
    assert (
        known["pruned"]["packed"] == (pruned / "packed.safetensors").stat().st_size < known["pruned"]["bytes"] / 2
    )
    unpruned = known["curves"]["smallest of all"][0]
    assert unpruned == [0, pytest.approx(known["dense"]["accuracy"])]
    assert (pruned / "prune.png").stat().st_size < 200_000


def test_packed_weights_are_a_model_to_predict_with(pruned, capsys):
    assert predict.main([str(pruned / "packed.safetensors"), "--evaluate"]) == 0
    accuracy = json.loads((pruned / "summary.json").read_text())["accuracy"]
    assert f"{accuracy:.2%}" in capsys.readouterr().out
    plain, packed = (
        tree.flatten(inference.load(run).state.params) for run in (pruned, pruned / "packed.safetensors")
    )
    for name, array in plain.items():
        np.testing.assert_array_equal(packed[name], array)


def test_units_are_gone_and_the_run_is_a_normal_one(dense, tmp_path, capsys):
    out = tmp_path / "units"
    argv = [str(dense), "--structure", "units", "--amount", "0.55", "--prune-every", "10", "--epochs", "2", *QUIET]
    assert prune.main([*argv, "--out", str(out)]) == 0
    assert arrays(out)["fc1.weight"].shape == (9, 64)
    assert json.loads((out / "config.json").read_text())["options"]["hidden"] == 9
    known = json.loads((out / "prune.json").read_text())
    assert known["pruned"]["parameters"] == 64 * 9 + 9 + 9 * 10 + 10
    assert predict.main([str(out), "--evaluate"]) == 0
    assert f"{known['pruned']['accuracy']:.2%}" in capsys.readouterr().out


def test_a_resumed_run_ends_with_the_same_bits(dense, tmp_path, monkeypatch):
    out = tmp_path / "resumed"
    argv = [str(dense), "--amount", "0.8", "--prune-every", "5", "--epochs", "2", *QUIET, "--save-every", "6"]
    argv += ["--out", str(out)]
    save = hooks.Save.on_state

    def stopping(self, step, state, late):
        save(self, step, state, late)
        if step >= 12:
            raise StopError

    monkeypatch.setattr(hooks.Save, "on_state", stopping)
    with pytest.raises(StopError):
        prune.main(argv)
    monkeypatch.undo()
    monkeypatch.setattr(report, "report", lambda _: None)  # it has tests of its own, and takes its time
    assert prune.main(["--out", str(out), "--resume", "--quiet"]) == 0
    whole = tmp_path / "whole"
    assert prune.main([*argv[:-1], str(whole)]) == 0
    assert (out / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()


def test_the_means_of_several(pruned, tmp_path, capsys):
    assert prune.main(["--compare", str(pruned), str(pruned), "--out", str(tmp_path / "mean")]) == 0
    said = capsys.readouterr().out
    known = json.loads((pruned / "prune.json").read_text())
    assert f"{known['pruned']['accuracy']:.2%} ± 0.00" in said
    points = 100 * (known["pruned"]["accuracy"] - known["dense"]["accuracy"])
    assert f"weights, global, 80%: {points:+.2f} points, mean of 2" in said
    assert (tmp_path / "mean" / "prune.png").exists()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "expected the folder of a run; see --help"),
        (["{tmp}"], "holds no run (no config.json in it)"),
        (["{unfinished}"], "the run has not ended yet"),
        (["{dense}", "--amount", "1.5"], "--amount is a share from 0 to below 1; got 1.5"),
        (["{dense}", "--amount", "-0.1"], "--amount is a share from 0 to below 1; got -0.1"),
        (["{dense}", "--structure", "2:4", "--amount", "0.5"], "--amount has no meaning for 2:4"),
        (["{dense}", "--structure", "units", "--amount", "0.99"], "leaves no unit of fc1"),
        (
            ["{dense}", "--structure", "units", "--layers", "fc2.*"],
            "no weight to prune matches 'fc2.*'; there are fc1",
        ),
        (
            ["{dense}", "--layers", "conv.*"],
            "no weight to prune matches 'conv.*'; there are fc1.weight, fc2.weight",
        ),
        (["{dense}", "--ramp", "2"], "--ramp is a share from 0 to 1; got 2"),
        (["{dense}", "--prune-every", "0"], "at least 1 update between two prunings; got 0"),
        (["{dense}", "--hidden", "9"], "only its --dropout can be changed"),
        (["{dense}", "--early-stop", "2"], "use it with --ramp 0"),
        (["{dense}", "--amonut", "0.5"], "unknown option --amonut; did you mean --amount?"),
        (["--compare", "{dense}", "--out", "{tmp}/mean"], "no report at"),
        (["--compare", "{dense}"], "say where: --out FOLDER"),
    ],
)
def test_mistakes_are_one_line(argv, message, dense, tmp_path, mistake):
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.json").write_text((dense / "config.json").read_text())
    words = [word.format(dense=dense, tmp=tmp_path, unfinished=unfinished) for word in argv]
    if words and "--out" not in words and "--compare" not in words:
        words += ["--out", str(tmp_path / "out")]
    said = mistake(prune.main, words)
    assert message in said.err
    assert not (tmp_path / "out" / "config.json").exists()


def test_other_classes_than_the_runs_are_an_error(dense, tmp_path, capsys):
    digits = sources.load("digits")
    path = tmp_path / "three.npz"
    few = {
        f"{split}_{kind}": getattr(digits, split)[kind][getattr(digits, split)["label"] < 3]
        for split in ("train", "test")
        for kind in ("image", "label")
    }
    np.savez(path, **few)
    argv = [str(dense), "--dataset", "npz", "--data-dir", str(path), "--out", str(tmp_path / "out")]
    assert prune.main(argv) == 2
    assert "knows 10 classes; npz has 3" in capsys.readouterr().err
