"""The options of ``python -m jaxdl.quantize``."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from jaxdl.config import TrainConfig

PROG = "python -m jaxdl.quantize"


@dataclasses.dataclass(frozen=True)
class QuantizeOptions:
    """How the codes are made."""

    run: Annotated[Path | None, tyro.conf.Positional] = None
    """The folder of a run that has ended."""
    method: Literal["static", "dynamic", "qat"] = "static"
    """static: ranges of the layers' inputs from training images. dynamic: from each batch when it is computed.
    qat: trained further with rounded weights and inputs, whose ranges are averages over the steps."""
    calibration: Literal["minmax", "percentile", "histogram", "entropy"] = "minmax"
    """How ranges are chosen (static; qat begins with them). minmax: all values. percentile: without the outermost.
    histogram: with the least squared error. entropy: with the least divergence of Kullback and Leibler."""
    percentile: float = 99.99
    """Percent of the values within a range (percentile)."""
    calibration_images: int = 1000
    """Training images that ranges are found on (static, qat)."""
    per_channel: bool = True
    """A scale for each output channel of a weight; otherwise one for all of it."""
    onnx: bool = True
    """Write ONNX files as well, in float32 and in int8 (net and cnn, where the package onnx is installed)."""
    compare: tuple[Path, ...] = ()
    """Folders that this command wrote: only prints, draws and writes the means of their tables, into --out."""


@dataclasses.dataclass(frozen=True)
class QuantizeConfig(TrainConfig):
    """All options of ``python -m jaxdl.quantize``: training is for --method qat, data and model are the run's."""

    quantize: QuantizeOptions = dataclasses.field(default_factory=QuantizeOptions)
