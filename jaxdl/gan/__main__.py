"""Trains a DCGAN: ``python -m jaxdl.gan --classifier RUN --seeds 5``.

``--classifier`` is the folder of a run of ``python -m jaxdl.train`` on the same data; it judges the images that
are made. Exit status: 0 complete; 1 failed; 2 a wrong option or bad data; 130 or 143 stopped by Ctrl-C or SIGTERM,
saved, and goes on with ``--resume``.
"""

import sys

from jaxdl import files
from jaxdl.command_line import command_line
from jaxdl.engine import seeds
from jaxdl.gan.options import GanConfig, check

PROG = "python -m jaxdl.gan"


@command_line(PROG, stopped="stopped between two trainings: go on with --out and --resume")
def main(argv: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    config = seeds.read_options(argv, GanConfig(), PROG)
    check(config.gan)
    return learn(config)


def learn(config: GanConfig) -> int:
    """Trains with every seed and reports; returns the exit status."""
    from jaxdl.data import sources
    from jaxdl.engine import ownstep
    from jaxdl.engine.host import set_up
    from jaxdl.gan.judge import judge_of
    from jaxdl.gan.report import report
    from jaxdl.gan.trainer import Trainer

    set_up()
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
