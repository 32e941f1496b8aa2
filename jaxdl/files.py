"""Files of the project's own: written whole or not at all, and a private folder for what is kept."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Calls ``write`` with a temporary path beside ``path``, flushes it to the disk and moves it into place.

    Raises:
      OSError: as the write does (a full disk); ``path`` is as it was, and nothing is left beside it.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    os.close(descriptor)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """``value`` as indented JSON, atomically."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_atomic(path, lambda temporary: temporary.write_text(text))


def read_json(path: Path, missing: str) -> Any:
    """What `write_json` wrote.

    Raises:
      FileNotFoundError: there is no such file; ``missing`` says what that means.
      ValueError: it is damaged.
    """
    if not path.is_file():
        raise FileNotFoundError(missing)
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error})") from error


def cache() -> Path:
    """The folder of this user for decoded data and compiled programs; it need not exist."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG base directory specification has relative paths ignored.
    return (Path(home) if Path(home).is_absolute() else Path("~/.cache").expanduser()) / "jaxdl"


def make_cache() -> Path:
    """The same folder, made if it is missing; nobody else can read it or write to it.

    Raises:
      OSError: it cannot be made, or belongs to somebody else.
    """
    path = cache()
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
