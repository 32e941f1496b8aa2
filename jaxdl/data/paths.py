"""Files and folders a user names, with errors that say what was there."""

import os
from pathlib import Path

LISTED = 6


def folder(path: Path) -> Path:
    """The path itself, if it is a folder that can be listed.

    Raises:
      FileNotFoundError: it does not exist, or cannot be listed.
      ValueError: it is a file.
    """
    if path.is_file():
        raise ValueError(f"{path}: expected a folder, got a file")
    try:
        os.scandir(path).close()
    except OSError as error:
        raise FileNotFoundError(f"{path}: cannot open this folder: {error.strerror}") from None
    return path


def listing(path: Path) -> str:
    """What a folder holds, in a few words, for an error message."""
    names = sorted(entry.name for entry in path.iterdir())
    rest = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + rest or "nothing"


def read(path: Path, limit: int) -> bytes:
    """The bytes of a file of at most ``limit`` bytes.

    Raises:
      FileNotFoundError: it does not exist or cannot be read.
      ValueError: it is longer.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise FileNotFoundError(f"{path}: cannot read it: {error.strerror}") from None
    if len(data) > limit:
        raise ValueError(f"{path}: longer than {limit} bytes, more than this data set has")
    return data
