"""The command as a user runs it, on the embedded digits."""

import json
import shlex
import signal

import numpy as np
import pytest
import safetensors.numpy

from jaxdl import inference, train
from jaxdl.config import replace
from jaxdl.data import sources
from jaxdl.tune import __main__ as tune
from jaxdl.tune import search, workers
from jaxdl.tune.options import TuneConfig

DIGITS = ["--dataset", "digits", "--batch-size", "128", "--epochs", "2", "--drop-last", "--workers", "1"]
SPACE = ["--search", "lr=log:0.05:0.5", "hidden=8,16", "momentum=0.1:0.9"]


def options(out, *argv):
    return [*DIGITS, "--at-once", "4", "--out", str(out), *argv]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    out = tmp_path_factory.mktemp("tune") / "found"
    assert tune.main(options(out, *SPACE, "--trials", "9", "--reduction", "2")) == 0
    return out


def test_a_study_leaves_its_trials_two_figures_and_the_best(found):
    result = json.loads((found / "tune.json").read_text())
    names = {path.name for path in found.iterdir() if path.name != ".lock"}
    best = f"best-{result['best']}"
    assert names == {"config.json", "journal.log", "tune.json", "history.png", "importance.png", best}
    states = [trial["state"] for trial in result["trials"]]
    assert len(states) == 9
    assert set(states) == {"complete", "pruned"}
    complete = [trial for trial in result["trials"] if trial["state"] == "complete"]
    assert result["accuracy"] == max(trial["accuracies"][-1] for trial in complete)
    assert {len(trial["accuracies"]) for trial in complete} == {2}
    assert all(len(trial["accuracies"]) == 1 for trial in result["trials"] if trial["state"] == "pruned")


def test_the_command_is_ready_to_be_used_and_gives_the_best(found, tmp_path):
    result = json.loads((found / "tune.json").read_text())
    python, m, module, *words = shlex.split(result["command"])
    assert (python, m, module) == ("python", "-m", "jaxdl.train")
    assert train.main([*words, "--out", str(tmp_path / "r"), "--quiet", "--no-tensorboard"]) == 0
    one, other = (
        safetensors.numpy.load_file(run / "weights.safetensors")
        for run in (tmp_path / "r", found / f"best-{result['best']}")
    )
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert summary["accuracy"] == result["test"]["accuracy"]
    trained = inference.load(tmp_path / "r").config
    assert (trained.model.hidden, trained.optim.lr) == (result["options"]["hidden"], result["options"]["lr"])


def test_a_trial_never_sees_a_test_image(monkeypatch):
    """The data that trials get has no image of the test split, neither for training nor for choosing."""
    digits = sources.load("digits")
    seen = []

    class Watched(workers.Worker):
        def run(self, trials):
            seen.append((self.source, trials))

    asked = iter([[1], []])

    class Study:
        def ask(self, *_):
            return next(asked)

    monkeypatch.setattr(workers, "Worker", Watched)
    config = TuneConfig()
    workers.work(config, search.of(config), Study(), digits)
    source = seen[0][0]
    held_out, kept = len(source.test["label"]), len(source.train["label"])
    assert (held_out, kept) == (pytest.approx(1437 / 6, abs=5), 1437 - held_out)
    everything = np.concatenate([source.train["image"], source.test["image"]]).reshape(1437, -1)
    expected = digits.train["image"].reshape(1437, -1)
    np.testing.assert_array_equal(everything[np.lexsort(everything.T)], expected[np.lexsort(expected.T)])


