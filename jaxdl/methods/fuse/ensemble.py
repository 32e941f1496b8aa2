"""Ensembles: what several models of one architecture say together, run as one program."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdl.typing import Array, PyTree

SMALLEST = 1e-12  # a probability below counts as this one in a logarithm


def stack(members: Sequence[PyTree]) -> PyTree:
    """Trees of one structure as one tree, each leaf with a leading axis of members."""
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(leaf) for leaf in leaves]), *members)


def probabilities(
    graphdef: nnx.GraphDef, prepare: Callable[[Array], Array]
) -> Callable[[PyTree, PyTree, Array], Array]:
    """``(params, stats, images) -> (members, B, classes)``: the models of stacked weights under one vmap.

    Args:
      graphdef: the structure of one model in evaluation mode.
      prepare: stored images -> the model's input.
    """

    def run(params: PyTree, stats: PyTree, images: Array) -> Array:
        inputs = prepare(images)

        def one(params: PyTree, stats: PyTree) -> Array:
            return jax.nn.softmax(nnx.merge(graphdef, params, stats)(inputs, None).astype(jnp.float32))

        return jax.vmap(one)(params, stats)

    return run


def averaged(said: np.ndarray) -> np.ndarray:
    """The mean of the members' probabilities: (members, N, classes) -> (N, classes)."""
    return said.mean(0)


def geometric(said: np.ndarray) -> np.ndarray:
    """The normalised geometric mean: the softmax of the members' mean logits. Shapes as in `averaged`."""
    log_mean = np.log(np.maximum(said.astype(np.float64), SMALLEST)).mean(0)
    product = np.exp(log_mean - log_mean.max(-1, keepdims=True))
    return product / product.sum(-1, keepdims=True)


def scores(said: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Accuracy and cross-entropy of probabilities (N, classes) against labels (N,)."""
    right = said[np.arange(len(labels)), labels].astype(np.float64)
    return float((said.argmax(1) == labels).mean()), float(-np.log(np.maximum(right, SMALLEST)).mean())
