"""The one place where anything is compiled: a step becomes a program of many steps on many devices."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdl.data.loader import Loader
from jaxdl.engine.parallel.devices import AXIS, replicate
from jaxdl.engine.parallel.gradient import REAL
from jaxdl.engine.parallel.shares import columns, shares, spread
from jaxdl.engine.state import TrainState
from jaxdl.engine.step import Step
from jaxdl.typing import Batch, Metrics, PyTree

EVAL_CHUNK = 20  # batches; bounds what a streamed test set takes

# An order that needs little memory, where XLA would choose one in which operations can run side by side. The
# results are the same to the bit.
IN_ORDER = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}
SMALL = 2**25  # numbers in a state times examples in a batch: about the multiplications of linear layers

Take = Callable[[PyTree, PyTree], Batch]
Run = Callable[[TrainState, PyTree, PyTree], tuple[TrainState, Metrics]]


def train_chunk(step: Step, take: Take, mesh: Mesh) -> Run:
    """``(state, arrays, items) -> (state, metrics of each step)``: many steps as one program.

    ``items`` is a `Chunk`'s, with axes (steps, batch, ...). The batch axis is split over the mesh, so gradients
    are those of the whole batch, and XLA adds the sums. Where the devices do not divide a batch, XLA pads it and
    masks what it padded, in every sum there is. The state stays as it lies on the devices, replicated or split.
    The state is donated: the one passed in must not be used again.
    """

    def chunk(take: Take) -> Callable[..., Any]:
        return lambda state, arrays, items: _scan(step, take, mesh, state, arrays, items)

    everywhere = NamedSharding(mesh, PartitionSpec())
    return _compiled(chunk, take, mesh, lambda state: (_places(state, mesh), everywhere), donate=True)


def pmap_chunk(step: Step, take: Take, mesh: Mesh) -> Run:
    """As `train_chunk`, where ``step`` is a device's own (`per_device`) and takes its share of a batch."""

    def chunk(state: TrainState, arrays: PyTree, items: PyTree) -> tuple[TrainState, Metrics]:
        def take_counted(arrays: PyTree, item: PyTree) -> Batch:
            rows, real = item
            return take(arrays, rows) if real is None else {**take(arrays, rows), REAL: real}

        return _scan(step, take_counted, mesh, state, arrays, items)

    program = jax.pmap(
        chunk,
        axis_name=AXIS,
        in_axes=(None, None, 1),
        out_axes=None,  # the same on every device: no stacked replicas
        devices=list(mesh.devices.flat),
        donate_argnums=(0,),
    )

    def run(state: TrainState, arrays: PyTree, items: PyTree) -> tuple[TrainState, Metrics]:
        return _finished(program(state, arrays, _shared(items, mesh.size)), mesh)

    return run


def eval_chunk(
    step: Callable[[TrainState, Batch], PyTree], take: Take, mesh: Mesh
) -> Callable[[TrainState, PyTree, PyTree], PyTree]:
    """``(state, arrays, items) -> what ``step`` gives for each batch``; as `train_chunk`, the state kept."""

    def chunk(take: Take) -> Callable[..., Any]:
        return lambda state, arrays, items: jax.lax.map(lambda item: step(state, take(arrays, item)), items)

    everywhere = NamedSharding(mesh, PartitionSpec())
    return _compiled(chunk, take, mesh, lambda _: everywhere, donate=False)


def evaluator(
    step: Callable[[TrainState, Batch], PyTree], loader: Loader, mesh: Mesh
) -> Callable[[TrainState], list[PyTree]]:
    """``state -> what ``step`` gives for every batch of the loader``, each with a leading axis of batches.

    A ragged last batch is a program of its own, so nothing is left out.
    """
    run = eval_chunk(step, loader.take, mesh)
    arrays = replicate(mesh, loader.resident_arrays)

    def evaluate(state: TrainState) -> list[PyTree]:
        chunks = loader.chunks(0, loader.steps_per_epoch, EVAL_CHUNK, columns=columns(mesh))
        return [run(state, arrays, chunk.items) for chunk in chunks]

    return evaluate


