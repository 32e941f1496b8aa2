"""Trains with few labels and many images: ``python -m jaxdl.consistency --method fixmatch --labels 100``.

``--compare`` trains every method with ``--seeds`` seeds and says what each gains over the labelled images alone.
Exit status: as that of ``python -m jaxdl.train``.
"""

import sys

from jaxdl.command_line import command_line
from jaxdl.consistency.options import ConsistencyConfig, technique
from jaxdl.train import command, read_options

PROG = "python -m jaxdl.consistency"


@command_line(PROG, stopped="stopped: the same command with --out goes on")
def main(argv: list[str]) -> int:
    """Runs the command line and returns the exit status."""
    if not any(word in ("--compare", "--compare=True") for word in argv):
        return command(argv, ConsistencyConfig(), PROG, technique)
    from jaxdl.consistency.report import compare

    return compare(read_options(argv, ConsistencyConfig(), PROG))


if __name__ == "__main__":
    sys.exit(main())
