"""How trials are drawn and ended, by hand."""

import optuna
import pytest

from jaxdl.tune.samplers import AGAIN, Grid, SuccessiveHalving, sampler

SPACE = {"x": optuna.distributions.FloatDistribution(0, 1), "y": optuna.distributions.IntDistribution(0, 10**6)}
POINTS = [{"x": x, "y": y} for x in (0.0, 0.5, 1.0) for y in (0, 1)]


def draw(study):
    trial = study.ask(SPACE)
    return trial, trial.params


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_draws_depend_on_the_number_of_the_trial_and_not_on_who_asks(kind):
    def study(storage):
        return optuna.create_study(
            storage=storage,
            study_name="s",
            sampler=sampler(kind, 0, []),
            load_if_exists=True,
            direction="maximize",
        )

    def run(workers):
        drawn = []
        for number in range(15):
            trial, params = draw(workers[number % len(workers)])
            drawn.append(params)
            workers[number % len(workers)].tell(trial, params["x"])
        return drawn

    one = run([study(optuna.storages.InMemoryStorage())])
    shared = optuna.storages.InMemoryStorage()
    assert run([study(shared), study(shared)]) == one
    assert len({tuple(params.items()) for params in one}) == 15


def test_options_of_a_trial_are_drawn_apart():
    study = optuna.create_study(sampler=sampler("random", 0, []))
    params = study.ask(dict.fromkeys("abc", SPACE["x"])).params
    assert len(set(params.values())) == 3


def test_a_grid_goes_on_where_it_is_and_does_lost_points_again():
    study = optuna.create_study(sampler=Grid(POINTS))
    first, lost = draw(study), draw(study)
    assert [first[1], lost[1]] == POINTS[:2]
    study.tell(lost[0], state=optuna.trial.TrialState.FAIL)
    study.enqueue_trial({}, user_attrs={AGAIN: lost[0].number})
    assert [draw(study)[1] for _ in range(5)] == [POINTS[1], *POINTS[2:]]


def halving(values, first=1, factor=3, epoch=1):
    """Which trials with these values after an epoch go on."""
    study = optuna.create_study(direction="maximize", pruner=SuccessiveHalving(first, factor))
    trials = [study.ask() for _ in values]
    for trial, value in zip(trials, values, strict=True):
        trial.report(value, epoch)
    return [not trial.should_prune() for trial in trials]


def test_the_best_third_goes_on():
    assert halving([0.1, 0.6, 0.3, 0.9, 0.2, 0.5]) == [False, True, False, True, False, False]
    assert halving([0.1, 0.2, 0.3, 0.4]) == [False, False, True, True]  # a third of four is two at most
    assert halving([0.5]) == [True]
    assert halving([0.5, 0.5, 0.5]) == [True] * 3  # equals are not told apart


def test_rounds_are_at_powers_of_the_factor():
    pruner = SuccessiveHalving(2, 3)
    assert [epoch for epoch in range(1, 60) if pruner.judges(epoch)] == [2, 6, 18, 54]
    assert halving([0.1, 0.2, 0.3], first=2, epoch=3) == [True] * 3


@pytest.mark.parametrize(
    ("first", "factor", "message"),
    [(0, 3, "--min-epochs must be at least 1; got 0"), (1, 1, "--reduction must be at least 2; got 1")],
)
def test_rounds_that_cannot_be(first, factor, message):
    with pytest.raises(ValueError, match=message):
        SuccessiveHalving(first, factor)