def _scan(step: Step, take: Take, mesh: Mesh, state: TrainState, arrays: PyTree, items: PyTree) -> Any:
    # Four steps an iteration hide the loop's own cost on a GPU; on a CPU it is not seen.
    unroll = 1 if mesh.devices.flat[0].platform == "cpu" else 4
    return jax.lax.scan(lambda state, item: step(state, take(arrays, item)), state, items, unroll=unroll)


def _compiled(
    chunk: Callable[[Take], Callable[..., Any]],
    take: Take,
    mesh: Mesh,
    out: Callable[[TrainState], PyTree],
    *,
    donate: bool,
) -> Callable[..., Any]:
    programs: dict[int, Callable[..., Any]] = {}  # by the number of examples in a batch

    def run(state: TrainState, arrays: PyTree, items: PyTree) -> Any:
        items, size = spread(items, mesh)
        if size not in programs:
            part = chunk(_unpadded(take, size, mesh) if size % mesh.shape[AXIS] else take)
            programs[size] = jax.jit(
                part,
                out_shardings=out(state),
                donate_argnums=(0,) if donate else (),
                compiler_options=_options(state, size, mesh),
            )
        return _finished(programs[size](state, arrays, items), mesh)

    return run


def _options(state: TrainState, size: int, mesh: Mesh) -> dict[str, str] | None:
    """What XLA is told: where operations take microseconds, to start two at once costs more than it gains.

    On two cores a step of the Net with 64 images takes 206 us in order and 240 as XLA would have it; the step of a
    CNN with 128, which has real work to divide, takes 20.4 ms in order and 19.4.
    """
    numbers = sum(leaf.size for leaf in jax.tree.leaves(state))
    small = mesh.devices.flat[0].platform == "cpu" and size * numbers < SMALL
    return IN_ORDER if small and _knows_order() else None


@functools.cache
def _knows_order() -> bool:
    """Whether this XLA has the option, which is no part of its promises."""
    try:
        jax.jit(lambda x: x, compiler_options=IN_ORDER).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def _unpadded(take: Take, size: int, mesh: Mesh) -> Take:
    """Cuts the padding off. Within a program the devices need not divide an axis: XLA does what that takes."""
    split = NamedSharding(mesh, PartitionSpec(AXIS))

    def real(arrays: PyTree, item: PyTree) -> Batch:
        batch = take(arrays, jax.tree.map(lambda rows: rows[:size], item))
        return jax.lax.with_sharding_constraint(batch, split)

    return real


def _shared(items: PyTree, devices: int) -> tuple[PyTree, jax.Array | None]:
    """Items with axes (steps, devices, share, ...), and where shares differ how many of their examples count."""
    steps, size = jax.tree.leaves(items)[0].shape[:2]
    if size % devices == 0:
        return jax.tree.map(lambda x: x.reshape(steps, devices, -1, *x.shape[2:]), items), None
    rows, counts = shares(size, devices)
    return jax.tree.map(lambda x: x[:, rows], items), jnp.asarray(np.tile(counts, (steps, 1)))


def _places(state: TrainState, mesh: Mesh) -> PyTree:
    """Where each array of the state lies, if it is on this mesh; otherwise it is replicated."""
    everywhere = NamedSharding(mesh, PartitionSpec())

    def place(leaf: Any) -> NamedSharding:
        sharding = getattr(leaf, "sharding", None)
        return sharding if isinstance(sharding, NamedSharding) and sharding.mesh == mesh else everywhere

    return jax.tree.map(place, state)


def _finished(out: PyTree, mesh: Mesh) -> PyTree:
    # Virtual CPU devices share threads: of two programs under way each can hold what the other's collectives want.
    one_at_a_time = mesh.size > 1 and mesh.devices.flat[0].platform == "cpu"
    return jax.block_until_ready(out) if one_at_a_time else out
