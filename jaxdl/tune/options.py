"""Options of ``python -m jaxdl.tune``; nothing here imports jax or Optuna."""

import dataclasses
from typing import Literal

from jaxdl.config import RunOptions, TrainConfig, to_dict
from jaxdl.sweep import settings

# What may change when a study is resumed, and in what its workers may differ.
FREE = ("trials", "workers", "at_once", "storage", "study", "final")
# What says nothing of how a trial is trained.
ASIDE = {
    "out",
    "resume",
    "recipe",
    "quiet",
    "tensorboard",
    "keep",
    "save_every",
    "log_every",
    "data_dir",
    "chunk_steps",
}
ALIKE = ("epochs", "steps", "seed")  # of all trials, or they could not be compared


@dataclasses.dataclass(frozen=True)
class TuneOptions:
    """What to search, and how."""

    search: tuple[str, ...] = ()
    """Options and where to search them: lr=log:1e-3:1, dropout=0:0.5, hidden=int:32:512:32, optimizer=adam,sgd.
    Without it: a space for the model; an option that is given a value is left out of that."""
    trials: int = 100
    """Trials of the study."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """How options are drawn. grid: all combinations, in which a range has --points values."""
    points: int = 4
    """Values of a range in a grid."""
    pruner: Literal["halving", "none"] = "halving"
    """halving: after 1, 3, 9, ... epochs only the best third goes on (successive halving)."""
    reduction: int = 3
    """Of how many trials one goes on, and how many times longer it is trained (halving)."""
    min_epochs: int = 1
    """Epochs before the first trials are ended (halving)."""
    at_once: int | None = None
    """Trials that a worker has in hand; those that differ in numbers alone are trained as one program. Without it:
    8 on a CPU, 32 elsewhere."""
    workers: int | None = None
    """Processes on this machine. Without it: one a core on a CPU, otherwise one."""
    storage: str | None = None
    """Journal file or URL of a database (sqlite:///tune.db) that several machines share. Without it: a journal
    file in the study's folder."""
    study: str = "jaxdl"
    """Name of the study in the storage."""
    final: bool = True
    """Train with the best options on all training images and measure on the test images."""


@dataclasses.dataclass(frozen=True)
class TuneConfig(TrainConfig):
    """All options of ``python -m jaxdl.tune``."""

    run: RunOptions = dataclasses.field(default_factory=lambda: RunOptions(epochs=9, validation=1 / 6))
    tune: TuneOptions = dataclasses.field(default_factory=TuneOptions)


def given(config: TuneConfig) -> list[str]:
    """The options that have another value than by default."""
    default, now = to_dict(TuneConfig()), to_dict(config)
    return [name for name, value in now.items() if value != default[name]]


def check(config: TuneConfig) -> None:
    """
    Raises:
      ValueError: an option outside its range, or one that a study has no use for.
    """
    options, run = config.tune, config.run
    for flag, value in (("trials", options.trials), ("workers", options.workers), ("at-once", options.at_once)):
        if value is not None and value < 1:
            raise ValueError(f"--{flag} must be at least 1; got {value}")
    if options.sampler == "grid" and options.points < 2:
        raise ValueError(f"--points must be at least 2; got {options.points}")
    unfit = {"--early-stop": run.early_stop is not None, "--steps": run.steps is not None}
    for flag in [*(flag for flag, used in unfit.items() if used), *settings.flags(config.scale)]:
        raise ValueError(f"{flag} has no meaning for a study, whose trials are trained together, in epochs")
