"""A run of a technique that has ended, with all that it trained beside the plain model that it leaves behind."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

from jaxdl import build
from jaxdl.config import TrainConfig, replace
from jaxdl.data import sources
from jaxdl.engine.checkpoint import Checkpoints
from jaxdl.engine.run_folder import read_config
from jaxdl.engine.state import TrainState

Config = TypeVar("Config", bound=TrainConfig)


@dataclasses.dataclass(frozen=True)
class Restored(Generic[Config]):
    """A run as it was when its weights were the ones it kept.

    Attributes:
      config, source, changes, job: what it was put together from; ``source`` as the technique left it.
      state: parameters and statistics of everything it trained.
    """

    config: Config
    source: sources.Source
    changes: build.Technique
    job: build.Job
    state: TrainState


def restore(
    run: Path, default: Config, technique: Callable[[Config, sources.Source], Any], data_dir: Path | None
) -> Restored[Config]:
    """Puts the run in a folder together again.

    Args:
      run: the folder.
      default: options of the technique.
      technique: as given to `jaxdl.train.train`.
      data_dir: where the data lie now; None: where they lay.

    Raises:
      FileNotFoundError, ValueError: no run that has ended, no data, no checkpoint of its last weights.
    """
    recorded, summary = read_config(run), run / "summary.json"
    if not summary.is_file():
        raise FileNotFoundError(f"{run} has not ended yet (no summary.json in it)")
    config = replace(default, recorded["options"] | recorded["technique"])
    data = config.data
    source = sources.load(data.dataset or "mnist", data_dir or data.data_dir)
    changes = technique(config, source)
    source = changes.data(source)
    job = build.job(config, source, changes)
    checkpoints = Checkpoints(run / "checkpoints", config.run.keep)
    state = checkpoints.read(json.loads(summary.read_text())["weights_of_step"], job.state)
    checkpoints.close()
    return Restored(config, source, changes, job, state)
