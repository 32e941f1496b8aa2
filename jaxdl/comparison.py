"""Trainings that are compared: each a run in a folder of its own, trained once."""

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jaxdl import train
from jaxdl.command_line import IncompleteError
from jaxdl.config import TrainConfig, replace, to_dict
from jaxdl.engine.run_folder import new_path, resumed


@contextlib.contextmanager
def folder(path: Path | None, name: str) -> Iterator[Path]:
    """The folder of a comparison, by default a new one under runs/; it goes again if nothing came into it."""
    chosen = path or new_path(Path("runs"), name)
    chosen.mkdir(parents=True, exist_ok=True)
    try:
        yield chosen
    finally:
        with contextlib.suppress(OSError):  # it has something in it
            chosen.rmdir()
            if path is None:
                chosen.parent.rmdir()


def completed(config: TrainConfig, technique: Callable[..., Any], out: Path) -> dict[str, Any]:
    """The summary of the run in ``out``, which is trained, silently, as far as it is not complete.

    Args:
      config: its options.
      technique: see `jaxdl.train.command`.
      out: its folder.

    Raises:
      ValueError, TypeError, OSError: what the training finds wrong; the run there is another command's, or was
        started with other options.
      IncompleteError: it was stopped or failed.
    """
    config = replace(config, {"out": out, "resume": True, "quiet": True, "tensorboard": False})
    if (out / "config.json").exists():
        before = resumed(out, config)
        # What was not said the first time and is known since.
        known = {name: before["options"][name] for name in ("dataset", "chunk_steps")}
        recorded = replace(config, before["options"] | before["technique"])
        config = train.same_run(recorded, replace(config, known))
        length = all(to_dict(recorded)[name] == to_dict(config)[name] for name in train.LENGTH)
        if length and (out / "summary.json").exists():
            return json.loads((out / "summary.json").read_text())
    with contextlib.redirect_stdout(io.StringIO()):
        status = train.train(config, technique)
    if status:
        raise IncompleteError(status)
    return json.loads((out / "summary.json").read_text())
