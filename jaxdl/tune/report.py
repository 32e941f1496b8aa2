"""What a study says: while it runs, and at its end with ``tune.json``, two figures and the command of the best."""

import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from jaxdl import files, train
from jaxdl.config import TrainConfig, replace, to_dict
from jaxdl.data.sources import Source
from jaxdl.engine import trials as figures
from jaxdl.sweep import settings
from jaxdl.tune import search
from jaxdl.tune.options import ASIDE, TuneConfig
from jaxdl.tune.search import Space
from jaxdl.tune.study import Study

SHOWN = 5  # of the best trials
FEWEST = 4  # trials, to say which options have mattered


def say(config: TuneConfig, line: str) -> None:
    """Prints a line, unless only the result is wanted."""
    if not config.run.quiet:
        print(line, flush=True)


def heading(config: TuneConfig, space: Space, study: Study, source: Source, out: Path) -> list[str]:
    """What is searched, where, and where the study stands."""
    domains = " ".join(f"{name}={search.shown(domain)}" for name, domain in space.items())
    held_out = f"{config.run.validation:.3g} of the training images held out"
    known = len(study.ended())
    return [
        f"{source.name}: {len(source.train['label'])} training images ({source.origin}), {held_out}",
        f"{config.model.model}: {domains}",
        f"{known} of {config.tune.trials} trials are known -> {out}"
        if known
        else f"{config.tune.trials} trials -> {out}",
    ]


class Progress:
    """Shows how far a study is: a bar in a terminal, otherwise a line for every new best.

    Args:
      config: the options.
      study: the study, read when `update` is called.
      total: its trials.
    """

    def __init__(self, config: TuneConfig, study: Study, total: int) -> None:
        self.config, self.study, self.total = config, study, total
        self.best, self.bar = -1, None
        if not config.run.quiet and sys.stdout.isatty() and os.environ.get("TERM") != "dumb":
            self.bar = _bar(total)

    def __enter__(self) -> "Progress":
        self.update()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    @property
    def complete(self) -> bool:
        """Whether all trials have ended."""
        return len(self.study.ended()) >= self.total

    def update(self) -> None:
        """Reads the study."""
        ended, best = self.study.ended(), self.study.best()
        early = sum(trial.state == TrialState.PRUNED for trial in ended)
        if self.bar is not None:
            self.bar.set_postfix_str(
                f"{early} ended early" + (f", best {best.value:.2%}" if best else ""), refresh=False
            )
            self.bar.update(len(ended) - self.bar.n)
        elif best is not None and best.number != self.best:
            self.best = best.number
            say(
                self.config,
                f"[{len(ended)}/{self.total}] trial {best.number} is the best: {best.value:.2%}, {_options(best)}",
            )


def _bar(total: int) -> Any:
    from tqdm import tqdm

    class Bar(tqdm):
        monitor_interval = 0  # its thread could keep an interrupted process from ending

    return Bar(
        total=total,
        unit=" trials",
        file=sys.stdout,
        dynamic_ncols=True,
        bar_format="{desc}|{bar}| {n}/{total} [{elapsed}<{remaining}{postfix}]",
    )


def report(config: TuneConfig, study: Study, out: Path) -> int:
    """Prints and writes what was found, trains the best, and returns the exit status."""
    ended, best = study.ended(), study.best()
    if best is None:
        reasons = [trial.user_attrs["refused"] for trial in ended if "refused" in trial.user_attrs]
        why = reasons[0] if reasons else "their losses were no numbers, or all were ended early"
        print(f"error: none of {len(ended)} trials came to its end: {why}", file=sys.stderr)
        return 1
    say(config, "\n".join(table(ended)))
    _draw(study, out)
    words = command(config, best)
    text = shlex.join(["python", "-m", "jaxdl.train", *words])
    result = _result(study, best, text)
    files.write_json(out / "tune.json", result)
    print(
        f"Best of {len(ended)} trials: {best.value:.2%} of the held-out images (trial {best.number})\n{text}",
        flush=True,
    )
    if not config.tune.final:
        return 0
    run = out / f"best-{best.number}"
    status = train.main([*words, "--quiet", "--no-tensorboard", "--out", str(run), "--resume"])
    if status == 0:
        files.write_json(out / "tune.json", result | {"test": json.loads((run / "summary.json").read_text())})
    return status


def table(ended: Sequence[FrozenTrial]) -> list[str]:
    """The best trials, and how many there were of each kind."""
    done = [trial for trial in ended if trial.state == TrialState.COMPLETE]
    ranked = sorted(done, key=lambda trial: -(trial.value or 0.0))[:SHOWN]
    rows = [f"{trial.number:>5}  {trial.value:8.2%}  {_options(trial)}" for trial in ranked]
    refused = sum("refused" in trial.user_attrs for trial in ended)
    counts = f"{len(ended)} trials: {len(done)} trained to the end, {len(ended) - len(done) - refused} ended early"
    found = [f"{counts}, {refused} with options that do not fit each other" if refused else counts]
    return ["trial  accuracy  options", *rows, *found]


def command(config: TuneConfig, trial: FrozenTrial) -> list[str]:
    """The words of ``python -m jaxdl.train`` that train as a trial did, on all training images."""
    found = {name: search.value(name, value) for name, value in trial.params.items()}
    base = TrainConfig(config.data, config.model, config.optim, config.run, config.scale)
    options, default = to_dict(replace(base, found)), to_dict(TrainConfig())
    left_out = ASIDE - {"data_dir"} | {"validation"}
    return settings.arguments(
        {name: value for name, value in options.items() if value != default[name] and name not in left_out}
    )


def importances(study: Study) -> tuple[dict[str, float], int]:
    """The share of each option in the differences after the first epoch, which all trials have; and their number.

    Source: Hutter et al. 2014, "An Efficient Approach for Assessing Hyperparameter Importance" (fANOVA).
    """
    known = [trial for trial in study.ended() if trial.params and 1 in trial.intermediate_values]
    early = optuna.create_study(direction="maximize")
    early.add_trials(
        [
            create_trial(
                params=trial.params, distributions=trial.distributions, value=trial.intermediate_values[1]
            )
            for trial in known
        ]
    )
    if len(known) < FEWEST or len({trial.intermediate_values[1] for trial in known}) == 1:
        return {}, len(known)
    shares = get_param_importances(early, evaluator=FanovaImportanceEvaluator(seed=0))
    differ = {name for trial in known for name, domain in trial.distributions.items() if not domain.single()}
    return {name: share for name, share in shares.items() if name in differ}, len(known)


def _draw(study: Study, out: Path) -> None:
    points = [
        figures.Point(
            trial.number, list(trial.intermediate_values.values())[-1], trial.state == TrialState.COMPLETE
        )
        for trial in study.ended()
        if trial.intermediate_values
    ]
    figures.history(points, out / "history.png")
    shares, count = importances(study)
    if shares:
        title = f"What made {count} trials differ after their first epoch"
        figures.importance(shares, title, out / "importance.png")


def _options(trial: FrozenTrial) -> str:
    """What a trial has that not all have."""
    differ = {name: value for name, value in trial.params.items() if not trial.distributions[name].single()}
    return settings.label({name: search.value(name, value) for name, value in differ.items()})


def _result(study: Study, best: FrozenTrial, text: str) -> dict[str, Any]:
    trials = [
        {
            "number": trial.number,
            "options": trial.params,
            "accuracies": list(trial.intermediate_values.values()),
            "state": trial.state.name.lower(),
        }
        for trial in study.ended()
    ]
    return {"best": best.number, "accuracy": best.value, "options": best.params, "command": text, "trials": trials}
