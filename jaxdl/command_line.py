"""How a command ends: with a status, and with one line where something is wrong."""

import errno
import functools
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}  # nothing that other options would mend


class IncompleteError(Exception):
    """A training did not come to its end; ``status`` is its exit status, and it has said why."""

    def __init__(self, status: int) -> None:
        super().__init__(f"a training ended with status {status}")
        self.status = status


class Main(Protocol):
    """What runs a command line and returns the exit status; without words, that of the process."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


def command_line(
    prog: str, stopped: str = "stopped before it was done"
) -> Callable[[Callable[[list[str]], int]], Main]:
    """Makes the ``main`` of a command from what runs its words.

    The status is what that returns; 2 for an error of the user and 1 for a disk that takes no more, with one
    line on stderr; 130 after Ctrl-C; that of a training on the way which did not come to its end.

    Args:
      prog: how a user calls it, ``python -m ...``.
      stopped: what is said after Ctrl-C.
    """

    def decorate(run: Callable[[list[str]], int]) -> Main:
        @functools.wraps(run)
        def main(argv: Sequence[str] | None = None) -> int:
            try:
                return run(list(sys.argv[1:] if argv is None else argv))
            except IncompleteError as stop:
                return stop.status
            except (ValueError, TypeError, OSError) as error:
                status = fail(prog, str(error))
                return 1 if isinstance(error, OSError) and error.errno in FULL else status
            except KeyboardInterrupt:
                print(stopped, file=sys.stderr)
                return 128 + signal.SIGINT

        return main

    return decorate


def fail(prog: str, message: str) -> int:
    """Prints a user's error as one line and returns the exit status for it, 2."""
    print(f"{prog.removeprefix('python -m ')}: error: {message}", file=sys.stderr)
    return 2
