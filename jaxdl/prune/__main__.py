"""Prunes a trained run and trains it further: ``python -m jaxdl.prune RUN --amount 0.9``.

Training goes on with the run's own options, its learning rates from the start, which Renda et al. 2020 found
better than a small rate. Exit status: as that of ``python -m jaxdl.train``.
"""

import sys
from pathlib import Path

from jaxdl.command_line import command_line
from jaxdl.config import parse
from jaxdl.engine.run_folder import new_path
from jaxdl.prune.options import PROG, PruneConfig
from jaxdl.train import command


@command_line(PROG)
def main(argv: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    config = parse(PruneConfig(), argv, PROG)
    from jaxdl.prune import report, technique  # they import jax, which --help does not need

    if config.prune.compare:
        return report.compare(config.prune.compare, config.run.out)
    default = technique.starting_options(config)
    out = config.run.out or new_path(Path("runs"), f"{default.data.dataset}-{default.model.model}-pruned")
    status = command([*argv, "--out", str(out)], default, PROG, technique.technique)
    if status == 0:
        report.report(out)
    return status


if __name__ == "__main__":
    sys.exit(main())
