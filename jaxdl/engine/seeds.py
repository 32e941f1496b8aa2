"""A command that trains several times, a seed each: its options, its folder and the folders within, one a seed.

It is for techniques that bring a step of their own; nothing here imports jax.
"""

import contextlib
import dataclasses
import importlib.metadata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from jaxdl import files
from jaxdl.config import parse, replace, to_dict
from jaxdl.engine.run_folder import RunFolder, command_of, new_path, read_config, resumed

Config = TypeVar("Config")

FREE = ("out", "resume", "quiet", "seeds", "data_dir")  # what may change when a run is resumed
PACKAGES = ("jaxdl", "jax", "flax", "optax")


@dataclasses.dataclass(frozen=True)
class SeedOptions:
    """How often, where, and what is shown."""

    seed: int = 0
    """Of the first training: initial weights and all that is random."""
    seeds: int = 1
    """Trainings, one after another; their seeds are --seed, --seed + 1, and so on."""
    out: Path | None = None
    """The folder. Without it: a new one under runs/."""
    resume: bool = False
    """Go on in --out: trainings that have ended stay, another goes on from its last checkpoint, bit for bit."""
    quiet: bool = False
    """Print the result only."""


def read_options(argv: Sequence[str], default: Config, prog: str) -> Config:
    """The options of a command line, over those of the run that it resumes.

    Raises:
      ValueError: a resumed run that another command wrote, or that was started with other options (all that
        differ); fewer than 1 seed.
    """
    config = parse(default, argv, prog)
    options = to_dict(config)
    if options["seeds"] < 1:
        raise ValueError(f"--seeds must be at least 1; got {options['seeds']}")
    if not options["resume"]:
        return config
    if options["out"] is None:
        raise ValueError("--resume needs the folder of the run: --out RUN")
    out = Path(options["out"])
    if not (out / "config.json").exists():
        return config
    recorded = replace(default, resumed(out, default)["options"])
    config, before = parse(recorded, argv, prog), to_dict(recorded)
    changed = [
        f"--{name.replace('_', '-')} was {before[name]}, is {now}"
        for name, now in to_dict(config).items()
        if before[name] != now and name not in FREE
    ]
    if changed:
        raise ValueError(f"the run in {out} was started with other options: {'; '.join(changed)}")
    return config


@contextlib.contextmanager
def folder(config: Any, options: SeedOptions, name: str, data: Mapping[str, str]) -> Iterator[RunFolder]:
    """The folder of a command, with its ``config.json``.

    Args:
      config: all options.
      options: those of `SeedOptions` among them.
      name: of a new folder under runs/.
      data: what identifies the data that it is trained on.

    Raises:
      ValueError: it has something else, another process uses it, or its run was started on other data.
    """
    path = options.out or new_path(Path("runs"), name)
    with contextlib.closing(RunFolder(path, resume=options.resume)) as opened:
        if opened.config.exists() and (before := read_config(path)["data"]) != {**data}:
            raise ValueError(f"the run in {path} was started on other data: {before}; got {data}")
        write_config(opened, config, data)
        yield opened


@contextlib.contextmanager
def seed_folder(parent: RunFolder, config: Any, seed: int) -> Iterator[RunFolder]:
    """The folder of one training, ``seed-0`` and so on within that of the command."""
    with contextlib.closing(RunFolder(parent.path / f"seed-{seed}", resume=True)) as opened:
        write_config(opened, replace(config, {"seed": seed, "seeds": 1}), read_config(parent.path)["data"])
        yield opened


def write_config(opened: RunFolder, config: Any, data: Mapping[str, str]) -> None:
    """Writes ``config.json``: what is needed to resume the run and to repeat it."""
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    options = to_dict(config) | {"out": None, "resume": False}
    known = {"command": command_of(config), "options": options, "data": {**data}, "versions": versions}
    files.write_json(opened.config, known)
