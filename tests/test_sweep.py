"""The command as a user runs it, on the embedded digits."""

import json

import numpy as np
import pytest
import safetensors.numpy

from jaxdl import inference, train
from jaxdl.engine.log import read_records
from jaxdl.sweep import __main__ as sweep

DIGITS = ["--dataset", "digits", "--batch-size", "128", "--hidden", "16", "--epochs", "2", "--drop-last"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Two rates and two optimizers with two seeds each: two programs."""
    out = tmp_path_factory.mktemp("sweep") / "found"
    over = ["--over", "lr=0.1,0.5", "--over", "optimizer=sgd,rmsprop"]
    assert sweep.main([*DIGITS, *over, "--seeds", "2", "--seed", "3", "--out", str(out)]) == 0
    return out


def test_a_sweep_leaves_a_result_a_figure_and_a_run_of_each_member(found):
    assert {path.name for path in found.iterdir() if path.name != ".lock"} == {
        "sweep.json",
        "sweep.png",
        *(f"member-00{number}" for number in range(8)),
    }
    result = json.loads((found / "sweep.json").read_text())
    assert [setting["setting"] for setting in result["settings"]] == [
        {"lr": lr, "optimizer": optimizer} for lr in (0.1, 0.5) for optimizer in ("sgd", "rmsprop")
    ]
    assert [setting["members"] for setting in result["settings"]] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert [member["seed"] for member in result["members"]] == [3, 4] * 4
    assert [program["members"] for program in result["programs"]] == [4, 4]
    accuracies = [member["accuracy"] for member in result["members"][:2]]
    assert result["settings"][0]["accuracy"]["mean"] == np.mean(accuracies)


def test_a_member_is_the_run_that_train_would_do(found, tmp_path):
    options = ["--lr", "0.5", "--optimizer", "sgd", "--seed", "4"]
    assert train.main([*DIGITS, *options, "--out", str(tmp_path / "r"), "--quiet", "--no-tensorboard"]) == 0
    alone, member = (
        safetensors.numpy.load_file(run / "weights.safetensors") for run in (tmp_path / "r", found / "member-005")
    )
    for name in alone:
        np.testing.assert_allclose(member[name], alone[name], rtol=0, atol=2e-6 * np.abs(alone[name]).max())
    last = read_records(tmp_path / "r" / "metrics.jsonl")[-1]
    assert read_records(found / "member-005" / "metrics.jsonl")[-1]["accuracy"] == last["accuracy"]


def test_a_member_can_be_loaded_as_any_run(found):
    trained = inference.load(found / "member-002")
    assert (trained.config.run.seed, trained.config.optim.optimizer) == (3, "rmsprop")
    assert trained.predict(np.zeros((1, 8, 8, 1), np.uint8)).shape == (1, 10)


def test_what_is_shown(tmp_path, capsys):
    assert sweep.main([*DIGITS, "--over", "lr=0.5,1e30", "--out", str(tmp_path / "s")]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[1] == f"2 members (2 x 1: settings, seeds), one program -> {tmp_path / 's'}"
    assert shown[2].startswith("2 members, 22 steps each, on 2 x cpu, map: ")
    assert shown[3].startswith("Epoch [1/2], test accuracy of 2 members: mean ")
    assert shown[5].split() == ["setting", "accuracy"]
    assert shown[6].startswith("lr=0.5 ")
    assert shown[7] == "lr=1e+30            1 failed: no number as loss"
    assert shown[8].startswith("33 steps in ")
    assert not (tmp_path / "s" / "member-001" / "weights.safetensors").exists()


def test_where_every_member_fails_the_status_says_so(tmp_path):
    argv = [*DIGITS, "--lr", "1e30", "--seeds", "2", "--way", "vmap", "--quiet", "--out", str(tmp_path / "s")]
    assert sweep.main(argv) == 1


def test_ctrl_c_ends_it_without_a_traceback(tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "sweep", interrupted)
    assert sweep.main([*DIGITS, "--seeds", "2", "--out", str(tmp_path / "s")]) == 130
    assert capsys.readouterr().err == "stopped: of the members that were being trained nothing is kept\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "expected several members: --seeds 8, or --over lr=0.05,0.1"),
        (["--seeds", "0"], "--seeds must be at least 1; got 0"),
        (["--over", "lr=0.1,0.2", "--resume", "--out", "x"], "--resume has no meaning for a sweep"),
        (["--seeds", "2", "--early-stop", "2"], "--early-stop has no meaning for a sweep"),
        (["--seeds", "2", "--devices", "2"], "--devices has no meaning for a sweep"),
        (["--seeds", "2", "--parallel", "pmap"], "--parallel has no meaning for a sweep"),
        (["--seeds", "2", "--epochs", "0"], "expected at least one step, got --epochs 0 --steps None"),
        (["--seeds", "2", "--over", "seed=1,2"], "expected --seeds or --over seed=..., not both"),
        (["--over", "hiden=1,2"], "unknown option 'hiden'; did you mean hidden?"),
        (["--over", "lr=0.1,fast"], "lr: expected a number; got 'fast'"),
        (["--over", "dropout=0.1,1.5"], "expected a dropout rate from 0 to 1, got 1.5"),
        (["--over", "optimizer=sgd,adam", "--momentum", "0.9"], "--momentum has no meaning for adam"),
        (["--over", "lr=0.1,-1"], "the rate must be 0 or more, got -1.0"),
        (["--sedes", "2"], "unknown option --sedes; did you mean --seeds?; see --help"),
    ],
)
def test_errors_are_one_line(argv, message, tmp_path, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    said = mistake(sweep.main, ["--dataset", "digits", *argv])
    assert said.out == ""
    assert said.err.startswith(f"jaxdl.sweep: error: {message}")
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_a_folder_with_something_in_it_is_left_alone(found, capsys):
    assert sweep.main([*DIGITS, "--seeds", "2", "--out", str(found)]) == 2
    assert "is not empty and no run (it holds member-000); choose another --out" in capsys.readouterr().err
