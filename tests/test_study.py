"""A study in its storage: workers that share it, trials that are lost, storages that cannot be used."""

import json
import os
import subprocess
import sys

import pytest
from optuna.trial import TrialState

from jaxdl.tune import search, study
from jaxdl.tune.samplers import SuccessiveHalving, sampler
from jaxdl.tune.study import Study, open_storage

SPACE = search.space(["lr=log:1e-3:1", "hidden=int:32:512"])
MADE_OF = {"search lr": "log:0.001:1", "batch_size": 64}
# Asks for trials until there are none, and prints their numbers and options. Waits with its first
# ones for a line, so that the other worker has come when it goes on.
WORKER = """
import json, sys
sys.path.insert(0, sys.argv[2])
from test_study import SPACE, made
from jaxdl.tune import search
own = made(sys.argv[1])
trials = own.ask(3, 30)
print("asked", flush=True)
input()
while trials:
    options = [{name: search.suggest(trial, name, SPACE[name]) for name in SPACE} for trial in trials]
    own.report(trials, 1, [found["lr"] for found in options], last=True)
    print(json.dumps([[trial.number, found] for trial, found in zip(trials, options)]))
    trials = own.ask(3, 30)
"""


def made(place, made_of=MADE_OF, kind="tpe"):
    points = search.grid(SPACE, 3) if kind == "grid" else []
    return Study(open_storage(str(place)), "s", made_of, sampler(kind, 0, points), SuccessiveHalving(1, 3))


@pytest.fixture
def place(tmp_path):
    return tmp_path / "journal.log"


def test_two_workers_on_one_study_do_no_trial_twice(place):
    made(place)
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", WORKER, str(place), os.path.dirname(__file__)]  # noqa: PTH120
    workers = [
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for _ in range(2)
    ]
    assert [worker.stdout.readline() for worker in workers] == ["asked\n"] * 2
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    said = [worker.communicate() for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    done = [[tuple(pair) for line in out.splitlines() for pair in json.loads(line)] for out, _ in said]
    numbers = [number for own in done for number, _ in own]
    assert sorted(numbers) == sorted(trial.number for trial in made(place).ended())
    assert len(numbers) == 30
    assert len({json.dumps(options) for own in done for _, options in own}) == 30
    assert all(done), "both have had some"


def ask(own, most=4, total=20):
    trials = own.ask(most, total)
    for trial in trials:
        for name, domain in SPACE.items():
            search.suggest(trial, name, domain)
    return trials


def test_a_batch_is_judged_together_and_the_best_goes_on(place):
    own = made(place)
    trials = ask(own)
    assert own.report(trials, 1, [0.2, 0.9, 0.4, 0.1], last=False) == {0, 3}
    assert own.report([trials[1], trials[2]], 2, [0.95, 0.5], last=True) == set()
    states = [trial.state for trial in own.trials]
    assert [state.name for state in states] == ["PRUNED", "COMPLETE", "COMPLETE", "PRUNED"]
    assert own.best().value == 0.95


def test_a_loss_that_is_no_number_ends_a_trial_and_counts_as_nothing_right(place):
    own = made(place)
    trials = ask(own, 2)
    assert own.report(trials, 1, [float("nan"), 0.5], last=True) == {0}
    assert own.trials[0].state == TrialState.PRUNED
    assert own.trials[0].intermediate_values == {1: 0.0}


def test_a_study_has_no_more_trials_than_it_shall(place, monkeypatch):
    own = made(place)
    assert len(ask(own, 8, 5)) == 5
    assert ask(own, 8, 5) == []
    # Another worker has asked for the last one at the same moment: the later trial gives way.
    fewer = own.trials[:4]
    looks = iter([fewer])
    monkeypatch.setattr(
        Study, "trials", property(lambda self: next(looks, None) or study.taken(self.study.trials))
    )
    assert own.ask(1, 5) == []
    assert [trial.state for trial in own.study.trials] == [TrialState.RUNNING] * 5 + [TrialState.FAIL]


def test_trials_of_a_worker_that_died_are_done_again_with_the_same_options(place):
    own = made(place)
    kept, lost = ask(own, 2)
    lost.set_user_attr("worker", lost.user_attrs["worker"] | {"process": 2**22 + 1})  # there is no such process
    (again,) = ask(own, 1)
    assert (again.number, again.params) == (2, lost.params)
    assert [trial.number for trial in own.trials] == [kept.number, again.number]
    assert ask(own, 8, 2) == []


def test_a_process_that_has_the_number_of_a_dead_one_is_another(place):
    own = made(place)
    (lost,) = ask(own, 1)
    lost.set_user_attr("worker", lost.user_attrs["worker"] | {"began": "1"})
    assert ask(own, 1)[0].params == lost.params


def test_trials_on_another_machine_are_left_alone(place):
    own = made(place)
    (there,) = ask(own, 1)
    there.set_user_attr("worker", {"host": "elsewhere", "process": 1, "began": "1"})
    assert ask(own, 1)[0].number == 1
    assert own.trials[0].state == TrialState.RUNNING


def test_the_same_options_are_not_trained_twice(place):
    own = made(place, kind="grid")
    first, early = ask(own, 2)
    own.report([first, early], 1, [0.9, 0.1], last=False)
    own.report([first], 2, [0.95], last=True)
    for before, state in ((first, TrialState.COMPLETE), (early, TrialState.PRUNED)):
        own.study.enqueue_trial(before.params)
        (trial,) = ask(own, 1)
        own.repeat(trial, own.same(trial))
        found = own.trials[trial.number]
        assert (found.state, found.user_attrs["same as"]) == (state, before.number)
        assert found.intermediate_values == own.trials[before.number].intermediate_values


def test_a_study_that_is_made_of_something_else_is_refused(place):
    made(place)
    other = {"search lr": "log:0.01:1", "batch_size": 64, "search dropout": "0:1"}
    with pytest.raises(ValueError, match="the study 's' is another one") as error:
        made(place, other)
    assert "search lr: log:0.001:1 there, log:0.01:1 here" in str(error.value)
    assert "search dropout: nothing there, 0:1 here" in str(error.value)
    assert "batch_size" not in str(error.value)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (
            "missing/journal.log",
            "expects a journal file or the URL of a database; missing/journal.log: there is no",
        ),
        (".", "there is a folder"),
        ("sqlite:////missing/tune.db", "cannot open the database sqlite:////missing/tune.db: "),
        ("oracel://x/y", "cannot open the database oracel://x/y: "),
        ("postgresql://me:secret@host/db", "cannot open the database postgresql://host/db: "),
    ],
)
def test_a_storage_that_cannot_be_opened_is_told_in_one_line(place, message):
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        open_storage(place)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("content", ["a diary\n", "{}\n", '{"op_code": 0}\nhalf a li\n{"op_code": 0}\n', "[1]\n"])
def test_a_damaged_journal_is_told(place, content):
    place.write_text(content)
    with pytest.raises(ValueError, match=r"journal.log is damaged, or no journal of a study"):
        open_storage(str(place))


def test_a_database_serves_as_well(tmp_path):
    storage = f"sqlite:///{tmp_path / 'tune.db'}"
    assert [trial.number for trial in ask(made(storage), 2)] == [0, 1]
    assert [trial.number for trial in ask(made(storage), 2)] == [2, 3]
