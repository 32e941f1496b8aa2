"""Trains a DCGAN: ``python -m jaxdl.gan --classifier RUN --seeds 5``.

``--classifier`` is the folder of a run of ``python -m jaxdl.train`` on the same data; it judges the images that
are made. Exit status: 0 complete; 1 failed; 2 a wrong option or bad data; 130 or 143 stopped by Ctrl-C or SIGTERM,
saved, and goes on with ``--resume``.
"""

import dataclasses
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxdl import files
from jaxdl.config import Dataset, fail
from jaxdl.engine import seeds
from jaxdl.engine.seeds import SeedOptions

PROG = "python -m jaxdl.gan"


@dataclasses.dataclass(frozen=True)
class GanOptions:
    """What to make, and how to learn it."""

    dataset: Dataset | None = None
    """Data set. Without it: MNIST where it is at hand or can be downloaded, otherwise the embedded digits."""
    data_dir: Path | None = None
    """Where the data lies, as for ``jaxdl.train``."""
    steps: int = 1500
    """Steps, each of both networks."""
    batch_size: int = 64
    """Real images to a step, and made ones."""
    latent: int = 64
    """Numbers of noise that an image is made of."""
    width: int = 32
    """Channels at half the image's size, in both networks; at a quarter there are twice as many."""
    lr: float = 2e-4
    """Learning rate of Adam, for both networks."""
    betas: tuple[float, float] = (0.5, 0.999)
    """Decay of Adam's averages."""
    classifier: Path | None = None
    """Folder of a run that judges the images. Without it: no judgement."""
    layer: str = "fc1"
    """Layer of the classifier whose outputs are the features of the Frechet distance."""
    confidence: float = 0.95
    """Probability from which on the classifier counts as sure of an image."""
    judged: int = 10000
    """Images that are made for the judgement."""


@dataclasses.dataclass(frozen=True)
class GanConfig:
    """All options of ``python -m jaxdl.gan``."""

    gan: GanOptions = dataclasses.field(default_factory=GanOptions)
    run: SeedOptions = dataclasses.field(default_factory=SeedOptions)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    try:
        config = seeds.read_options(sys.argv[1:] if argv is None else argv, GanConfig(), PROG)
        check(config.gan)
        return learn(config)
    except (ValueError, TypeError, OSError) as error:
        return fail(PROG, str(error))
    except KeyboardInterrupt:
        print("stopped between two trainings: go on with --out and --resume", file=sys.stderr)
        return 128 + signal.SIGINT


def check(options: GanOptions) -> None:
    """
    Raises:
      ValueError: a number outside its range.
    """
    for name in ("steps", "latent", "width"):
        if (value := getattr(options, name)) < 1:
            raise ValueError(f"--{name} must be at least 1; got {value}")
    if options.batch_size < 2:
        raise ValueError(f"--batch-size must be at least 2; got {options.batch_size}")
    if not 0 <= options.confidence <= 1:
        raise ValueError(f"--confidence must lie in [0, 1]; got {options.confidence}")
    if options.judged < 2:
        raise ValueError(f"--judged must be at least 2; got {options.judged}")


def learn(config: GanConfig) -> int:
    """Trains with every seed and reports; returns the exit status."""
    from jaxdl.data import sources
    from jaxdl.engine import ownstep
    from jaxdl.engine.cache import enable_compilation_cache
    from jaxdl.gan.judge import judge_of
    from jaxdl.gan.report import report
    from jaxdl.gan.trainer import Trainer

    enable_compilation_cache()
    options, run = config.gan, config.run
    source, notice = sources.chosen(options.dataset, options.data_dir)
    judge = judge_of(options, source)
    trainer = Trainer(options, source)
    if notice and not run.quiet:
        print(notice)
    data = {"fingerprint": source.fingerprint(), "origin": source.origin}
    with seeds.folder(config, run, f"{source.name}-gan", data) as folder:
        wanted = range(run.seed, run.seed + run.seeds)

        def work() -> None:
            for seed in wanted:
                with seeds.seed_folder(folder, config, seed) as own:
                    if not own.summary.exists():
                        files.write_json(own.summary, trainer.train(seed, own, judge, quiet=run.quiet))
            print(report(folder.path, wanted, judge, source.classes))

        return ownstep.status(work, folder)


if __name__ == "__main__":
    sys.exit(main())
