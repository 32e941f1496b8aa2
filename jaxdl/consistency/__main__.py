"""Trains with few labels and many images: ``python -m jaxdl.consistency --method fixmatch --labels 100``.

``--compare`` trains every method with ``--seeds`` seeds and says what each gains over the labelled images alone.
Exit status: as that of ``python -m jaxdl.train``.
"""

import signal
import sys
from collections.abc import Sequence

from jaxdl.config import fail
from jaxdl.consistency.options import ConsistencyConfig, technique
from jaxdl.train import command, read_options

PROG = "python -m jaxdl.consistency"


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if not any(word in ("--compare", "--compare=True") for word in argv):
        return command(argv, ConsistencyConfig(), PROG, technique)
    try:
        from jaxdl.consistency.report import compare

        return compare(read_options(argv, ConsistencyConfig(), PROG))
    except (ValueError, TypeError, OSError) as error:
        return fail(PROG, str(error))
    except KeyboardInterrupt:
        print("stopped: the same command with --out goes on", file=sys.stderr)
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
