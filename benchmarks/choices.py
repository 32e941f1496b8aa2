"""Names on a command line; a mistyped one names its nearest neighbour."""

import argparse
from collections.abc import Callable, Iterable

from jaxdl.config import nearest


def among(kind: str, known: Iterable[str]) -> Callable[[str], str]:
    """A type of an option: one of some names."""
    names = list(known)

    def check(name: str) -> str:
        if name not in names:
            raise argparse.ArgumentTypeError(f"unknown {kind} {name!r}{nearest(name, names)}")
        return name

    return check
