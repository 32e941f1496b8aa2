"""A pipeline: devices hold the stages of a model, and micro-batches pass through them one behind the other.

All devices run one program. In every tick a device takes its stage's step on the micro-batch that has reached it,
and hands the activations on; the gradient runs through the ticks backwards. What lies inside a stage is computed
again there, so that only activations at the cuts are kept. With S stages and M micro-batches S - 1 of the M + S -
1 ticks find a device idle.

Source: Huang et al. 2018, "GPipe"; torch's ``torch.distributed.pipelining.ScheduleGPipe``.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from jaxdl.engine.parallel.devices import AXIS, MODEL
from jaxdl.engine.parallel.flat import Flat
from jaxdl.engine.stages import Program
from jaxdl.engine.state import TrainState
from jaxdl.engine.step import Differentiate, Objective
from jaxdl.typing import Array, Batch, Metrics, PyTree

PER_STAGE = 4  # micro-batches: idle in less than a fifth of the ticks, as GPipe advises


def pipeline(mesh: Mesh, micro_batches: int | None = None, cuts: Sequence[str] = ()) -> Differentiate:
    """The gradient of a batch by stages, each on a device of its own.

    BatchNorm sees a micro-batch at a time, and its running statistics follow each, as in torch's pipelines.
    Dropout is drawn for each micro-batch.

    Args:
      mesh: the devices along its axis ``"model"`` are the stages; along ``"data"`` a batch is split.
      micro_batches: of a device's share of a batch; by default 4 for each stage. A share that they do not divide
        has as many as divide both.
      cuts: the layers with which all stages but the first begin; by default by their work.
    """
    stages = mesh.shape[MODEL]

    def differentiate(
        objective: Objective, state: TrainState, batch: Batch, key: Array
    ) -> tuple[PyTree, PyTree, Metrics]:
        share = len(batch["image"]) // mesh.shape[AXIS]
        count = math.gcd(share, micro_batches or PER_STAGE * stages)
        part = {name: jax.ShapeDtypeStruct((share // count, *x.shape[1:]), x.dtype) for name, x in batch.items()}
        line = _Line(objective, state, part, key, stages, cuts)
        grads, stats, metrics = jax.shard_map(
            lambda own, stats, batch, key: _on_a_device(line, count, own, stats, batch, key),
            mesh=mesh,
            in_specs=(PartitionSpec(MODEL), PartitionSpec(), PartitionSpec(AXIS), PartitionSpec()),
            out_specs=(PartitionSpec(MODEL), PartitionSpec(), PartitionSpec()),
            check_vma=False,
        )(line.pack(state.params), state.stats, batch, key)
        return line.unpack(grads), stats, metrics

    return differentiate


class _Line:
    """The stages of an objective, as branches that take and give arrays of the same sizes.

    Attributes:
      stages: of the objective for one micro-batch.
      carried: what is handed over in front of each, and the widest of them.
    """

    def __init__(
        self,
        objective: Objective,
        state: TrainState,
        part: dict[str, jax.ShapeDtypeStruct],
        key: Array,
        stages: int,
        cuts: Sequence[str],
    ) -> None:
        others = {name: shape for name, shape in part.items() if name != "image"}

        def program(params: PyTree, image: Array, others: Batch, stats: PyTree, key: Array) -> Any:
            return objective(params, stats, {**others, "image": image}, key)

        # Shapes alone: the arrays would bring along how they lie on all devices, and this is about one.
        params, stats, key_shape = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), (state.params, state.stats, key)
        )
        traced = Program(program, params, part["image"], others, stats, key_shape)
        self.stages = traced.cut(cuts or traced.balanced(stages))
        leaves, self._structure = jax.tree.flatten(params)
        self._own = [Flat([leaves[place] for place in stage.params]) for stage in self.stages]
        self._carried = [Flat(stage.carried) for stage in self.stages]
        self._leaves, self._returned = leaves, traced.returned
        self.width = Flat.widest(self._carried)

    def pack(self, params: PyTree) -> dict[str, Array]:
        """Each stage's parameters in a row of their own, by dtype (stages, most)."""
        leaves, widest = jax.tree.leaves(params), Flat.widest(self._own)
        rows = [
            flat.pack([leaves[place] for place in stage.params], widest)
            for stage, flat in zip(self.stages, self._own, strict=True)
        ]
        return {name: jnp.stack([row[name] for row in rows]) for name in widest}

    def unpack(self, rows: dict[str, Array]) -> PyTree:
        """The inverse of `pack`, where a parameter of several stages gets their sum."""
        sums: list[Any] = [jnp.zeros(leaf.shape, leaf.dtype) for leaf in self._leaves]
        for number, (stage, flat) in enumerate(zip(self.stages, self._own, strict=True)):
            own = flat.unpack({name: values[number] for name, values in rows.items()})
            for place, value in zip(stage.params, own, strict=True):
                sums[place] = sums[place] + value
        return jax.tree.unflatten(self._structure, sums)

    def branches(self) -> list[Callable[..., Any]]:
        """``(own, others, stats, key, image, carried) -> (carried on, what the objective returns)``, a stage each.

        Where a stage computes nothing of what is returned there are zeros, but the statistics as they were. The
        last branch is for a device that has nothing to do.
        """
        return [*(self._branch(number) for number in range(len(self.stages))), self._idle]

    def _branch(self, number: int) -> Callable[..., Any]:
        stage, last = self.stages[number], number + 1 == len(self.stages)

        def run(own: Any, others: Batch, stats: PyTree, key: Array, image: Array, carried: Any) -> Any:
            given = self._carried[number].unpack(carried) if number else [image]
            rest = jax.tree.leaves((others, stats, key))
            onward, outputs = stage.run(self._own[number].unpack(own), rest, given)
            carried, returned = self._idle(own, others, stats, key, image, carried)
            leaves, structure = jax.tree.flatten(returned)
            for place, output in zip(stage.outputs, outputs, strict=True):
                leaves[place] = output
            if not last:
                carried = self._carried[number + 1].pack(onward, self.width)
            return carried, jax.tree.unflatten(structure, leaves)

        return run

    def _idle(self, _own: Any, _others: Batch, stats: PyTree, _key: Array, _image: Array, carried: Any) -> Any:
        loss, (_, metrics) = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self._returned)
        return jax.tree.map(jnp.zeros_like, carried), (loss, (stats, metrics))

    def owners(self) -> PyTree:
        """Which stage computes each leaf of the statistics; 0 where none does."""
        leaves, structure = jax.tree.flatten(self._returned)
        by_place = {place: number for number, stage in enumerate(self.stages) for place in stage.outputs}
        return jax.tree.unflatten(structure, [by_place.get(place, 0) for place in range(len(leaves))])[1][0]


