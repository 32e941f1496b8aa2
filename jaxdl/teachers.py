"""Models that teach: those of runs, and of files of torch's weights, whose names and shapes tell the model."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdl import inference
from jaxdl.config import ModelOptions, TrainConfig
from jaxdl.data import resize, transforms
from jaxdl.data.sources import Source
from jaxdl.inference import Trained
from jaxdl.methods.distill import Member
from jaxdl.methods.finetune.transfer import read
from jaxdl.models import MODELS
from jaxdl.pictures import Pictures
from jaxdl.typing import Batch

HEAD_WIDTH = 64  # of the vision transformers that are about; their files do not say how many heads there are
STAGES: Mapping[tuple[int, ...], str] = {
    (2, 2, 2, 2): "resnet18",
    (3, 4, 6, 3): "resnet34",
}  # with bottlenecks the latter is resnet50


def load(path: Path, source: Source, mean: Sequence[float] = (), std: Sequence[float] = ()) -> Trained:
    """The model of a run, or of a safetensors file of torch's weights, for the images of a data set.

    Args:
      path: the run's folder, or the file.
      source: the data set.
      mean, std: of a file: what was subtracted from its model's images in [0, 1], and what they were divided by.

    Raises:
      FileNotFoundError, ValueError: no run, no whole file, no known model, other images or classes.
    """
    if path.is_dir() or not path.exists():
        trained = inference.load(path)
        check(trained, source, path)
        return trained
    options = ModelOptions(**recognise(read(path)))
    images = {"shape": source.image_shape, "classes": source.classes, "mean": tuple(mean), "std": tuple(std)}
    return inference.trained(TrainConfig(model=options), images, path)


def check(trained: Trained, source: Source, path: Path) -> None:
    """Raises ValueError unless the model at ``path`` takes the data set's images and knows its classes."""
    seen = trained.seen
    if seen.classes != source.classes:
        raise ValueError(
            f"{path} knows {len(seen.classes)} classes ({_few(seen.classes)}), {source.name} has "
            f"{source.num_classes} ({_few(source.classes)}); they must be the same"
        )
    if not seen.fit and seen.shape != source.image_shape:
        raise ValueError(f"{path} takes images {seen.shape}, {source.name} has {source.image_shape}")


def recognise(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The model options of weights under torch's names, as far as names and shapes tell.

    Raises:
      ValueError: they are of none of the models here.
    """
    shapes = {name: array.shape for name, array in arrays.items()}
    if "conv_proj.weight" in shapes:
        width, _, patch, _ = shapes["conv_proj.weight"]
        depth = len({found[1] for name in shapes if (found := re.search(r"encoder_layer_(\d+)", name))})
        return {
            "model": "vit",
            "hidden": width,
            "patch": patch,
            "depth": depth,
            "heads": max(width // HEAD_WIDTH, 1),
        }
    if "layer4.0.conv1.weight" in shapes:
        stages = tuple(sum(f"layer{n}.{block}.conv1.weight" in shapes for block in range(9)) for n in range(1, 5))
        name = "resnet50" if "layer1.0.conv3.weight" in shapes else STAGES.get(stages, "resnet18")
        return {"model": name, "stem": "cifar" if shapes["conv1.weight"][2] == 3 else "imagenet"}
    if {"conv1.weight", "conv2.weight", "fc1.weight"} <= shapes.keys():
        channels = shapes["conv1.weight"][0], shapes["conv2.weight"][0]
        return {"model": "cnn", "channels": channels, "hidden": shapes["fc1.weight"][0]}
    if {"fc1.weight", "fc2.weight"} <= shapes.keys():
        depth = sum(re.fullmatch(r"fc\d+\.weight", name) is not None for name in shapes) - 1
        return {"model": "net", "hidden": shapes["fc1.weight"][0], "depth": depth}
    raise ValueError(f"expected weights of {', '.join(MODELS)} under torch's names; got {_few(shapes)}")


def stored_images(trained: Trained) -> Member:
    """The model, and what makes stored uint8 images its input."""
    inputs = trained.seen.inputs()
    return trained.model, lambda batch: inputs(jax.random.key(0), batch)


def prepared_images(trained: Trained, seen: Pictures) -> Member:
    """The model, and what makes images that are prepared for another model its input.

    Args:
      trained: the model.
      seen: what the other knows of its images.
    """
    own, parts = trained.seen, []
    if own.fit or (own.mean, own.std) != (seen.mean, seen.std):
        if seen.mean:  # (x - (-m/s)) / (1/s) = x s + m
            mean, std = np.asarray(seen.mean), np.asarray(seen.std)
            parts.append(transforms.normalize(-mean / std, 1 / std))
        if own.fit:
            parts.append(resize.fit(own.shape, own.fit, own.margin))
        if own.mean:
            parts.append(transforms.normalize(own.mean, own.std))
    convert: Callable[..., Batch] = transforms.compose(*parts)
    return trained.model, lambda batch: convert(jax.random.key(0), batch)


def _few(names: Sequence[str] | Mapping[str, Any]) -> str:
    shown = list(names)
    return ", ".join(shown[:4]) + (", ..." if len(shown) > 4 else "")
