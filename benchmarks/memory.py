"""What a process has in memory: its resident pages, and what lies on the GPU."""

from pathlib import Path

STATUS = Path("/proc/self/status")
MB = 1e6


def resident(status: Path = STATUS) -> float:
    """MB in memory now."""
    return _field(status, "VmRSS")


def measured(imports: float, device: int | None, status: Path = STATUS) -> dict[str, float]:
    """What an arm reports at its end, in MB.

    Args:
      imports: `resident` after the imports.
      device: most bytes there were on the GPU, where there is one.
      status: of the process.

    Returns:
      ``imports``; ``training``, what was added to them at the most; ``GPU`` where there is one.
    """
    found = {"imports": imports, "training": _field(status, "VmHWM") - imports}
    return found | ({"GPU": device / MB} if device else {})


def _field(status: Path, name: str) -> float:
    """Of a line ``VmHWM:   12345 kB``, which means 1024 bytes each."""
    line = next(line for line in status.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024 / MB