def _on_a_device(
    line: _Line, count: int, own: PyTree, stats: PyTree, batch: Batch, key: Array
) -> tuple[PyTree, PyTree, Metrics]:
    """The gradient of this device's stage, and what all of them agree on."""
    stage, stages = jax.lax.axis_index(MODEL), len(line.stages)
    key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))
    parts = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)
    branches = line.branches()

    def loss(own: PyTree) -> tuple[Array, tuple[PyTree, Metrics]]:
        @jax.checkpoint
        def tick(carry: Any, time: Array) -> Any:
            carried, stats = carry
            number = time - stage  # of the micro-batch that is here
            busy = (number >= 0) & (number < count)
            part = jax.tree.map(lambda x: x[jnp.clip(number, 0, count - 1)], parts)
            image = part.pop("image")
            where = jnp.where(busy, stage, stages)
            carried, (value, (stats, metrics)) = jax.lax.switch(
                where, branches, own, part, stats, jax.random.fold_in(key, number), image, carried
            )
            onward = [(place, place + 1) for place in range(stages - 1)]
            carried = jax.tree.map(lambda x: jax.lax.ppermute(x, MODEL, onward), carried)
            # A micro-batch weighs as much as its loss counts.
            return (carried, stats), (
                value * jax.lax.stop_gradient(metrics["loss"][1]).astype(value.dtype),
                metrics,
            )

        empty = {name: jnp.zeros(size, name) for name, size in line.width.items()}
        (_, last), (losses, metrics) = jax.lax.scan(
            tick, (empty, stats), jnp.arange(count + stages - 1, dtype=jnp.int32)
        )
        return losses.sum(), (last, jax.tree.map(lambda x: x.sum(0), metrics))

    grads, (stats, metrics) = jax.grad(loss, has_aux=True)(jax.tree.map(lambda x: x[0], own))
    metrics = jax.lax.psum(metrics, (AXIS, MODEL))
    total = metrics["loss"][1]
    grads = jax.tree.map(lambda g: (jax.lax.psum(g, AXIS) / total.astype(g.dtype))[None], grads)

    def of_owner(value: Array, owner: int) -> Array:
        mine = (stage == owner) & (jax.lax.axis_index(AXIS) == 0)
        return jax.lax.psum(jnp.where(mine, value, jnp.zeros_like(value)), (AXIS, MODEL))

    return grads, jax.tree.map(of_owner, stats, line.owners()), metrics
