import platform
import subprocess
import sys

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
