"""The options of ``python -m jaxdl.prune``."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import tyro

from jaxdl.config import TrainConfig

Config = TypeVar("Config", bound=TrainConfig)

PROG = "python -m jaxdl.prune"
AMOUNTS = {"weights": 0.9, "units": 0.6, "2:4": 0.5}
HANDED_ON = ("epochs", "steps", "seed", "precision")  # of the options of how long and where


@dataclasses.dataclass(frozen=True)
class PruneOptions:
    """What to take away, and when."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """The folder of a run that has ended."""
    structure: Literal["weights", "units", "2:4"] = "weights"
    """weights: single ones become 0. units: neurons and channels go, and the model is a smaller one (net, cnn).
    2:4: of four neighbouring inputs two become 0."""
    amount: float | None = None
    """Share to take away, from 0 to below 1. Without it: 0.9 of the weights, 0.6 of the units."""
    scope: Literal["global", "layer"] = "global"
    """Weights are compared across all layers, or with those of their layer, as units always are."""
    criterion: Literal["magnitude", "random"] = "magnitude"
    """magnitude: the smallest go. random: any, to see what the choice is worth."""
    layers: str = ""
    """Regular expression for the names of the weights to prune, such as "fc.*". Without it: all."""
    ramp: float = 0.5
    """Share of the training in which the amount rises, fast at first; 0: all go at the start."""
    prune_every: int = 100
    """Steps from one pruning to the next while the amount rises."""
    compare: tuple[Path, ...] = ()
    """Only compare runs that this command has pruned: print and draw the means, and write them to --out."""


@dataclasses.dataclass(frozen=True)
class PruneConfig(TrainConfig):
    """All options of ``python -m jaxdl.prune``; those that are not given are the run's."""

    prune: PruneOptions = dataclasses.field(default_factory=PruneOptions)


def amount_of(options: PruneOptions) -> float:
    """The share to take away.

    Raises:
      ValueError: it is none, or given for a pattern that says it already.
    """
    if options.amount is None:
        return AMOUNTS[options.structure]
    if options.structure == "2:4":
        raise ValueError(f"--amount has no meaning for 2:4, which takes half; got {options.amount:g}")
    if not 0 <= options.amount < 1:
        raise ValueError(f"--amount is a share from 0 to below 1; got {options.amount:g}")
    return options.amount


def based_on(default: Config, before: TrainConfig) -> Config:
    """``default`` with the data, model, optimizer, length, seed and precision of a run."""
    run = dataclasses.replace(default.run, **{name: getattr(before.run, name) for name in HANDED_ON})
    return dataclasses.replace(default, data=before.data, model=before.model, optim=before.optim, run=run)
