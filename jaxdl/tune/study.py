"""A study: trials in a storage that any number of workers may share, on one machine or on many."""

import contextlib
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from jaxdl.tune.samplers import AGAIN, taken

MADE_OF = "made of"  # what all workers of a study have to agree on, an attribute of it
WORKER = "worker"  # who runs a trial, an attribute of it
SAME = "same as"  # the number of an earlier trial with the same options
NAMELESS = 60.0  # seconds in which a worker writes its name beside a trial that it has begun


def open_storage(place: str) -> BaseStorage:
    """A journal file, or the database of a URL.

    Raises:
      FileNotFoundError, ValueError: it cannot be opened, or is damaged.
    """
    optuna.logging.set_verbosity(logging.WARNING)
    if "://" in place:
        return _database(place)
    path = Path(place)
    if path.is_dir() or not path.parent.is_dir():
        what = "a folder" if path.is_dir() else f"no folder {path.parent}"
        raise FileNotFoundError(
            f"--storage expects a journal file or the URL of a database; {place}: there is {what}"
        )
    try:
        if path.exists() and path.read_bytes()[:1] not in (b"", b"{"):
            raise ValueError("it does not begin as one")
        return JournalStorage(JournalFileBackend(place))
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise ValueError(f"{place} is damaged, or no journal of a study: {_first_line(error)}") from error


def _database(url: str) -> BaseStorage:
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    try:
        return RDBStorage(url)
    except (ArgumentError, SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
        raise ValueError(f"cannot open the database {_without_password(url)}: {_first_line(error)}") from error


class Study:
    """The trials of a study, and the right to run some of them.

    Args:
      storage: where they are.
      name: of the study; created where there is none.
      made_of: what all its workers have to agree on, JSON values by name.
      sampler, pruner: how trials are drawn and ended, see `jaxdl.tune.samplers`.

    Raises:
      ValueError: there is a study of this name that is made of something else, with all that differs.
    """

    def __init__(
        self,
        storage: BaseStorage,
        name: str,
        made_of: Mapping[str, Any],
        sampler: optuna.samplers.BaseSampler,
        pruner: optuna.pruners.BasePruner,
    ) -> None:
        self.study = optuna.create_study(
            storage=storage,
            study_name=name,
            sampler=sampler,
            pruner=pruner,
            direction="maximize",
            load_if_exists=True,
        )
        before = self.study.user_attrs.get(MADE_OF)
        if before is None:
            self.study.set_user_attr(MADE_OF, dict(made_of))
        else:
            _agree(name, before, made_of)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials that count, also those that run or wait."""
        return taken(self.study.get_trials(deepcopy=False))

    def ended(self) -> list[FrozenTrial]:
        """Those that have a result."""
        return [trial for trial in self.trials if trial.state.is_finished()]

    def best(self) -> FrozenTrial | None:
        """The trial that came to its end with the highest value."""
        done = [trial for trial in self.trials if trial.state == TrialState.COMPLETE and trial.value is not None]
        return max(done, key=lambda trial: trial.value or 0.0, default=None)

    def ask(self, most: int, total: int) -> list[Trial]:
        """The next trials to run, ``most`` at most; none where the study has ``total`` that ran, run or wait.

        Trials that a worker on this machine has left behind are done again first.
        """
        self.rescue()
        found: list[Trial] = []
        while len(found) < most:
            trials = self.trials
            if len(trials) >= total and not any(trial.state == TrialState.WAITING for trial in trials):
                break
            trial = self.study.ask()
            if sum(other.number < trial.number for other in self.trials) >= total:
                # Others have asked for the last ones at the same moment.
                self.study.tell(trial, state=TrialState.FAIL)
                break
            trial.set_user_attr(WORKER, _me())
            found.append(trial)
        return found

    def rescue(self) -> None:
        """Puts the trials of workers that have died on this machine back among those that wait."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if not _left_behind(trial):
                continue
            with contextlib.suppress(ValueError, RuntimeError):  # another worker has done so
                self.study.tell(trial.number, state=TrialState.FAIL)
                self.study.enqueue_trial(
                    trial.params, user_attrs={AGAIN: trial.user_attrs.get(AGAIN, trial.number)}
                )

    def same(self, trial: Trial) -> FrozenTrial | None:
        """An earlier trial with the same options that has ended."""
        alike = (other for other in self.ended() if other.params == trial.params and other.number < trial.number)
        return next(alike, None)

    def repeat(self, trial: Trial, before: FrozenTrial) -> None:
        """Ends a trial with what an earlier one with the same options has found."""
        trial.set_user_attr(SAME, before.number)
        for epoch, value in before.intermediate_values.items():
            trial.report(value, epoch)
        if before.state == TrialState.COMPLETE:
            self.study.tell(trial, before.value)
        else:
            self.study.tell(trial, state=TrialState.PRUNED)

    def report(self, trials: Sequence[Trial], epoch: int, values: Sequence[float], *, last: bool) -> set[int]:
        """What some trials have reached after an epoch; the places of those that end with it.

        Args:
          trials: they are judged together.
          epoch: how many they have been trained for.
          values: one each; NaN where the training has failed.
          last: it is the last epoch.
        """
        known = [0.0 if value != value else value for value in values]
        for trial, value in zip(trials, known, strict=True):
            trial.report(value, epoch)
        ended = set()
        for place, (trial, value) in enumerate(zip(trials, values, strict=True)):
            if value != value or (not last and trial.should_prune()):
                self.study.tell(trial, state=TrialState.PRUNED)
                ended.add(place)
            elif last:
                self.study.tell(trial, value)
        return ended

    def refuse(self, trial: Trial, reason: str) -> None:
        """Ends a trial whose options do not fit each other."""
        trial.set_user_attr("refused", reason)
        self.study.tell(trial, state=TrialState.PRUNED)


def _agree(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    differs = [
        f"{part}: {before.get(part, 'nothing')} there, {now.get(part, 'nothing')} here"
        for part in sorted({*before, *now})
        if before.get(part) != now.get(part)
    ]
    if differs:
        raise ValueError(
            f"the study {name!r} is another one ({'; '.join(differs)}); choose another --study or --out"
        )


def _me() -> dict[str, Any]:
    return {"host": socket.gethostname(), "process": os.getpid(), "began": _began(os.getpid())}


def _began(process: int) -> str | None:
    """When a process of this machine began, in its own units; None where there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _left_behind(trial: FrozenTrial) -> bool:
    worker = trial.user_attrs.get(WORKER)
    if worker is None:
        started = trial.datetime_start
        return started is not None and time.time() - started.timestamp() > NAMELESS
    return worker["host"] == socket.gethostname() and _began(worker["process"]) != worker["began"]


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
