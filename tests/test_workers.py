"""Workers of a study in processes of their own, and what they do with trials that cannot be trained."""

import json
import os
import signal
import subprocess
import sys

import pytest

from jaxdl.config import replace
from jaxdl.data import sources
from jaxdl.tune import __main__ as tune
from jaxdl.tune import report as study_report
from jaxdl.tune import search, workers
from jaxdl.tune.options import TuneConfig

ARGV = ["--dataset", "digits", "--batch-size", "128", "--epochs", "2", "--drop-last", "--search", "lr=log:0.01:1"]


def spawn(out, *argv):
    command = [sys.executable, "-m", "jaxdl.tune", *ARGV, "--workers", "2", "--out", str(out), *map(str, argv)]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_a_study_whose_processes_were_killed_goes_on_without_a_loss(tmp_path, capsys):
    out = tmp_path / "s"
    with spawn(out, "--trials", "8", "--at-once", "2", "--no-final") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("["):  # there is a first result
                break
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=240)
    assert process.returncode in (143, 0), said  # it may have been too fast
    assert tune.main(["--out", str(out), "--resume", "--workers", "1"]) == 0
    assert "8 trials: " in capsys.readouterr().out
    trials = json.loads((out / "tune.json").read_text())["trials"]
    assert len(trials) == 8
    assert len({json.dumps(trial["options"], sort_keys=True) for trial in trials}) == 8


@pytest.fixture
def study(tmp_path):
    config = replace(TuneConfig(), {"dataset": "digits", "search": ("lr=0:1", "batch_size=8,16"), "trials": 4})
    source = sources.load("digits")
    return config, workers.open_study(config, search.of(config), source, tmp_path), source, tmp_path


class Process:
    """A worker that has ended."""

    def __init__(self, returncode):
        self.returncode = returncode

    def poll(self):
        return self.returncode

    def terminate(self):
        pass

    wait = poll


def test_a_worker_that_fails_is_told_with_its_last_line(study, monkeypatch):
    config, own, source, out = study

    def start(_out, _cores, errors):
        errors.write("Traceback\n  something\nMemoryError: of course\n\n")
        return Process(1)

    monkeypatch.setattr(workers, "_start", start)
    config = replace(config, {"workers": 2, "quiet": True})
    with pytest.raises(workers.WorkerError, match="a worker ended with status 1: MemoryError: of course"):
        workers.run(config, search.of(config), own, source, out)


def test_what_the_others_have_done_for_it_is_no_error(study, monkeypatch, capsys):
    config, own, source, out = study
    monkeypatch.setattr(workers, "_start", lambda *_: Process(-9))
    monkeypatch.setattr(study_report.Progress, "complete", True)
    config = replace(config, {"workers": 1 + 1, "quiet": True})
    workers.run(config, search.of(config), own, source, out)
    assert "a worker ended with status -9; the others have done its part" in capsys.readouterr().err


def test_a_trial_whose_options_do_not_fit_is_ended_with_the_reason(study):
    config, own, source, _ = study
    config = replace(config, {"search": ("lr=0:1", "batch_size=8,100000")})
    space = search.of(config)
    worker = workers.Worker(config, space, own, source, 4, lambda: None)
    worker._train = lambda *_: None
    worker.run(own.ask(4, 4))
    reasons = [trial.user_attrs.get("refused") for trial in own.study.trials]
    assert any(reason and "--batch-size must lie between 1 and" in reason for reason in reasons)
    assert [reason is None for reason in reasons] == [x.params["batch_size"] == 8 for x in own.study.trials]


def test_a_grid_has_no_more_trials_than_points():
    config = replace(TuneConfig(), {"search": ("lr=0:1", "hidden=8,16"), "sampler": "grid", "points": 3})
    assert workers.total(config, search.of(config)) == 6
    assert workers.total(replace(config, {"trials": 5}), search.of(config)) == 5
    assert workers.total(replace(config, {"sampler": "tpe"}), search.of(config)) == 100


def test_old_programs_are_forgotten(study, monkeypatch):
    config, own, source, _ = study
    worker = workers.Worker(config, search.of(config), own, source, 4, lambda: None)
    monkeypatch.setattr(workers, "Members", lambda group, _, **__: group.config.model.hidden)
    from jaxdl.sweep.groups import groups

    for hidden in range(1, workers.KEPT + 3):
        (group,) = groups([replace(workers.plain(config), {"hidden": hidden})], ())
        assert worker._program(group) == hidden
    assert list(worker.programs.values()) == list(range(3, workers.KEPT + 3))
