"""The folder of one training run: who may write to it, and what it says of the run."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO, Any

from jaxdl import files


class RunPaths:
    """What lies where in the folder of a run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    config = property(lambda self: self.path / "config.json")
    metrics = property(lambda self: self.path / "metrics.jsonl")
    summary = property(lambda self: self.path / "summary.json")
    weights = property(lambda self: self.path / "weights.safetensors")
    curves = property(lambda self: self.path / "curves.png")
    confusion = property(lambda self: self.path / "confusion.png")
    checkpoints = property(lambda self: self.path / "checkpoints")
    tensorboard = property(lambda self: self.path / "tensorboard")


class RunFolder(RunPaths):
    """The paths in it, and the right to write them.

    One process at a time holds a folder, by a lock that ends with the process however it ends.

    Args:
      path: the folder; created when it is not there.
      resume: go on with the run in it, where there is one.

    Raises:
      ValueError: another process holds it, it has a run and ``resume`` is not asked for, or it has something else.
    """

    def __init__(self, path: Path, *, resume: bool) -> None:
        if path.exists() and not path.is_dir():
            raise ValueError(f"expected a folder for the run, {path} is a file; choose another --out")
        super().__init__(path)
        path.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(path)
        try:
            self._check(resume)
        except ValueError:
            self._lock.close()
            raise

    def close(self) -> None:
        """Lets another process have the folder."""
        self._lock.close()

    def _check(self, resume: bool) -> None:
        if self.config.exists():
            if not resume:
                raise ValueError(
                    f"{self.path} holds a run already; --resume goes on with it, or choose another --out"
                )
        elif others := sorted(entry.name for entry in self.path.iterdir() if not entry.name.startswith(".")):
            raise ValueError(f"{self.path} is not empty and no run (it holds {others[0]}); choose another --out")


def read_config(path: Path) -> dict[str, Any]:
    """What ``config.json`` of a run's folder says.

    Raises:
      FileNotFoundError: the folder holds no run.
      ValueError: the file is damaged.
    """
    return files.read_json(path / "config.json", f"{path} holds no run (no config.json in it)")


def command_of(config: Any) -> str:
    """How a user calls the command with these options, whose class has its name: ``PruneConfig``."""
    return f"python -m jaxdl.{type(config).__name__.removesuffix('Config').lower()}"


def resumed(path: Path, config: Any) -> dict[str, Any]:
    """What ``config.json`` says of the run that the command with these options is to go on with.

    Raises:
      FileNotFoundError, ValueError: as `read_config`; another command wrote it.
    """
    known, own = read_config(path), command_of(config)
    writer = known.get("command", own)
    if writer != own:
        raise ValueError(
            f"the run in {path} was written by {writer}; only that command goes on with it, not {own}"
        )
    return known


def new_path(root: Path, name: str) -> Path:
    """``root/name-1``, or the next number that is free; the folder is created."""
    number = 1
    while True:
        path = root / f"{name}-{number}"
        with contextlib.suppress(FileExistsError):
            path.mkdir(parents=True)
            return path
        number += 1


def _lock(path: Path) -> IO[str]:
    file = (path / ".lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise ValueError(f"{path} is in use by another process (pid {holder})") from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file
