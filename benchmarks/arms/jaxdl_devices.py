"""Training steps of a workload on some devices of one process; on a CPU they are virtual ones, made for it."""

import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.process import serve

STEPS = 20  # in one program
# By what the devices, ``{}``, share.
SPLITS = {"jit": "--parallel=jit", "pmap": "--parallel=pmap", "stages": "--stages={}", "tensor": "--tensor={}"}


class Steps:
    """One way to split the batches of a workload.

    Args:
      case: ``workload:way:devices``, such as "net:pmap:4"; a way is one of `SPLITS`.
      folder: that of `benchmarks.prepare`.
    """

    def __init__(self, case: str, folder: Path) -> None:
        workload, way, devices = case.split(":")
        flags = os.environ.get("XLA_FLAGS", "")
        os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count={devices}"
        from benchmarks.workloads import WORKLOADS
        from jaxdl import build
        from jaxdl.config import TrainConfig
        from jaxdl.data import sources
        from jaxdl.engine import parallel
        from jaxdl.train import PROG, read_options

        split = [SPLITS[way].format(devices), f"--devices={devices}", f"--chunk-steps={STEPS}"]
        config = read_options([*WORKLOADS[workload].options(folder), *split], TrainConfig(), PROG)
        self.job = job = build.job(config, sources.load("npz", config.data.data_dir))
        self.run = job.plan.train_chunk(job.train_step, job.loader.take)
        self.state, self.arrays = job.state, parallel.replicate(job.mesh, job.loader.resident_arrays)
        self.chunk = next(job.loader.chunks(0, STEPS, STEPS))

    def measure(self, programs: int) -> dict[str, float]:
        """ms a step, over some programs of `STEPS` steps."""
        import jax

        started = time.perf_counter()
        for _ in range(programs):
            self.state, measured = self.run(self.state, self.arrays, self.chunk.items)
            jax.block_until_ready((self.state, measured))
        return {"ms": 1000 * (time.perf_counter() - started) / (programs * STEPS)}

    def facts(self) -> dict[str, Any]:
        """The devices, and how the first of them is called."""
        first = self.job.mesh.devices.flat[0]
        return {"devices": self.job.mesh.size, "kind": first.device_kind, "platform": first.platform}


if __name__ == "__main__":
    sys.exit(serve(Steps))
