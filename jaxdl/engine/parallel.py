"""How a step is placed on devices: the one place where anything is compiled."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxdl.data.loader import Loader
from jaxdl.engine.state import TrainState
from jaxdl.typing import Batch, Metrics, PyTree

EVAL_CHUNK = 20  # batches; bounds what a streamed test set takes

Take = Callable[[PyTree, PyTree], Batch]


def make_mesh(devices: Sequence[Any]) -> Mesh:
    """All devices along the one axis ``"data"``."""
    return Mesh(np.asarray(devices), ("data",), axis_types=(AxisType.Auto,))


def first_devices(count: int) -> list[Any]:
    """The first ``count`` devices of this process.

    Raises:
      ValueError: there are fewer.
    """
    devices = jax.local_devices()
    if not 1 <= count <= len(devices):
        raise ValueError(f"--devices must lie between 1 and the {len(devices)} there are; got {count}")
    return devices[:count]


def replicate(mesh: Mesh, tree: PyTree) -> PyTree:
    """The same arrays on every device of the mesh, in buffers of their own (a step may donate them)."""
    # device_put keeps a buffer that lies on the right device already, even where two leaves share it, as Adam's
    # zeros do; a program cannot take the same buffer twice.
    return jax.device_put(jax.tree.map(jnp.copy, tree), NamedSharding(mesh, PartitionSpec()))


def train_chunk(
    step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]], take: Take, mesh: Mesh
) -> Callable[[TrainState, PyTree, PyTree], tuple[TrainState, Metrics]]:
    """``(state, arrays, items) -> (state, metrics of each step)``: many steps as one program.

    ``items`` is a `Chunk`'s, with axes (steps, batch, ...). The batch axis is split over the mesh, so gradients
    are those of the whole batch, and XLA adds the sums. A batch that does not divide is computed whole on every
    device.
    The state is donated: the one passed in must not be used again.
    """
    # Four steps an iteration hide the loop's own cost on a GPU; on a CPU it is not seen.
    unroll = 1 if mesh.devices.flat[0].platform == "cpu" else 4

    def chunk(state: TrainState, arrays: PyTree, items: PyTree) -> tuple[TrainState, Metrics]:
        def body(state: TrainState, item: PyTree) -> tuple[TrainState, Metrics]:
            return step(state, take(arrays, item))

        return jax.lax.scan(body, state, items, unroll=unroll)

    return _compiled(chunk, mesh, donate=True)


def eval_chunk(
    step: Callable[[TrainState, Batch], PyTree], take: Take, mesh: Mesh
) -> Callable[[TrainState, PyTree, PyTree], PyTree]:
    """``(state, arrays, items) -> what ``step`` gives for each batch``; as `train_chunk`, the state kept."""

    def chunk(state: TrainState, arrays: PyTree, items: PyTree) -> PyTree:
        return jax.lax.map(lambda item: step(state, take(arrays, item)), items)

    return _compiled(chunk, mesh, donate=False)


def evaluator(
    step: Callable[[TrainState, Batch], PyTree], loader: Loader, mesh: Mesh
) -> Callable[[TrainState], list[PyTree]]:
    """``state -> what ``step`` gives for every batch of the loader``, each with a leading axis of batches.

    A ragged last batch is a program of its own, so nothing is padded and nothing is left out.
    """
    run = eval_chunk(step, loader.take, mesh)
    arrays = replicate(mesh, loader.resident_arrays)

    def evaluate(state: TrainState) -> list[PyTree]:
        chunks = loader.chunks(0, loader.steps_per_epoch, EVAL_CHUNK)
        return [run(state, arrays, chunk.items) for chunk in chunks]

    return evaluate


def _compiled(chunk: Callable[..., Any], mesh: Mesh, *, donate: bool) -> Callable[..., Any]:
    everywhere = NamedSharding(mesh, PartitionSpec())
    split = NamedSharding(mesh, PartitionSpec(None, "data"))
    program = jax.jit(chunk, out_shardings=everywhere, donate_argnums=(0,) if donate else ())
    # Virtual CPU devices share threads: of two programs under way each can hold what the other's collectives want.
    one_at_a_time = mesh.size > 1 and mesh.devices.flat[0].platform == "cpu"

    def run(state: TrainState, arrays: PyTree, items: PyTree) -> Any:
        batch = jax.tree.leaves(items)[0].shape[1]
        out = program(state, arrays, jax.device_put(items, split if batch % mesh.size == 0 else everywhere))
        return jax.block_until_ready(out) if one_at_a_time else out

    return run
