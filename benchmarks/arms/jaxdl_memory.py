"""Peak memory of a run of ``jaxdl.train``, with all that it writes: a line of JSON."""

import json
import sys
import tempfile
from pathlib import Path

import jax

# A run imports these when it comes to need them; here they count as imports.
import matplotlib.figure  # noqa: F401
import orbax.checkpoint  # noqa: F401

from benchmarks.memory import measured, resident
from benchmarks.workloads import WORKLOADS
from jaxdl import session  # noqa: F401
from jaxdl.train import main as train


def main() -> None:
    """Takes the workload, the prepared folder and the number of steps."""
    imports, (workload, folder, steps) = resident(), sys.argv[1:]
    with tempfile.TemporaryDirectory() as out:
        options = WORKLOADS[workload].options(Path(folder))
        if train([*options, f"--steps={steps}", f"--out={out}/run", "--quiet"]):
            sys.exit("the run failed")
    device = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    print(json.dumps(measured(imports, device)))


if __name__ == "__main__":
    main()
