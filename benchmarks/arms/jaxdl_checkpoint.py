"""Saving and restoring what a run of jaxdl needs to go on, and its weights alone."""

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from benchmarks.process import serve
from jaxdl import tree
from jaxdl.engine import parallel, state, weights
from jaxdl.engine.checkpoint import Checkpoints
from jaxdl.engine.state import TrainState
from jaxdl.models import MODELS
from jaxdl.optim import optimizers


class Files:
    """A network and Adam's state after a step.

    Args:
      case: ``model:hidden``.
      folder: where files may go.
    """

    def __init__(self, case: str, folder: Path) -> None:
        name, hidden = case.split(":")
        self.folder, self.net = folder, MODELS[name](hidden=int(hidden), rngs=nnx.Rngs(0))
        tx = optimizers.adam()
        _, start = state.create(self.net, tx, jax.random.key(0))
        # The averages a run starts with are zero, and zeros are compressed to nothing.
        _, opt_state = tx.update(start.params, start.opt_state, start.params)
        self.mesh = parallel.make_mesh(parallel.first_devices(1))
        self.state = parallel.replicate(self.mesh, dataclasses.replace(start, opt_state=opt_state))

    def facts(self) -> dict[str, Any]:
        device = jax.devices()[0]
        size = sum(leaf.nbytes for leaf in jax.tree.leaves((self.state.params, self.state.opt_state)))
        return {"platform": device.platform, "device": device.device_kind, "bytes": size}

    def run(self) -> dict[str, float]:
        """Seconds of each part, which `benchmarks.tasks.checkpoint` explains.

        Raises:
          ValueError: what was restored is not what was saved.
        """
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            parts = self._checkpoint(Path(place) / "checkpoints")
            return parts | self._weights(Path(place) / "weights.safetensors")

    def _checkpoint(self, folder: Path) -> dict[str, float]:
        folder.mkdir()
        checkpoints = Checkpoints(folder, keep=2)
        checkpoints.steps()  # opens the folder, as a run has done long before
        started = time.perf_counter()
        checkpoints.save(self.state, {}, 0.0)
        waits = time.perf_counter() - started
        checkpoints.close()
        safe = time.perf_counter() - started
        again, warnings = Checkpoints(folder, keep=2), []
        started = time.perf_counter()
        found = again.restore(self.state, warnings.append)
        restored = jax.block_until_ready(found[0] if found else None)
        restore = time.perf_counter() - started
        again.close()
        _check(self.state, restored)
        return {"training waits": waits, "safe on disk": safe, "restored": restore}

    def _weights(self, path: Path) -> dict[str, float]:
        params, stats = self.state.params, self.state.stats
        started = time.perf_counter()
        weights.save(path, self.net, jax.device_get(params), jax.device_get(stats))
        saved = time.perf_counter() - started
        started = time.perf_counter()
        loaded, _ = parallel.replicate(self.mesh, weights.load(path, self.net, params, stats))
        jax.block_until_ready(loaded)
        load = time.perf_counter() - started
        _check(params, loaded)
        return {"weights safe on disk": saved, "weights loaded": load}


def _check(saved: Any, found: Any) -> None:
    one, other = (tree.flatten(_arrays(part)) for part in (saved, found))
    wrong = [name for name in one if name not in other or not np.array_equal(one[name], other[name])]
    if wrong:
        raise ValueError(f"what was restored is not what was saved: {', '.join(wrong)}")


def _arrays(part: Any) -> Any:
    """Without the random key, which is no plain array."""
    return dataclasses.replace(part, key=None) if isinstance(part, TrainState) else part


if __name__ == "__main__":
    serve(Files)
