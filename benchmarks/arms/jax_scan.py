"""The bare step of jaxdl: whole epochs as one scanned program over resident data, and nothing beside it."""

import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.process import serve
from benchmarks.workloads import WORKLOADS, tail
from jaxdl import build
from jaxdl.data import sources
from jaxdl.engine import parallel
from jaxdl.engine.cache import enable_compilation_cache
from jaxdl.train import read_options
from jaxdl.typing import Metrics


class Scan:
    """The steps of ``jaxdl.train`` with its compiled program, without its loop."""

    def __init__(self, workload: str, folder: Path) -> None:
        enable_compilation_cache()
        config = read_options(WORKLOADS[workload].options(folder))
        job = build.job(config, sources.load("npz", config.data.data_dir))
        self.loader, self.state, self.epoch = job.loader, job.state, 0
        self.train = parallel.train_chunk(job.train_step, job.loader.take, job.mesh)
        self.arrays = parallel.replicate(job.mesh, job.loader.resident_arrays)

    def facts(self) -> dict[str, Any]:
        return {"device": jax.devices()[0].device_kind}

    def warm(self) -> tuple[float, float]:
        parts = jax.device_get(self._epoch())
        sums, counts = (np.concatenate([part["loss"][i] for part in parts]) for i in (0, 1))
        last = slice(-tail(self.loader.steps_per_epoch), None)
        loss = float(np.sum(sums[last], dtype=np.float64) / np.sum(counts[last]))
        return loss, self.run(1)["seconds"]

    def run(self, epochs: int) -> dict[str, float]:
        started = time.perf_counter()
        for _ in range(epochs):
            self._epoch()
        jax.block_until_ready(self.state)
        seconds = time.perf_counter() - started
        return {"steps": epochs * self.loader.steps_per_epoch, "seconds": seconds}

    def _epoch(self) -> list[Metrics]:
        per_epoch = self.loader.steps_per_epoch
        start, self.epoch = self.epoch * per_epoch, self.epoch + 1
        parts = []
        for chunk in self.loader.chunks(start, start + per_epoch, per_epoch):
            self.state, metrics = self.train(self.state, self.arrays, chunk.items)
            parts.append(metrics)
        return parts


if __name__ == "__main__":
    serve(Scan)
