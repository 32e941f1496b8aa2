"""A folder with a model in int8: how its codes are made, written and read."""

from pathlib import Path

import jax
from flax import nnx

from jaxdl import inference
from jaxdl.config import TrainConfig, replace
from jaxdl.data.sources import Source
from jaxdl.engine import weights
from jaxdl.engine.run_folder import read_config
from jaxdl.inference import Trained
from jaxdl.methods.quantize import calibrate, convert
from jaxdl.methods.quantize.calibrate import Range
from jaxdl.methods.quantize.layers import Scheme
from jaxdl.quantize.options import QuantizeConfig, QuantizeOptions

FILE = "quantized.safetensors"
BATCH = 250  # calibration images at a time


def calibrated(trained: Trained, source: Source, options: QuantizeOptions) -> dict[str, Range]:
    """The range of each layer's inputs on training images.

    Raises:
      ValueError: no images, or more than there are; as `jaxdl.methods.quantize.calibrate.ranges`.
    """
    images = calibrate.images(source.train, options.calibration_images)
    prepare, key = trained.seen.inputs(), jax.random.key(0)
    batches = [
        prepare(key, {"image": images[first : first + BATCH]})["image"]  # pyright: ignore[reportArgumentType]
        for first in range(0, len(images), BATCH)
    ]
    return calibrate.ranges(
        lambda see: convert.observe(trained.model, batches, see), options.calibration, options.percentile
    )


def save(out: Path, trained: Trained, options: QuantizeOptions, ranges: dict[str, Range] | None) -> None:
    """Writes the codes of a trained model into the folder."""
    model = convert.quantize(trained.model, scheme(options), ranges)
    _, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    weights.save(out / FILE, model, nnx.to_pure_dict(params), nnx.to_pure_dict(stats))


def load(folder: Path) -> Trained:
    """The int8 model in a folder that this command wrote.

    Raises:
      FileNotFoundError, ValueError: there is none, or it is damaged.
    """
    recorded, options = read_config(folder), options_of(folder)
    # What is not int8 stays float32, whatever the run was trained in.
    config = replace(TrainConfig(), recorded["options"] | {"precision": "float32"})
    static = options.method != "dynamic"
    return inference.trained(
        config,
        recorded["images"],
        folder / FILE,
        lambda net: convert.like(net, scheme(options), static=static),
    )


def options_of(folder: Path) -> QuantizeOptions:
    """How the codes in a folder were made.

    Raises:
      FileNotFoundError, ValueError: this command did not write it.
    """
    if not (folder / FILE).is_file():
        raise FileNotFoundError(f"{folder} holds no model in int8 (no {FILE} in it)")
    return replace(QuantizeConfig(), read_config(folder)["technique"]).quantize


def scheme(options: QuantizeOptions) -> Scheme:
    """How the codes are made."""
    return Scheme(per_channel=options.per_channel)
