"""How good made images are, by what a classifier of real ones sees in them.

The Frechet distance between the features of real and made images is the idea of FID, whose features are those of
Inception on photographs; here they are of any classifier, so values compare only where it is the same.
Source: Heusel et al. 2017, "GANs trained by a two time-scale update rule".
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdl.methods.features import with_outputs
from jaxdl.typing import Array, Batch

BATCH = 500  # images that are looked at at once

Look = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]  # uint8 images -> features, probabilities


def looking(model: nnx.Module, inputs: Callable[[Batch], Batch], layer: str) -> Look:
    """``uint8 images (N, H, W, C) -> features (N, F) and probabilities (N, classes)``, float64.

    Args:
      model: a classifier in evaluation mode.
      inputs: what makes images its input.
      layer: whose outputs are the features, see `jaxdl.methods.features.with_outputs`.
    """
    graph, values = nnx.split(model)

    @jax.jit
    def look(values: Any, image: Array) -> tuple[Array, Array]:
        logits, [features] = with_outputs(nnx.merge(graph, values), [layer], inputs({"image": image})["image"])
        return features.reshape(len(image), -1), jax.nn.softmax(logits.astype(jnp.float32))

    def all_of(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = [look(values, images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
        features, probabilities = zip(*parts, strict=True)
        return np.concatenate(features).astype(np.float64), np.concatenate(probabilities).astype(np.float64)

    return all_of


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` of two sets of features (N, F), taken for normal.

    Raises:
      ValueError: fewer than two rows, or other numbers of features.
    """
    if min(len(first), len(second)) < 2 or first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"expected two or more rows each, of the same features; got {first.shape} and {second.shape}"
        )
    difference = first.mean(0) - second.mean(0)
    one, other = (np.atleast_2d(np.cov(features, rowvar=False)) for features in (first, second))
    root = _root(one)
    # C1 C2 has the eigenvalues of this symmetric matrix, and rounding cannot make it complex.
    mixed = np.linalg.eigvalsh(root @ other @ root)
    trace = np.trace(one) + np.trace(other) - 2 * np.sqrt(np.maximum(mixed, 0)).sum()
    return float(difference @ difference + trace)


def measured(
    real: tuple[np.ndarray, np.ndarray], made: tuple[np.ndarray, np.ndarray], confidence: float
) -> dict[str, Any]:
    """The figures of made images.

    Args:
      real, made: features and probabilities of each.
      confidence: the probability from which on the classifier is sure.

    Returns:
      ``distance``, the Frechet distance; ``confident``, the share of made images of which the classifier is sure;
      ``classes``, the share it takes for each class; ``imbalance``, by how much these differ from the real ones':
      the total variation distance, 0 where they are the same and near 1 where all are of one class.
    """
    shares, wanted = (_shares(probabilities) for _, probabilities in (made, real))
    return {
        "distance": frechet_distance(real[0], made[0]),
        "confident": float((made[1].max(1) >= confidence).mean()),
        "imbalance": float(np.abs(shares - wanted).sum() / 2),
        "classes": shares.tolist(),
    }


def _shares(probabilities: np.ndarray) -> np.ndarray:
    return np.bincount(probabilities.argmax(1), minlength=probabilities.shape[1]) / len(probabilities)


def _root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric square root of a covariance."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
