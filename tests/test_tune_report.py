"""What a study says, by hand."""

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from jaxdl.config import replace
from jaxdl.tune import report as study_report
from jaxdl.tune import search
from jaxdl.tune.options import TuneConfig
from jaxdl.tune.study import Study

SPACE = search.space(["lr=log:0.001:1", "betas=0.9,0.99/0.8,0.9", "optimizer=adam"])


def trial(state, lr, *values):
    params = {"lr": lr, "betas": "0.8,0.9", "optimizer": "adam"}
    reports = dict(enumerate(values, 1))
    last = values[-1] if state == TrialState.COMPLETE else None
    return create_trial(
        state=state, params=params, distributions=dict(SPACE), intermediate_values=reports, value=last
    )


def empty():
    storage = optuna.storages.InMemoryStorage()
    return Study(storage, "s", {}, optuna.samplers.RandomSampler(), optuna.pruners.NopPruner())


@pytest.fixture
def study():
    """Three trials: one ended early, one poor, one good."""
    own = empty()
    own.study.add_trials(
        [
            trial(TrialState.PRUNED, 0.9, 0.2),
            trial(TrialState.COMPLETE, 0.5, 0.4, 0.6),
            trial(TrialState.COMPLETE, 0.25, 0.5, 0.75),
        ]
    )
    return own


def test_the_command_has_what_differs_from_the_defaults_and_nothing_of_the_study(study):
    config = replace(TuneConfig(), {"dataset": "mnist", "data_dir": "a b", "quiet": True, "trials": 3, "out": "x"})
    words = study_report.command(config, study.best())
    expected = "--dataset mnist --data-dir|a b|--optimizer adam --lr 0.25 --betas 0.8 0.9 --epochs 9"
    assert words == [word for part in expected.split("|") for word in ([part] if part == "a b" else part.split())]


def test_the_table_begins_with_the_best_and_shows_what_differs(study):
    assert study_report.table(study.ended()) == [
        "trial  accuracy  options",
        "    2    75.00%  lr=0.25 betas=0.8,0.9",
        "    1    60.00%  lr=0.5 betas=0.8,0.9",
        "3 trials: 2 trained to the end, 1 ended early",
    ]


def test_progress_has_a_line_for_each_new_best(study, capsys):
    with study_report.Progress(TuneConfig(), study, 4) as progress:
        progress.update()
        assert not progress.complete
    assert capsys.readouterr().out == "[3/4] trial 2 is the best: 75.00%, lr=0.25 betas=0.8,0.9\n"


def test_where_no_trial_came_to_its_end_the_reason_is_told(capsys, tmp_path):
    own = empty()
    lost = own.study.ask()
    own.refuse(lost, "--hidden must be at least 1; got 0")
    assert study_report.report(TuneConfig(), own, tmp_path) == 1
    assert capsys.readouterr().err == (
        "error: none of 1 trials came to its end: --hidden must be at least 1; got 0\n"
    )


def test_importance_finds_the_option_that_makes_the_difference():
    own = empty()
    space = search.space(["lr=0:1", "l2=0:1", "nesterov=true"])
    for number in range(40):
        lr, l2 = (number % 8) / 8, (number * 5 % 11) / 11
        own.study.add_trial(
            create_trial(
                params={"lr": lr, "l2": l2, "nesterov": True},
                distributions=dict(space),
                intermediate_values={1: lr},
                state=TrialState.PRUNED,
            )
        )
    shares, count = study_report.importances(own)
    assert count == 40
    assert list(shares) == ["lr", "l2"]
    assert shares["lr"] > 0.95


def test_importance_needs_some_trials_that_differ(study):
    assert study_report.importances(study) == ({}, 3)