def test_a_study_goes_on(capsys, tmp_path):
    out = tmp_path / "s"
    assert tune.main(options(out, "--search", "lr=log:0.05:0.5", "--trials", "3", "--no-final")) == 0
    first = json.loads((out / "tune.json").read_text())["trials"]
    assert tune.main(["--out", str(out), "--resume", "--trials", "5"]) == 0
    assert "3 of 5 trials are known" in capsys.readouterr().out
    trials = json.loads((out / "tune.json").read_text())["trials"]
    assert trials[:3] == first
    assert [trial["number"] for trial in trials] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--search", "lr=log:0.01:0.5"], "--search was ['lr=log:0.05:0.5', "),
        (["--hidden", "9"], "--hidden was None, is 9"),
        (["--epochs", "3"], "the study 'jaxdl' is another one (epochs: 2 there, 3 here)"),
        (["--reduction", "4"], "--reduction was 2, is 4"),
    ],
)
def test_a_study_goes_on_with_the_same_options_only(found, argv, message, capsys):
    assert tune.main(["--out", str(found), "--resume", *argv]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_study_that_is_there_is_not_overwritten(found, capsys):
    assert tune.main(options(found, *SPACE)) == 2
    assert "holds a run already; --resume goes on with it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--trials", "0"], "--trials must be at least 1; got 0"),
        (["--workers", "0"], "--workers must be at least 1; got 0"),
        (["--search", "hiden=1:2"], "unknown option 'hiden'; did you mean hidden?"),
        (["--search", "lr=1:0.1"], "lr: expected a range with LOW below HIGH; got '1:0.1'"),
        (["--search", "hidden=float:8:16"], "hidden takes whole numbers: int:LOW:HIGH"),
        (["--search", "dropout=0:1.5"], "expected a dropout rate from 0 to 1, got 1.5"),
        (["--search", "batch_size=32,100000"], "--batch-size must lie between 1 and the 1437 training examples"),
        (["--search", "optimizer=sgd,adam", "--momentum", "0.5"], "--momentum has no meaning for adam"),
        (["--search", "augment=none/zoom"], "--augment: 'zoom': unknown name"),
        (["--early-stop", "2"], "--early-stop has no meaning for a study"),
        (["--steps", "9"], "--steps has no meaning for a study"),
        (["--validation", "0"], "--validation expects a share between 0 and 1; got 0.0"),
        (["--sampler", "grid", "--points", "1"], "--points must be at least 2; got 1"),
        (["--reduction", "1"], "--reduction must be at least 2; got 1"),
        (["--storage", "missing/x.log"], "--storage expects a journal file or the URL of a database; miss"),
        (["--storage", "sqlite:////missing/x.db"], "cannot open the database sqlite:////missing/x.db"),
        (["--serch", "lr=0:1"], "unknown option --serch; did you mean --search?; see --help"),
        (["--sampler", "tp"], ""),
    ],
)
def test_errors_are_one_line(argv, message, tmp_path, monkeypatch, mistake):
    monkeypatch.chdir(tmp_path)
    said = mistake(tune.main, ["--dataset", "digits", "--workers", "1", *argv])
    assert said.out == ""
    assert said.err.startswith(f"jaxdl.tune: error: {message}")
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_without_optuna_it_says_how_to_get_it(monkeypatch, capsys):
    def missing(_):
        raise ModuleNotFoundError("No module named 'optuna'", name="optuna")

    monkeypatch.setattr(tune, "check", missing)
    assert tune.main([]) == 2
    assert capsys.readouterr().err == "jaxdl.tune: error: this needs Optuna: pip install 'jaxdl[tune]'\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_study_says_how_to_go_on(number, status, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(workers, "run", lambda *_: signal.raise_signal(number))
    out = tmp_path / "s"
    assert tune.main(options(out, *SPACE)) == status
    assert capsys.readouterr().err == f"stopped after 0 trials; go on with --out {out} --resume\n"


def test_options_that_the_optimizer_has_no_use_for_are_not_drawn():
    config = replace(
        TuneConfig(), {"search": ("optimizer=sgd,adam", "momentum=0.1:0.9", "betas=0.9,0.99/0.8,0.9")}
    )
    space = search.of(config)
    assert "momentum" in workers.idle(replace(workers.plain(config), {"optimizer": "adam"}))

    import optuna

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [workers.suggested(study.ask(), space, workers.plain(config)) for _ in range(20)]
    assert {tuple(sorted(setting)) for setting in drawn} == {("momentum", "optimizer"), ("betas", "optimizer")}
    assert all(("momentum" in setting) == (setting["optimizer"] == "sgd") for setting in drawn)
