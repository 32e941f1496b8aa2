"""The gradient of a batch from the gradients of its shares: what torch's DistributedDataParallel does.

A step under jit needs none of this: it is a program for the whole batch. pmap and shard_map run one on each share.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, PartitionSpec

from jaxdl.engine.parallel.devices import AXIS
from jaxdl.engine.parallel.shares import shares
from jaxdl.engine.state import TrainState
from jaxdl.engine.step import Gradient
from jaxdl.typing import Batch, Metrics, PyTree

REAL = "real"  # in a padded share: how many of its examples count


def per_device(gradient: Gradient) -> Gradient:
    """The gradient of the whole batch, to be called on every device with its share, under the axis ``"data"``.

    A share weighs as much as its loss counts, so shares of different sizes give the mean over the whole batch.
    Each device draws dropout and augmentation of its own. Of BatchNorm's running statistics the first device's are
    kept, as torch does.
    """

    def whole(state: TrainState, batch: Batch) -> tuple[PyTree, PyTree, Metrics]:
        key = jax.random.fold_in(state.key, jax.lax.axis_index(AXIS))
        grads, stats, metrics = _of_real(gradient, dataclasses.replace(state, key=key), batch)
        count = metrics["loss"][1]
        part = count / jax.lax.psum(count, AXIS)
        grads = jax.tree.map(lambda g: jax.lax.psum(g * part.astype(g.dtype), AXIS), grads)
        stats = jax.tree.map(lambda x: jax.lax.all_gather(x, AXIS)[0], stats)
        return grads, stats, jax.lax.psum(metrics, AXIS)

    return whole


def over_devices(gradient: Gradient, mesh: Mesh) -> Gradient:
    """`per_device` for a step under jit: takes the whole batch and maps its shares."""

    def whole(state: TrainState, batch: Batch) -> tuple[PyTree, PyTree, Metrics]:
        size = len(next(iter(batch.values())))
        if size % mesh.size:
            rows, counts = shares(size, mesh.size)
            batch = {name: values[rows.ravel()] for name, values in batch.items()} | {REAL: jnp.asarray(counts)}
        everywhere, split = PartitionSpec(), PartitionSpec(AXIS)
        mapped = jax.shard_map(
            per_device(gradient), mesh=mesh, in_specs=(everywhere, split), out_specs=everywhere, check_vma=False
        )
        return mapped(state, batch)

    return whole


def synchronised(graph: nnx.GraphDef, state: TrainState) -> nnx.GraphDef:
    """The structure of a model whose BatchNorm layers take the statistics of all devices' shares."""
    model = nnx.merge(graph, state.params, state.stats)
    return nnx.graphdef(nnx.view(model, axis_name=AXIS, raise_if_not_found=False))


def _of_real(gradient: Gradient, state: TrainState, batch: Batch) -> tuple[PyTree, PyTree, Metrics]:
    """The gradient of the examples that count. Two sizes occur, so each is a branch, and nothing needs a mask."""
    if REAL not in batch:
        return gradient(state, batch)
    examples = {name: values for name, values in batch.items() if name != REAL}
    most = len(next(iter(examples.values())))

    def of(count: int) -> Callable[[], Any]:
        return lambda: gradient(state, {name: values[:count] for name, values in examples.items()})

    def of_none() -> Any:
        grads, _, metrics = jax.eval_shape(of(most))
        grads, metrics = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (grads, metrics))
        return grads, state.stats, metrics

    return jax.lax.cond(batch[REAL].reshape(()) == most, of(most), of(most - 1) if most > 1 else of_none)
