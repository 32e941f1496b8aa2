"""Trains a run's model, or a torch checkpoint, on other data: ``python -m jaxdl.finetune RUN --dataset digits``.

With ``--compare-scratch`` it measures what that is worth: the same training from new weights beside it, for each
number of labels. Exit status: as that of ``python -m jaxdl.train``.
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxdl.command_line import command_line
from jaxdl.config import ModelOptions, parse, replace
from jaxdl.engine.run_folder import read_config
from jaxdl.finetune.options import FinetuneConfig
from jaxdl.train import command, read_options

if TYPE_CHECKING:  # they import jax, which --help does not need
    from jaxdl.build import Technique
    from jaxdl.data.sources import Source

PROG = "python -m jaxdl.finetune"
ARMS = {
    "from scratch": {"scratch": True, "compare_scratch": False},
    "pre-trained": {"scratch": False, "compare_scratch": False},
}


@command_line(PROG)
def main(argv: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    given = parse(FinetuneConfig(), argv, PROG)
    default = options_of(given)
    return (compare if given.finetune.compare_scratch else train)(argv, default)


def train(argv: Sequence[str], default: FinetuneConfig) -> int:
    """One training."""
    return command(argv, default, PROG, technique)


def compare(argv: Sequence[str], default: FinetuneConfig) -> int:
    """Many, and what they say of the source."""
    from jaxdl.comparison import folder
    from jaxdl.finetune import report as finetune_report

    config = read_options(argv, default, PROG)
    with folder(config.run.out, "transfer") as out:
        return finetune_report.compare(config, ARMS, technique, out)


def options_of(given: FinetuneConfig) -> FinetuneConfig:
    """The options that the command line's are put over: the model's are the run's.

    Raises:
      FileNotFoundError, ValueError: no source, or no run in the folder.
    """
    source, out = given.finetune.pretrained, given.run.out
    if given.run.resume and out and (out / "config.json").exists():
        return FinetuneConfig()
    if source is None:
        raise ValueError("expected the folder of a run or a .safetensors file; see --help")
    if not source.is_dir():
        return FinetuneConfig()
    recorded = read_config(source)["options"]
    names = [field.name for field in dataclasses.fields(ModelOptions)]
    return replace(FinetuneConfig(), {name: recorded[name] for name in names if name in recorded})


def technique(config: FinetuneConfig, source: "Source") -> "Technique":
    """See `jaxdl.finetune.plan.technique`."""
    from jaxdl.finetune import plan as finetune_plan

    return finetune_plan.technique(config, source)


if __name__ == "__main__":
    sys.exit(main())
