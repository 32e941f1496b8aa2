"""Many trainings as one compiled program: members that differ in their start, their batches and their numbers.

Everything of a member lies along a leading axis of members: its `TrainState`, its values (option -> number), its
part of a chunk. Members are shared out to the devices of a mesh; no member hears of another. On a device they are
trained in one of two ways:

  map: one after another, by the program that trains one alone.
  vmap: all at once, every operation batched. A GPU has room for that; a CPU has not, and convolutions whose
    kernels are batched become slow grouped ones.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxdl.data.loader import Chunk, Loader
from jaxdl.engine.parallel import AXIS, replicate
from jaxdl.engine.parallel.programs import EVAL_CHUNK, Take
from jaxdl.engine.state import TrainState
from jaxdl.engine.step import Step
from jaxdl.typing import Array, Batch, Metrics, PyTree

Way = Literal["map", "vmap"]
Values = Mapping[str, Array]

OWN, COMMON = PartitionSpec(AXIS), PartitionSpec()


def train_chunk(
    step_of: Callable[[Values], Step], take: Take, mesh: Mesh, way: Way
) -> Callable[[TrainState, Values, Array, PyTree, PyTree], tuple[TrainState, Metrics]]:
    """``(states, values, active, arrays, items) -> (states, metrics)``: many steps of every member as one program.

    Args:
      step_of: the step of a member with these values, each an array ().
      take: as in `jaxdl.engine.parallel.train_chunk`.
      mesh: its devices have the same number of members each.
      way: how a device goes through its members.

    ``active`` (members,) bool: others stay as they are, and cost nothing where members are mapped. ``arrays`` is
    common to all; the axes of ``items`` are (members, steps, batch, ...), those of the metrics (members, steps).
    The states are donated.
    """
    # As jaxdl.engine.parallel has it.
    unroll = 1 if mesh.devices.flat[0].platform == "cpu" else 4

    def one(arrays: PyTree, state: TrainState, values: Values, items: PyTree) -> tuple[TrainState, Metrics]:
        step = step_of(values)

        def body(state: TrainState, item: PyTree) -> tuple[TrainState, Metrics]:
            return step(state, take(arrays, item))

        return jax.lax.scan(body, state, items, unroll=unroll)

    def chunk(states: TrainState, values: Values, active: Array, arrays: PyTree, items: PyTree) -> Any:
        return _over_members(one, way, active, arrays, (states, values, items))

    return _placed(chunk, mesh, (OWN, OWN, OWN, COMMON, OWN), donate=(0,))


def evaluator(
    step: Callable[[TrainState, Batch], PyTree], loader: Loader, mesh: Mesh, way: Way
) -> Callable[[TrainState, Array], list[PyTree]]:
    """``(states, active) -> what ``step`` gives for every batch of the loader``, with axes (members, batches)."""

    def one(arrays: PyTree, state: TrainState, items: PyTree) -> tuple[TrainState, PyTree]:
        return state, jax.lax.map(lambda item: step(state, loader.take(arrays, item)), items)

    def chunk(states: TrainState, active: Array, arrays: PyTree, items: PyTree) -> PyTree:
        def member(common: PyTree, state: TrainState) -> tuple[TrainState, PyTree]:
            return one(common[0], state, common[1])

        return _over_members(member, way, active, (arrays, items), (states,))[1]

    program = _placed(chunk, mesh, (OWN, OWN, COMMON, COMMON))
    arrays = replicate(mesh, loader.resident_arrays)

    def evaluate(states: TrainState, active: Array) -> list[PyTree]:
        chunks = loader.chunks(0, loader.steps_per_epoch, EVAL_CHUNK)
        return [program(states, active, arrays, replicate(mesh, part.items)) for part in chunks]

    return evaluate


def stack(members: Sequence[PyTree], mesh: Mesh) -> PyTree:
    """The members' trees as one with a leading axis, each on its device.

    Raises:
      ValueError: their number is no multiple of that of the devices.
    """
    if len(members) % mesh.size:
        raise ValueError(f"expected a multiple of {mesh.size} members, as many on each device; got {len(members)}")
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    return jax.device_put(stacked, NamedSharding(mesh, OWN))


def member(states: PyTree, number: int) -> PyTree:
    """The tree of one member."""
    return jax.tree.map(lambda leaf: leaf[number], states)


def chunks(loaders: Sequence[Loader], stop: int, steps: int) -> Any:
    """The chunks of all members as one each: ``items`` has a leading axis of members.

    Args:
      loaders: of the members; they differ in their seed alone. Equal ones may be the same object.
      stop: steps of a member.
      steps: at most in a chunk.
    """
    distinct = list(dict.fromkeys(loaders))
    place = [distinct.index(loader) for loader in loaders]
    for parts in zip(*(loader.chunks(0, stop, steps) for loader in distinct), strict=True):
        items = jax.tree.map(
            lambda *leaves: np.stack([leaves[own] for own in place]), *(part.items for part in parts)
        )
        yield Chunk(parts[0].start, parts[0].stop, items)


def fastest(candidates: Mapping[Way, Callable[[], Any]]) -> dict[Way, float]:
    """The seconds that each takes the second time, compiled; infinite where the device lacks the memory for it."""
    return {way: _seconds(run) for way, run in candidates.items()}


def _seconds(run: Callable[[], Any]) -> float:
    try:
        jax.block_until_ready(run())
        started = time.perf_counter()
        jax.block_until_ready(run())
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return math.inf
    return time.perf_counter() - started


def _over_members(
    one: Callable[..., tuple[TrainState, PyTree]],
    way: Way,
    active: Array,
    common: PyTree,
    members: tuple[Any, ...],
) -> tuple[TrainState, PyTree]:
    """``one(common, *of a member)`` for every active member; the others keep their state and have zeros."""
    if way == "vmap":  # which computes both sides of a condition
        return jax.vmap(lambda *member: one(common, *member))(*members)

    def guarded(member: tuple[Array, tuple[Any, ...]]) -> tuple[TrainState, PyTree]:
        own_active, own = member
        shapes = jax.eval_shape(lambda own: one(common, *own), own)[1]
        nothing = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
        return jax.lax.cond(own_active, lambda own: one(common, *own), lambda own: (own[0], nothing), own)

    return jax.lax.map(guarded, (active, members))


def _placed(
    chunk: Callable[..., PyTree], mesh: Mesh, specs: tuple[PartitionSpec, ...], donate: tuple[int, ...] = ()
) -> Callable[..., PyTree]:
    # Not checked: what does not depend on a member, as a constant rate, takes the place of each member's.
    shared_out = jax.shard_map(chunk, mesh=mesh, in_specs=specs, out_specs=OWN, check_vma=False)
    return jax.jit(shared_out, donate_argnums=donate)
