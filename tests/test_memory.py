import platform
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="freed memory is kept with glibc's mallopt")
def test_freed_memory_is_there_for_the_next_program():
    """By the pages that the kernel has to provide when 100 MB are taken a second time."""
    script = """
import resource, numpy as np
{}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(100_000_000 // 8).sum()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""
    setting = "from jaxdl.engine.memory import keep_freed_memory; keep_freed_memory()"
    kept, returned = (
        int(subprocess.check_output([sys.executable, "-c", script.format(line)], text=True))
        for line in (setting, "")
    )
    assert kept < 100
    assert returned > 100 * max(kept, 1) or returned > 1000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="freed memory is kept with glibc's mallopt")
@pytest.mark.parametrize(("seconds", "returned"), [(0.5, True), (0.05, False)])
def test_what_a_long_compilation_has_freed_is_returned(seconds, returned, tmp_path):
    script = f"""
import numpy as np, jax
from benchmarks.memory import resident
from jaxdl.engine import host
host.set_up()
np.ones(100_000_000 // 8).sum()
before = resident()
jax.monitoring.record_event_duration_secs(host.COMPILED, {seconds})
print(before - resident())
"""
    environment = {"PATH": "", "HOME": str(tmp_path), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", script]
    released = float(subprocess.check_output(command, text=True, env=environment, cwd=Path(__file__).parents[1]))
    assert (released > 90) == returned
