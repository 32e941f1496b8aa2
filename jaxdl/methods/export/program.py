"""What is exported: one function from stored images to logits, with its weights."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
from flax import nnx

from jaxdl.engine import timing
from jaxdl.engine.step import Prepare
from jaxdl.typing import Array, PyTree

Run = Callable[[np.ndarray], np.ndarray]  # images (N, H, W, C) uint8 -> logits (N, classes) float32


@dataclasses.dataclass(frozen=True)
class Loaded:
    """An artefact that was loaded again.

    Attributes:
      run: images -> logits.
      latency: an image (H, W, C) -> seconds for a batch of that image alone.
      bytes: what it takes on a device, where that is not the size of its file: a compiled program's.
    """

    run: Run
    latency: Callable[[np.ndarray], float]
    bytes: int | None = None


def in_python(run: Run) -> Loaded:
    """One that is called from Python."""
    return Loaded(run, lambda image: timing.seconds(run, image[None]))


@dataclasses.dataclass(frozen=True)
class Program:
    """A model with what comes before it: scaling and normalising are part of the exported program.

    Attributes:
      apply: ``(weights, images (B, H, W, C) uint8) -> logits (B, classes) float32``, pure.
      weights: parameters and statistics, a nested dict with the names of torch's state_dict.
      shape: (H, W, C).
      classes: their names.
    """

    apply: Callable[[PyTree, Array], Array]
    weights: PyTree
    shape: tuple[int, int, int]
    classes: tuple[str, ...]

    def spec(self, batch: object) -> jax.ShapeDtypeStruct:
        """Shape and type of a batch of images; ``batch`` is a number or a symbol of `jax.export`."""
        return jax.ShapeDtypeStruct((batch, *self.shape), np.uint8)

    def baked(self) -> Callable[[Array], Array]:
        """``images -> logits`` with the weights inside."""
        return functools.partial(self.apply, self.weights)

    def compiled(self) -> Loaded:
        """The model itself, what every artefact is compared with."""
        apply = jax.jit(self.apply)
        weights = jax.device_put(self.weights)
        return in_python(lambda images: np.asarray(apply(weights, images)))


def program(model: nnx.Module, prepare: Prepare, shape: tuple[int, int, int], classes: tuple[str, ...]) -> Program:
    """The program of a model.

    It computes in float32, also where the run was trained in bfloat16: few runtimes have the narrow type.

    Args:
      model: in evaluation mode, with its weights; takes images as ``prepare`` makes them.
      prepare: ``(key, batch) -> batch``: scaling and normalising; without augmentation, so the key goes unused.
      shape: (H, W, C).
      classes: their names.
    """
    graph, state = nnx.split(model)

    def apply(weights: PyTree, images: Array) -> Array:
        module = nnx.merge(graph, weights)
        return module(prepare(jax.random.key(0), {"image": images})["image"])

    return Program(apply, nnx.to_pure_dict(state), tuple(shape), tuple(classes))  # pyright: ignore[reportArgumentType]
