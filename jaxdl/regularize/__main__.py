"""Shows what overfitting is and what cures it, as one picture and a table: ``python -m jaxdl.regularize``.

A network that is too large for its few images is trained without and with each cure. Exit status: as that of
``python -m jaxdl.train``.
"""

import dataclasses
import sys
from typing import TYPE_CHECKING

from jaxdl.command_line import command_line
from jaxdl.config import ModelOptions, OptimizerOptions, RunOptions, TrainConfig, parse
from jaxdl.train import read_options

if TYPE_CHECKING:  # they import jax, which --help does not need
    from jaxdl.build import Technique
    from jaxdl.data.sources import Source

PROG = "python -m jaxdl.regularize"
CURES = (
    "dropout=0.7",
    "l1=0.00003",
    "l2=0.003",
    "optimizer=adamw weight_decay=2",
    "early_stop=5",
    "hidden=32",
    "label_smoothing=0.2",
    "augment=crop:2,rotate:10",
)


@dataclasses.dataclass(frozen=True)
class RegularizeOptions:
    """What to compare."""

    examples: int = 1000
    """Training images to use, balanced over the classes: few, so that they can be learnt by heart."""
    cures: tuple[str, ...] = CURES
    """The options of each training beside the plain one, as OPTION=VALUE, several joined by spaces."""
    seeds: int = 1
    """How many, from --seed on; the picture shows the first."""


@dataclasses.dataclass(frozen=True)
class RegularizeConfig(TrainConfig):
    """All options of ``python -m jaxdl.regularize``."""

    model: ModelOptions = dataclasses.field(default_factory=lambda: ModelOptions(hidden=512))
    optim: OptimizerOptions = dataclasses.field(default_factory=lambda: OptimizerOptions(optimizer="adam"))
    run: RunOptions = dataclasses.field(default_factory=lambda: RunOptions(epochs=60))
    regularize: RegularizeOptions = dataclasses.field(default_factory=RegularizeOptions)


@command_line(PROG)
def main(argv: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    config = read_options(argv, RegularizeConfig(), PROG)
    arms = {"none": config} | {cure: cured(config, cure) for cure in config.regularize.cures}
    from jaxdl.comparison import folder
    from jaxdl.regularize import report as regularize_report

    with folder(config.run.out, "regularize") as out:
        return regularize_report.compare(config, arms, technique, out)


def cured(config: RegularizeConfig, cure: str) -> RegularizeConfig:
    """The options with those of a cure.

    Raises:
      ValueError: it is not written OPTION=VALUE. Exits with 2 where an option or a value is wrong.
    """
    words = []
    for part in cure.split():
        name, equals, value = part.partition("=")
        if not (name and equals and value):
            raise ValueError(f"--cures expects OPTION=VALUE, several joined by spaces; got {cure!r}")
        words += [f"--{name.replace('_', '-')}", value]
    return parse(config, words, PROG)


def technique(config: RegularizeConfig, source: "Source") -> "Technique":
    """A plain training on few of the images."""
    from jaxdl.build import Technique
    from jaxdl.data import subset

    few = subset.labelled(source, config.regularize.examples, config.run.seed)
    return Technique(data=lambda _: few)


if __name__ == "__main__":
    sys.exit(main())
