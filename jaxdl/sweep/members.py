"""Trains the members of a group together: from options to programs of `jaxdl.methods.sweep`, and to records."""

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import NamedSharding

from jaxdl import build, parts
from jaxdl.config import TrainConfig, replace
from jaxdl.data.loader import Chunk
from jaxdl.data.sources import Source
from jaxdl.engine import metrics as averages
from jaxdl.engine import parallel, step
from jaxdl.engine.loop import Hook, Late, fit
from jaxdl.engine.state import TrainState
from jaxdl.methods import sweep
from jaxdl.nn import losses
from jaxdl.nn.dropout import Dropout
from jaxdl.pictures import Pictures
from jaxdl.sweep.groups import Group, with_values
from jaxdl.typing import Array, Batch, LossFn, Metrics, PyTree

TRIAL_STEPS = 20  # that are timed where it is not known which way is the faster
LONGER = 16  # times the steps in a program of `jaxdl.train`: every length is compiled, and members are many

Record = dict[str, Any]  # of one member after one epoch
# Told of an epoch: place within the group -> record, of those that were trained; gives those that shall stop.
Report = Callable[[Mapping[int, Record]], Collection[int]]


def use_cores() -> None:
    """Makes a device of each core that this process may use, unless the environment says how many there are.

    To be called before JAX starts.
    """
    given = "JAX_NUM_CPU_DEVICES" in os.environ
    if given or "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    with contextlib.suppress(RuntimeError):  # it has started: its devices are what they are
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))


def check(config: TrainConfig, source: Source) -> None:
    """What a run would say of its options before it begins, also of those that are arrays to a program.

    Raises:
      ValueError: options that do not fit each other or the data.
    """
    run = config.run
    if (run.steps if run.steps is not None else run.epochs) < 1:
        raise ValueError(f"expected at least one step, got --epochs {run.epochs} --steps {run.steps}")
    loader, seen = build.train_loader(config, source), Pictures(source.image_shape, source.classes)
    parts.optimizer(config.optim, loader.steps_per_epoch, (run.steps or run.epochs * loader.steps_per_epoch))
    seen.inputs(config.data.augment)
    smoothing = config.optim.label_smoothing
    losses.cross_entropy(jnp.zeros((1, 2)), jnp.zeros(1, jnp.int32), label_smoothing=smoothing)
    if config.model.dropout == 1:
        raise ValueError("--dropout must be below 1 where runs are trained together; got 1.0")
    nnx.eval_shape(lambda: parts.model(config.model, seen, jax.random.key(0)))


