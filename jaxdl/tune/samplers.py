"""How a study draws its trials and ends the poor ones; any number of workers may do so at once.

A draw depends on the seed, on the number of the trial, which the storage gives out once, and on the trials before
it: never on who asks, so workers do not repeat each other.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

AGAIN = "again"  # of a trial that does what a lost one should have: the number of that one


class ByNumber(BaseSampler):
    """One sampler of a kind for each trial.

    Args:
      make: the sampler by the seed of a trial.
      seed: of the study.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        def of(number: int) -> BaseSampler:
            return make(int(np.random.SeedSequence([seed, number]).generate_state(1)[0]))

        self._of = functools.lru_cache(1024)(of)  # draws of one trial go on in one stream

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(trial.number).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial.number).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._of(trial.number).sample_independent(study, trial, param_name, param_distribution)


class Grid(BaseSampler):
    """Trial after trial takes the next point; Optuna's own grid lets two workers take the same.

    Args:
      points: option -> value, one for each point.
    """

    def __init__(self, points: Sequence[Mapping[str, Any]]) -> None:
        self.points = points

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        return {}

    def sample_relative(
        self,
        study: Study,  # noqa: ARG002
        trial: FrozenTrial,  # noqa: ARG002
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,  # noqa: ARG002
    ) -> Any:
        return self.points[self._place(study, trial) % len(self.points)][param_name]

    def _place(self, study: Study, trial: FrozenTrial) -> int:
        trials = study.get_trials(deepcopy=False)
        while AGAIN in trial.user_attrs:
            trial = trials[trial.user_attrs[AGAIN]]
        return trial.number - sum(AGAIN in other.user_attrs for other in trials[: trial.number])


class SuccessiveHalving(BasePruner):
    """Ends a trial that is not among the best ``1 / factor`` of all that came as far, after 1, factor, ... epochs.

    It compares what trials report, so a batch that reports an epoch before any of it is judged is judged together;
    Optuna's own judges one after another, and lets the first pass.

    Args:
      first: epochs before anything is ended.
      factor: how much rarer, and longer, the trials of the next round are.

    Source: Li et al. 2018, "A System for Massively Parallel Hyperparameter Tuning", asynchronous halving.
    """

    def __init__(self, first: int, factor: int) -> None:
        if first < 1:
            raise ValueError(f"--min-epochs must be at least 1; got {first}")
        if factor < 2:
            raise ValueError(f"--reduction must be at least 2; got {factor}")
        self.first, self.factor = first, factor

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        epoch = trial.last_step
        if epoch is None or not self.judges(epoch):
            return False
        others = (other.intermediate_values.get(epoch) for other in study.get_trials(deepcopy=False))
        ranked = sorted((value for value in others if value is not None), reverse=True)
        return trial.intermediate_values[epoch] < ranked[math.ceil(len(ranked) / self.factor) - 1]

    def judges(self, epoch: int) -> bool:
        """Whether trials end after so many epochs."""
        rounds = epoch / self.first
        while rounds > 1:
            rounds /= self.factor
        return rounds == 1


def sampler(kind: str, seed: int, points: Sequence[Mapping[str, Any]]) -> BaseSampler:
    """A sampler by its name: tpe, random or grid.

    Source: Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization" (TPE).
    """
    kinds: dict[str, Callable[[], BaseSampler]] = {
        "tpe": lambda: ByNumber(lambda own: TPESampler(seed=own), seed),
        "random": lambda: ByNumber(lambda own: RandomSampler(seed=own), seed),
        "grid": lambda: Grid(points),
    }
    return kinds[kind]()


def taken(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count: all but those that were lost or were one too many."""
    return [trial for trial in trials if trial.state != TrialState.FAIL]
