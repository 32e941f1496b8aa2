"""Where a result was measured: processor and clocks, device, threads, versions, flags, and what else ran."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.process import environment, threads

PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "numpy")
FLAGS = (
    "XLA_FLAGS",
    "XLA_PYTHON_CLIENT_MEM_FRACTION",
    "JAX_DEFAULT_MATMUL_PRECISION",
    "JAX_PLATFORMS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_TF32_OVERRIDE",
    "PYTORCH_CUDA_ALLOC_CONF",
)
GPU = "name,driver_version,clocks.sm,clocks.max.sm,power.limit"


def facts(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """To be asked before anything is started: the load is that of others."""
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    names, clocks = (re.findall(rf"^{key}\s*: (.*)$", text, re.M) for key in ("model name", "cpu MHz"))
    return {
        "cpu": names[0] if names else platform.machine(),
        "clocks_mhz": sorted({round(float(clock)) for clock in clocks}),
        "gpu": gpu(),
        "threads": threads(),
        "load": round(os.getloadavg()[0], 2),
        "flags": {name: value for name, value in environment().items() if name in FLAGS},
        "versions": {"python": platform.python_version()} | versions(),
        "date": datetime.date.today().isoformat(),
    }


def versions() -> dict[str, str]:
    """Of the packages that are measured, as far as they are installed."""
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def gpu() -> str:
    """What nvidia-smi says of the first GPU: name, driver, clock now and at most, power; empty without one."""
    if not shutil.which("nvidia-smi"):
        return ""
    argv = ["nvidia-smi", f"--query-gpu={GPU}", "--format=csv,noheader"]
    found = subprocess.run(argv, capture_output=True, text=True, check=False)
    return found.stdout.splitlines()[0].strip() if found.returncode == 0 and found.stdout else ""


def line(result: Mapping[str, Any]) -> str:
    """A sentence on it; what an older result does not have is left out."""
    device = [] if result["platform"] == "cpu" else [result.get("gpu") or result["device"]]
    clocks = result.get("clocks_mhz")
    parts = [*device, result["cpu"], f"{result['threads']} threads"]
    parts += [f"{clocks[0]} to {clocks[-1]} MHz" if len(clocks) > 1 else f"{clocks[0]} MHz"] if clocks else []
    parts += [f"load {result['load']} at the start"] if "load" in result else []
    parts += (
        [", ".join(f"{name}={value}" for name, value in result["flags"].items())] if result.get("flags") else []
    )
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    note = [result["note"]] if "note" in result else []
    return "; ".join([", ".join(parts), versions, result["date"], *note])
