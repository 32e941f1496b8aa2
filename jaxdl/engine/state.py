"""What a training run carries from step to step."""

import dataclasses

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxdl.typing import Array, PyTree


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Arrays only: a checkpoint is this and nothing else.

    Attributes:
      step: () int32, the number of steps taken.
      params: what the optimizer changes, a nested dict keyed by attribute names.
      stats: what the model itself updates (BatchNorm's running statistics), a nested dict, often empty.
      opt_state: the optimizer's.
      key: the run's random key; the key of a step is ``fold_in(key, step)``, so nothing has to be advanced.
    """

    step: Array
    params: PyTree
    stats: PyTree
    opt_state: PyTree
    key: Array


def create(model: nnx.Module, tx: optax.GradientTransformation, key: Array) -> tuple[nnx.GraphDef, TrainState]:
    """Splits a model into its structure (static) and the state of a run that starts with it."""
    graphdef, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
    params, stats = nnx.to_pure_dict(params), nnx.to_pure_dict(stats)
    return graphdef, TrainState(jnp.zeros((), jnp.int32), params, stats, tx.init(params), key)
