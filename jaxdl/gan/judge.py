"""A trained classifier that judges made images."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from jaxdl import inference
from jaxdl.data.sources import Source
from jaxdl.gan.options import GanOptions
from jaxdl.methods import quality


@dataclasses.dataclass(frozen=True)
class Judge:
    """What a classifier sees in images, and what it saw in real ones.

    Attributes:
      look: see `jaxdl.methods.quality.looking`.
      test: what it sees in the test images.
      real: the figures of as many training images, the best that a generator can hope for.
      confidence: the probability from which on it is sure.
    """

    look: quality.Look
    test: tuple[np.ndarray, np.ndarray]
    real: dict[str, Any]
    confidence: float

    def of(self, images: np.ndarray) -> dict[str, Any]:
        """The figures of made images, (N, H, W, C) uint8."""
        return quality.measured(self.test, self.look(images), self.confidence)


def judge_of(options: GanOptions, source: Source) -> Judge | None:
    """The judge that the options name, if they do.

    Raises:
      FileNotFoundError, ValueError: the run cannot be used, was trained on images of another shape or on other
        classes, or has no such layer.
    """
    if options.classifier is None:
        return None
    trained = inference.load(options.classifier)
    if trained.seen.shape != source.image_shape or trained.seen.classes != source.classes:
        raise ValueError(
            f"the classifier in {options.classifier} takes images {trained.seen.shape} of "
            f"{len(trained.seen.classes)} classes; {source.name} has {source.image_shape} of {source.num_classes}"
        )
    inputs = functools.partial(trained.seen.inputs(), jax.random.key(0))  # without augmentation it goes unused
    look = quality.looking(trained.model, inputs, options.layer)
    test = look(np.asarray(source.test["image"]))
    images = source.train["image"]
    rows = np.sort(np.random.default_rng(0).permutation(len(images))[: options.judged])
    real = quality.measured(test, look(np.asarray(images[rows])), options.confidence)
    return Judge(look, test, real, options.confidence)
