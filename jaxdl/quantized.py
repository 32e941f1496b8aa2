"""A folder with a model in int8: how its codes are made, written and read."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from jaxdl.config import TrainConfig, replace
from jaxdl.engine.run_folder import read_config

if TYPE_CHECKING:  # they import jax, which --help does not need
    from jaxdl.data.sources import Source
    from jaxdl.inference import Trained
    from jaxdl.methods.quantize.calibrate import Range
    from jaxdl.methods.quantize.layers import Scheme

CODES = "quantized.safetensors"
BATCH = 250  # calibration images at a time


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


def calibrated(trained: "Trained", source: "Source", options: QuantizeOptions) -> "dict[str, Range]":
    """The range of each layer's inputs on training images.

    Raises:
      ValueError: no images, or more than there are; as `jaxdl.methods.quantize.calibrate.ranges`.
    """
    import jax

    from jaxdl.methods.quantize import calibrate, convert

    images = calibrate.images(source.train, options.calibration_images)
    prepare, key = trained.seen.inputs(), jax.random.key(0)
    batches = [
        prepare(key, {"image": images[first : first + BATCH]})["image"]  # pyright: ignore[reportArgumentType]
        for first in range(0, len(images), BATCH)
    ]
    return calibrate.ranges(
        lambda see: convert.observe(trained.model, batches, see), options.calibration, options.percentile
    )


def save(out: Path, trained: "Trained", options: QuantizeOptions, ranges: "dict[str, Range] | None") -> None:
    """Writes the codes of a trained model into the folder."""
    from flax import nnx

    from jaxdl.engine import weights
    from jaxdl.methods.quantize import convert

    model = convert.quantize(trained.model, scheme(options), ranges)
    _, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    weights.save(out / CODES, model, nnx.to_pure_dict(params), nnx.to_pure_dict(stats))


def load(folder: Path) -> "Trained":
    """The int8 model in a folder that this command wrote.

    Raises:
      FileNotFoundError, ValueError: there is none, or it is damaged.
    """
    from jaxdl import inference
    from jaxdl.methods.quantize import convert

    recorded, options = read_config(folder), options_of(folder)
    # What is not int8 stays float32, whatever the run was trained in.
    config = replace(TrainConfig(), recorded["options"] | {"precision": "float32"})
    static = options.method != "dynamic"
    return inference.trained(
        config,
        recorded["images"],
        folder / CODES,
        lambda net: convert.like(net, scheme(options), static=static),
    )


def options_of(folder: Path) -> QuantizeOptions:
    """How the codes in a folder were made.

    Raises:
      FileNotFoundError, ValueError: this command did not write it.
    """
    if not (folder / CODES).is_file():
        raise FileNotFoundError(f"{folder} holds no model in int8 (no {CODES} in it)")
    return replace(QuantizeConfig(), read_config(folder)["technique"]).quantize


def scheme(options: QuantizeOptions) -> "Scheme":
    """How the codes are made."""
    from jaxdl.methods.quantize.layers import Scheme

    return Scheme(per_channel=options.per_channel)
