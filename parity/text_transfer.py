"""What a language model's features are worth for few labels, against counted words.

``python -m parity.text_transfer CORPUS.csv --labels 100 1000`` writes the features of `parity.text_features` of
both kinds and trains the same classifier on each, with every number of labels and every seed. Each is a run of
jaxdl's, stopped early on a part of the labels that is held out. It prints what the model gains, pair by pair, and
writes it with a picture. What is complete is not done again.

Exit status: 0; 1 where a training failed; 2 a wrong option, a bad corpus or a missing package.
"""

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from jaxdl.command_line import command_line
from jaxdl.config import DataOptions, OptimizerOptions, RunOptions, TrainConfig
from jaxdl.train import read_options

if TYPE_CHECKING:  # they import jax, which --help does not need
    from jaxdl.build import Technique
    from jaxdl.data.sources import Source

PROG = "python -m parity.text_transfer"
KINDS = {"words": "counted words", "minilm": "MiniLM"}


@dataclasses.dataclass(frozen=True)
class TextOptions:
    """The sentences, and how many of them have a label."""

    corpus: Annotated[Path | None, tyro.conf.Positional] = None
    """A CSV file with a line of titles."""
    text: str = "text"
    """Column with the sentences."""
    label: str = "sentiment"
    """Column with the classes."""
    limit: int = 6000
    """Sentences to use; a fifth of them are for the test."""
    labels: tuple[int, ...] = (100, 1000)
    """Numbers of training sentences, balanced over the classes."""
    seeds: int = 3
    """How many, from --seed on: of the sentences with a label, the initial weights and the order."""


@dataclasses.dataclass(frozen=True)
class TextConfig(TrainConfig):
    """All options of ``python -m parity.text_transfer``."""

    data: DataOptions = dataclasses.field(default_factory=lambda: DataOptions(dataset="npz", normalize=True))
    optim: OptimizerOptions = dataclasses.field(default_factory=lambda: OptimizerOptions(optimizer="adam"))
    run: RunOptions = dataclasses.field(default_factory=lambda: RunOptions(epochs=200, early_stop=5))
    texts: TextOptions = dataclasses.field(default_factory=TextOptions)


@command_line(PROG)
def main(argv: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    from jaxdl.comparison import folder
    from jaxdl.finetune import report

    config = read_options(argv, TextConfig(), PROG)
    try:
        with folder(config.run.out, "text") as out:
            arms = {name: {"data_dir": path} for name, path in features(config.texts, out).items()}
            return report.compare(config, arms, technique, out)
    except ImportError as error:
        raise ValueError(str(error)) from None


def features(options: TextOptions, out: Path) -> dict[str, Path]:
    """The features of both kinds in files, which are written unless they are there.

    Raises:
      FileNotFoundError, ValueError: no corpus, or one without these columns.
      ImportError: a package that they need is missing.
    """
    from parity import text_features

    if options.corpus is None:
        raise ValueError("expected a CSV file with sentences; see --help")
    paths = {kind: out / f"{kind}.npz" for kind in KINDS}
    for kind, path in paths.items():
        if not path.exists():
            read = text_features.read(options.corpus, options.text, options.label, options.limit, seed=0)
            text_features.write(path, *read[:2], kind)
    return {KINDS[kind]: path for kind, path in paths.items()}


def technique(config: TextConfig, source: "Source") -> "Technique":
    """Training with the labels of some sentences only."""
    from jaxdl.build import Technique
    from jaxdl.data import subset

    (count,) = config.texts.labels
    chosen = subset.labelled(source, count, config.run.seed)
    return Technique(data=lambda _: chosen)


if __name__ == "__main__":
    sys.exit(main())
