"""Trains and keeps the average of the weights: ``python -m jaxdl.average --kind ema`` or ``--kind swa``.

The run is the training that it is without; what is evaluated and saved is the average. At the end a table compares
it with the last weights.
Exit status: as that of ``python -m jaxdl.train``.
"""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jaxdl.command_line import command_line
from jaxdl.config import TrainConfig, replace
from jaxdl.engine.run_folder import new_path
from jaxdl.train import read_options, train

if TYPE_CHECKING:  # they import jax, which --help does not need
    from optax import GradientTransformation

    from jaxdl.build import Technique
    from jaxdl.data.sources import Source
    from jaxdl.methods.fuse.averaging import Rule, When

PROG = "python -m jaxdl.average"
SWA_START = 0.75  # of the training, as in the paper


@dataclasses.dataclass(frozen=True)
class AverageOptions:
    """Which average of the weights is kept."""

    kind: Literal["ema", "swa"] = "ema"
    """ema: each step's weights with exponentially decaying weight. swa: the equal mean of the last epochs'."""
    decay: float = 0.999
    """What is left of the average after a step (ema)."""
    average_from: float | None = None
    """Share of the training after which the average begins. Without it: 0 for ema, 0.75 for swa."""
    average_every: int | None = None
    """Steps from one to the next that the average takes in. Without it: 1 for ema, an epoch for swa."""
    swa_lr: float | None = None
    """Learning rate to which it goes from where the average begins (torch's SWALR). Without it: the schedule's."""
    swa_anneal: int = 1
    """Epochs in which it goes there, by a cosine."""
    use_buffers: bool = False
    """Average running statistics as parameters are; otherwise they are measured for the average at the end."""


@dataclasses.dataclass(frozen=True)
class AverageConfig(TrainConfig):
    """All options of ``python -m jaxdl.average``: those of training, and of the average."""

    average: AverageOptions = dataclasses.field(default_factory=AverageOptions)


@command_line(PROG, stopped="stopped before the first step or after the last")
def main(argv: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    config = read_options(argv, AverageConfig(), PROG)
    out = config.run.out or new_path(Path("runs"), f"{config.average.kind}-{config.model.model}")
    if status := train(replace(config, {"out": out}), technique):
        return status
    from jaxdl.average import report as average_report
    from jaxdl.restored import restore

    found = restore(out, AverageConfig(), technique, config.data.data_dir)
    print("\n".join(average_report.report(found, out)))
    return 0


def technique(config: AverageConfig, source: "Source") -> "Technique":
    """What the average changes of a plain training."""
    from jaxdl import build, parts
    from jaxdl.methods.fuse import averaging
    from jaxdl.optim import schedules

    if config.run.early_stop is not None and config.average.kind == "swa":
        raise ValueError("--early-stop ends a training whose end swa has to know; leave one out")
    loader = build.train_loader(config, source)
    steps = config.run.steps if config.run.steps is not None else config.run.epochs * loader.steps_per_epoch
    rule, when = plan(config.average, loader.steps_per_epoch, steps)
    options, per_epoch, every = config.average, loader.steps_per_epoch, config.optim.accumulate

    def optimizer(plain: "GradientTransformation") -> "GradientTransformation":
        lr = options.swa_lr
        if lr is None:
            return averaging.following(plain, rule, when)
        start, anneal = when.start // every, options.swa_anneal * per_epoch // every

        def change(rate: schedules.Schedule) -> schedules.Schedule:
            return schedules.swa_lr(rate, start, lr, anneal)

        return averaging.following(parts.optimizer(config.optim, per_epoch, steps, change), rule, when)

    return build.Technique(
        model=averaging.Averaged,
        objective=lambda plain: averaging.tracking(plain, rule, when, use_buffers=options.use_buffers),
        tx=optimizer,
        deploy=averaging.average_of,
    )


def plan(options: AverageOptions, steps_per_epoch: int, steps: int) -> "tuple[Rule, When]":
    """The rule of the average, and after which steps it moves.

    Raises:
      ValueError: a number outside its range.
    """
    from jaxdl.methods.fuse import averaging

    swa = options.kind == "swa"
    share = (SWA_START if swa else 0.0) if options.average_from is None else options.average_from
    every = (steps_per_epoch if swa else 1) if options.average_every is None else options.average_every
    if not 0 <= share < 1:
        raise ValueError(f"--average-from must be a share from 0 up to 1; got {share}")
    if every < 1:
        raise ValueError(f"--average-every must be at least 1; got {every}")
    if swa and options.swa_lr is not None and options.swa_anneal < 0:
        raise ValueError(f"--swa-anneal must be 0 or more; got {options.swa_anneal}")
    if swa and options.decay != AverageOptions.decay:
        raise ValueError("--decay has no meaning for swa")
    # The last of a grid that ends with the training, so that its end is in the average.
    start = steps - (steps - max(round(share * steps), 1)) // every * every
    return averaging.swa_rule if swa else averaging.ema_rule(options.decay), averaging.When(start, every)


if __name__ == "__main__":
    sys.exit(main())
