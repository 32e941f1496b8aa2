"""Runs the trials of a study: in this process, or in one for each core, which share nothing but the storage."""

import contextlib
import dataclasses
import itertools
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import jax
from optuna.trial import Trial

from jaxdl import parts
from jaxdl.config import TrainConfig, replace, to_dict
from jaxdl.data import sources, subset
from jaxdl.data.sources import Source
from jaxdl.engine.host import set_up
from jaxdl.engine.run_folder import read_config
from jaxdl.sweep import members
from jaxdl.sweep.groups import Group, groups, program
from jaxdl.sweep.members import Members, Record, diverged
from jaxdl.tune import report as study_report
from jaxdl.tune import search
from jaxdl.tune.options import ASIDE, FREE, TuneConfig
from jaxdl.tune.samplers import SuccessiveHalving, sampler
from jaxdl.tune.search import Space
from jaxdl.tune.study import Study, open_storage

KEPT = 16  # programs of a worker; its memory is not without end
POLL = 0.5  # seconds between two looks at what the workers have done
AT_ONCE = {"cpu": 8}
AT_ONCE_ELSEWHERE = 32


class WorkerError(RuntimeError):
    """A worker has failed; the message says why."""


def plain(config: TuneConfig) -> TrainConfig:
    """The options that all trials have, but for what is searched."""
    return TrainConfig(config.data, config.model, config.optim, config.run, config.scale)


def suggested(trial: Trial, space: Space, base: TrainConfig) -> dict[str, Any]:
    """The options of a trial: first model and optimizer, then what these take."""
    setting = {name: search.suggest(trial, name, space[name]) for name in search.FIRST if name in space}
    names = [name for name in space if name not in (*search.FIRST, *idle(replace(base, setting)))]
    return setting | {name: search.suggest(trial, name, space[name]) for name in names}


def idle(config: TrainConfig) -> set[str]:
    """Options that the model and the optimizer have no use for."""
    some = {option for options in parts.TAKES.values() for option in options}
    return some - {*parts.TAKES[config.model.model], *parts.TAKES[config.optim.optimizer]}


def check(config: TuneConfig, space: Space, source: Source) -> None:
    """Tries the ends of each range, every choice and the storage, before anything is written or trained.

    Raises:
      FileNotFoundError, ValueError: what cannot be used, or does not fit the rest.
    """
    subset.hold_out(source, config.run.validation, config.run.seed)
    _pruner(config)
    if config.tune.storage:
        open_storage(config.tune.storage)
    base, first = plain(config), [name for name in search.FIRST if name in space]
    for choice in itertools.product(*(search.corners(space[name]) for name in first)):
        chosen = dict(zip(first, choice, strict=True))
        names = [name for name in space if name not in (*first, *idle(replace(base, chosen)))]
        usual = {name: search.value(name, search.middle(space[name])) for name in names}
        members.check(replace(base, chosen | usual), source)
        for name in names:
            for corner in search.corners(space[name]):
                members.check(replace(base, chosen | usual | {name: search.value(name, corner)}), source)


def total(config: TuneConfig, space: Space) -> int:
    """Trials of the study: a grid has no more than its points."""
    if config.tune.sampler != "grid":
        return config.tune.trials
    return min(config.tune.trials, len(search.grid(space, config.tune.points)))


def open_study(config: TuneConfig, space: Space, source: Source, out: Path) -> Study:
    """The study in its storage; it is created there if it is new.

    Raises:
      FileNotFoundError, ValueError: the storage cannot be used, or has another study of this name.
    """
    options = config.tune
    own = to_dict(config)
    made_of = {name: own[name] for name in own if name not in {*ASIDE, *FREE, *space, "search"}}
    made_of |= {f"search {name}": search.shown(domain) for name, domain in space.items()}
    made_of |= {"data": source.fingerprint()}
    points = search.grid(space, options.points) if options.sampler == "grid" else []
    draws = sampler(options.sampler, config.run.seed, points)
    storage = open_storage(options.storage or str(out / "journal.log"))
    return Study(storage, options.study, made_of, draws, _pruner(config))


def _pruner(config: TuneConfig) -> SuccessiveHalving:
    never = config.run.epochs + 1  # no trial comes so far
    first = config.tune.min_epochs if config.tune.pruner == "halving" else never
    return SuccessiveHalving(first, config.tune.reduction)


def run(config: TuneConfig, space: Space, study: Study, source: Source, out: Path) -> None:
    """Runs trials until the study has all of them.

    Raises:
      WorkerError: a worker process has failed, and the others have not done its part.
    """
    count = config.tune.workers
    if count == 1:
        members.use_cores()
    if count is None:
        count = len(os.sched_getaffinity(0)) if jax.default_backend() == "cpu" else 1
    with study_report.Progress(config, study, total(config, space)) as progress:
        if count == 1:
            work(config, space, study, source, progress.update)
        else:
            _run_processes(count, out, progress)