class Members:
    """The program of a group; it can train other groups that have the same.

    Args:
      group: the group.
      source: the data; the members are measured on its test split.
      capacity: members that there is room for; None: those of the group. Each capacity is a program of its own.
      way: how a device goes through its members; None: the faster one, see `Members.choose`.
      like: another program on the same data, whose copy of them is used.

    Attributes:
      job: the run of the first member, put together.
      mesh: the devices that members are shared out to.
      way, why: how a device goes through its members, and the reason.

    Raises:
      ValueError: options that do not fit each other or the data.
    """

    def __init__(
        self,
        group: Group,
        source: Source,
        *,
        capacity: int | None = None,
        way: sweep.Way | None = None,
        like: "Members | None" = None,
    ) -> None:
        self.source, self.config = source, group.config
        self.job = build.job(group.config, source)
        devices, room = jax.local_devices(), capacity or len(group.places)
        self.mesh = parallel.make_mesh(devices[: min(len(devices), room)])
        self.capacity = -(-room // self.mesh.size) * self.mesh.size
        # Member i lies in row rows[i], so that the devices have as many each as can be.
        self.rows = np.arange(self.capacity).reshape(self.mesh.size, -1).T.ravel()
        if like is not None and like.mesh == self.mesh:
            self.arrays = like.arrays
        else:
            self.arrays = parallel.replicate(self.mesh, self.job.loader.resident_arrays)
        self.graph = build.start(group.config, self.job.seen, optax.identity())[1]
        self.way, self.why = (way, "as asked") if way else self.choose(group)
        self.program = self._program(self.way)
        self.evaluate = sweep.evaluator(self.job.eval_step, self.job.tests, self.mesh, self.way)

    def train(
        self, group: Group, report: Report, progress: Callable[[int, float, float], None] = lambda *_: None
    ) -> TrainState:
        """Trains the members of a group with this program from their starts, and returns their last states.

        Args:
          group: at most as many members as there is room for.
          report: told of each epoch, says who stops; those whose loss is no number stop anyway.
          progress: told of each chunk: ``(step, mean loss, mean accuracy)``.
        """
        who, rows = self._who(group), self.rows[: len(group.places)]
        active = np.isin(np.arange(self.capacity), rows)
        track = Track(self, rows, active, report, progress)
        values = self._values(group, who)

        def run(states: TrainState, items: PyTree) -> tuple[TrainState, Metrics]:
            return self.program(states, values, self.own(active), self.arrays, items)

        def chunks() -> Iterator[Chunk]:
            for chunk in self._chunks(group, who, self.chunk_steps):
                if not active.any():
                    return
                yield chunk

        return fit(self._starts(group, who), run, chunks(), [track])

    def weights(self, states: TrainState, place: int) -> tuple[PyTree, PyTree]:
        """``(params, stats)`` of a member of the group, on the host."""
        return jax.device_get(sweep.member((states.params, states.stats), int(self.rows[place])))

    @property
    def chunk_steps(self) -> int:
        """Steps in a program: chunks of an epoch are as equal as can be, since each length is compiled."""
        full = max(self.job.loader.full_batches, 1)
        most = max(LONGER * self.job.chunk_steps * self.mesh.size // self.capacity, 1)
        return -(-full // -(-full // most))

    def choose(self, group: Group) -> tuple[sweep.Way, str]:
        """The faster way, and how that is known: on a CPU by earlier measurements, elsewhere by one made here."""
        if self.mesh.devices.flat[0].platform == "cpu":
            return "map", "a core does a batched product of many members slower than their own"
        if self.capacity == self.mesh.size:
            return "map", "there is one member on a device"
        seconds = sweep.fastest({way: self._trial(way, group) for way in ("map", "vmap")})
        best = min(seconds, key=lambda way: seconds[way])
        measured = ", ".join(f"{way} {value:.2f} s" for way, value in seconds.items())
        return best, f"{TRIAL_STEPS} steps took: {measured}"

    def _trial(self, way: sweep.Way, group: Group) -> Callable[[], Any]:
        program, who = self._program(way), self._who(group)
        starts, values = self._starts(group, who), self._values(group, who)
        items = next(self._chunks(group, who, TRIAL_STEPS)).items
        active = self.own(np.ones(self.capacity, bool))
        return lambda: program(jax.tree.map(jnp.copy, starts), values, active, self.arrays, items)

    def _program(self, way: sweep.Way) -> Callable[..., tuple[TrainState, Metrics]]:
        return sweep.train_chunk(self._step, self.job.loader.take, self.mesh, way)

    def _step(self, values: Mapping[str, Array]) -> step.Step:
        """The step of a member with these values."""
        config = with_values(self.config, values)
        loss_fn = build.objective(config.optim, self.source)
        return step.train_step(
            self.graph,
            dropping(loss_fn, values["dropout"]) if "dropout" in values else loss_fn,
            self._optimizer(values),
            self.job.seen.inputs(config.data.augment, [*values["augment"]] if "augment" in values else None),
            parts.DTYPES[config.run.precision],
        )

    def _optimizer(self, values: Mapping[str, Array]) -> optax.GradientTransformation:
        options = with_values(self.config, values).optim
        return parts.optimizer(options, self.job.loader.steps_per_epoch, self.job.steps)

    def _who(self, group: Group) -> np.ndarray:
        """The member of the group in each row (capacity,); rows that are left over have the first, who is idle."""
        who = np.zeros(self.capacity, int)
        who[self.rows[: len(group.places)]] = np.arange(len(group.places))
        return who

    def own(self, values: Any) -> Any:
        """Values with a leading axis of rows, each on its device."""
        return jax.device_put(values, NamedSharding(self.mesh, sweep.OWN))

    def _values(self, group: Group, who: np.ndarray) -> dict[str, Array]:
        return {name: self.own(values[who]) for name, values in group.values.items()}

    def _starts(self, group: Group, who: np.ndarray) -> TrainState:
        by_seed = {
            seed: build.start(replace(self.config, {"seed": seed}), self.job.seen, optax.identity())[2]
            for seed in set(group.seeds)
        }
        states = sweep.stack([by_seed[group.seeds[place]] for place in who], self.mesh)
        init = jax.jit(jax.vmap(lambda values, params: self._optimizer(values).init(params)))
        return dataclasses.replace(states, opt_state=self.own(init(self._values(group, who), states.params)))

    def _chunks(self, group: Group, who: np.ndarray, steps: int) -> Iterator[Chunk]:
        by_seed = {
            seed: build.train_loader(replace(self.config, {"seed": seed}), self.source)
            for seed in set(group.seeds)
        }
        for chunk in sweep.chunks([by_seed[group.seeds[place]] for place in who], self.job.steps, steps):
            yield dataclasses.replace(chunk, items=self.own(chunk.items))


class Track(Hook):
    """Reports every member after each epoch, and remembers who goes on.

    Args:
      members: have the evaluation.
      rows: where each member lies.
      active: (capacity,) bool, changed in place: told to stop, or with a loss that is no number, a member is idle.
      report, progress: see `Members.train`.
    """

    def __init__(
        self,
        members: Members,
        rows: np.ndarray,
        active: np.ndarray,
        report: Report,
        progress: Callable[[int, float, float], None],
    ) -> None:
        self.members, self.rows, self.active = members, rows, active
        self.report, self.progress = report, progress
        self.sums: Metrics = {}  # (members,) of the epoch so far

    def on_metrics(self, chunk: Chunk, metrics: Metrics) -> None:
        part = {name: _member_sums([pair], self.rows) for name, pair in metrics.items()}
        self.sums = averages.add(self.sums, part)
        (loss, count), (right, _) = part["loss"], part["accuracy"]
        fit = np.isfinite(loss)
        examples = max(float(count[fit].sum()), 1.0)
        self.progress(chunk.stop, float(loss[fit].sum()) / examples, float(right[fit].sum()) / examples)

    def due(self, step: int) -> bool:
        return step % self.members.job.loader.steps_per_epoch == 0 or step == self.members.job.steps

    def on_state(self, step: int, state: TrainState, late: Late) -> None:
        late.flush()
        batches = jax.device_get(self.members.evaluate(state, self.members.own(self.active)))
        tested = {name: _member_sums([part[name] for part in batches], self.rows) for name in batches[0]}
        trained, self.sums = self.sums, {}
        records = {
            place: {"step": step, "epoch": step / self.members.job.loader.steps_per_epoch}
            | {name: _mean(pair, place) for name, pair in tested.items()}
            | {f"train_{name}": _mean(trained[name], place) for name in tested}
            for place, row in enumerate(self.rows)
            if self.active[row]
        }
        stop = {*self.report(records), *(place for place, record in records.items() if diverged(record))}
        self.active[self.rows[sorted(stop)]] = False


def diverged(record: Record) -> bool:
    """Whether a member's loss is no number any more."""
    return not (math.isfinite(record["loss"]) and math.isfinite(record["train_loss"]))


def dropping(loss_fn: LossFn, rate: Array) -> LossFn:
    """The loss with another rate in every dropout of the model."""

    def dropped(model: nnx.Module, batch: Batch, rngs: nnx.Rngs | None) -> tuple[Array, Metrics]:
        for _, module in nnx.iter_modules(model):
            if isinstance(module, Dropout):
                module.rate = rate
        return loss_fn(model, batch, rngs)

    return dropped


def _member_sums(pairs: Sequence[tuple[Any, Any]], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums and counts (members, steps) as those of each member, (members,) float64."""
    sums, counts = (
        sum(np.asarray(part)[rows].sum(1, dtype=np.float64) for part in side) for side in zip(*pairs, strict=True)
    )
    return np.asarray(sums), np.asarray(counts)


def _mean(pair: tuple[np.ndarray, np.ndarray], place: int) -> float:
    total, count = pair[0][place], pair[1][place]
    return float(total / count) if count else math.nan
