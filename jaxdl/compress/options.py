"""The options of ``python -m jaxdl.compress``."""

import dataclasses
import re
from pathlib import Path
from typing import Annotated

import tyro

from jaxdl.config import TrainConfig

PROG = "python -m jaxdl.compress"
UNITS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "kib": 1024, "mib": 1024**2}


@dataclasses.dataclass(frozen=True)
class CompressOptions:
    """How small, and how the way there is found."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """The folder of a run that has ended."""
    target_size: str = "5%"
    """Of the file that is written: a share of the run's weights in float32, or bytes: 5%, 20kB, 20000."""
    composition: str = ""
    """What to do, such as units:0.25,rank:0.5,sparsity:0.9,soft:0.5 (shares of units that go, of a weight's
    numbers that its factors have, of weights that become 0; weight of soft targets). Without it: searched."""
    around: tuple[float, ...] = (0.5, 1.0, 2.0)
    """Multiples of the target size at which compositions are tried, for the picture."""
    search_epochs: int = 2
    """Epochs for which each composition is trained when it is tried."""
    soft_weight: float = 0.5
    """Weight of soft targets, which are tried with the best composition; 0: they are not."""
    temperature: float = 4.0
    """Divides the logits for soft targets."""
    compare: tuple[Path, ...] = ()
    """Only compare folders that this command wrote: print and draw the means, and write them to --out."""


@dataclasses.dataclass(frozen=True)
class CompressConfig(TrainConfig):
    """All options of ``python -m jaxdl.compress``; those of training that are not given are the run's."""

    compress: CompressOptions = dataclasses.field(default_factory=CompressOptions)


def target_bytes(text: str, whole: int) -> int:
    """The bytes that ``5%`` of ``whole``, ``20kB`` or ``20000`` are.

    Raises:
      ValueError: it is none of these.
    """
    found = re.fullmatch(r"\s*([\d.]+)\s*(%|[kKmM]?i?[bB]?)\s*", text)
    unit = found[2].lower() if found else ""
    try:
        number = float(found[1]) if found else 0.0
    except ValueError:
        number = 0.0
    size = number / 100 * whole if unit == "%" else number * UNITS.get(unit, 0)
    if size < 1:
        raise ValueError(f"--target-size is a share or a number of bytes, such as 5%, 20kB or 20000; got {text!r}")
    return int(size)