def work(
    config: TuneConfig, space: Space, study: Study, source: Source, update: Callable[[], None] = lambda: None
) -> None:
    """Runs trials in this process until none is left to begin.

    Args:
      config, space, study: of the study.
      source: the data; a part of its training images takes the place of the test images.
      update: called when there is news.
    """
    set_up()
    kept, held_out = subset.hold_out(source, config.run.validation, config.run.seed)
    source = dataclasses.replace(kept, test=held_out)
    at_once = config.tune.at_once or AT_ONCE.get(jax.default_backend(), AT_ONCE_ELSEWHERE)
    worker = Worker(config, space, study, source, at_once, update)
    while trials := study.ask(at_once, total(config, space)):
        worker.run(trials)


class Worker:
    """Trains trials, those with the same program together.

    Args:
      config, space, study, source: as in `work`.
      at_once: trials that are in hand.
      update: as in `work`.
    """

    def __init__(
        self,
        config: TuneConfig,
        space: Space,
        study: Study,
        source: Source,
        at_once: int,
        update: Callable[[], None],
    ) -> None:
        self.config, self.space, self.study, self.source = config, space, study, source
        self.at_once, self.update = at_once, update
        self.programs: dict[str, Members] = {}

    def run(self, trials: Sequence[Trial]) -> None:
        """Trains trials to their ends."""
        base, todo = plain(self.config), []
        for trial in trials:
            config = replace(base, suggested(trial, self.space, base))
            if before := self.study.same(trial):
                self.study.repeat(trial, before)
            elif self._fits(trial, config):
                todo.append((trial, config))
        self.update()
        for group in groups([config for _, config in todo], self.space):
            self._train(group, [todo[place][0] for place in group.places])

    def _fits(self, trial: Trial, config: TrainConfig) -> bool:
        try:
            members.check(config, self.source)
        except ValueError as error:
            self.study.refuse(trial, str(error))
            return False
        return True

    def _train(self, group: Group, trials: Sequence[Trial]) -> None:
        epochs = self.config.run.epochs

        def report(records: Mapping[int, Record]) -> set[int]:
            places, epoch = list(records), round(next(iter(records.values()))["epoch"])
            values = [math.nan if diverged(record) else record["accuracy"] for record in records.values()]
            ended = self.study.report([trials[place] for place in places], epoch, values, last=epoch == epochs)
            self.update()
            return {places[number] for number in ended}

        self._program(group).train(group, report)

    def _program(self, group: Group) -> Members:
        key = program(group.config, self.space)
        if key not in self.programs:
            like = next(iter(self.programs.values()), None)
            if len(self.programs) == KEPT:
                del self.programs[next(iter(self.programs))]
            self.programs[key] = Members(group, self.source, capacity=self.at_once, like=like)
        return self.programs[key]


def _run_processes(count: int, out: Path, progress: study_report.Progress) -> None:
    cores = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        said = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(count)]
        processes = [_start(out, cores[place::count] or cores, errors) for place, errors in enumerate(said)]
        try:
            while any(process.poll() is None for process in processes):
                time.sleep(POLL)
                progress.update()
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()
        failed = [
            (process.returncode, _last_line(errors)) for process, errors in zip(processes, said, strict=True)
        ]
    progress.update()
    for status, line in (found for found in failed if found[0]):
        problem = f"a worker ended with status {status}{f': {line}' if line else ''}"
        if not progress.complete:
            raise WorkerError(problem)
        print(f"{problem}; the others have done its part", file=sys.stderr)


def _last_line(errors: IO[str]) -> str:
    errors.seek(0)
    return next((line.strip() for line in reversed(errors.readlines()) if line.strip()), "")


def _start(out: Path, cores: Sequence[int], errors: IO[str]) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "jaxdl.tune.workers", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, text=True)
    os.sched_setaffinity(process.pid, cores)  # JAX makes a thread for each core that it finds
    return process


def main(argv: Sequence[str]) -> None:
    """A worker of the study in a folder, which `run` has started."""
    out = Path(argv[0])
    members.use_cores()
    recorded = read_config(out)
    config = replace(TuneConfig(), recorded["options"] | recorded["technique"])
    source = sources.chosen(config.data.dataset, config.data.data_dir)[0]
    space = search.of(config)
    work(config, space, open_study(config, space, source, out), source)


if __name__ == "__main__":
    main(sys.argv[1:])
