"""The average of a model's weights over its training, SWA and EMA: torch's ``AveragedModel`` and ``update_bn``.

`Averaged` is a model and its average, both in the parameters of a run: `following` moves the average behind every
step of an optimizer, `tracking` moves its running statistics, `average_of` takes it out.
Source: Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima"; Polyak and Juditsky 1992;
https://docs.pytorch.org/docs/stable/optim.html#weight-averaging-swa-and-ema
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxdl.data.loader import Loader
from jaxdl.engine import parallel
from jaxdl.nn.norm import BatchNorm
from jaxdl.typing import Array, Batch, LossFn, Metrics, PyTree

# (average, newest, how many are in the average) -> average, leaf by leaf.
Rule = Callable[[Array, Array, Array], Array]


def swa_rule(average: Array, newest: Array, count: Array) -> Array:
    """The equal mean of all: ``average + (newest - average) / (count + 1)``."""
    return average + (newest - average) / (count + 1).astype(average.dtype)


def ema_rule(decay: float = 0.999) -> Rule:
    """The exponential mean: ``decay * average + (1 - decay) * newest``.

    Raises:
      ValueError: a decay outside [0, 1].
    """
    if not 0 <= decay <= 1:
        raise ValueError(f"the decay of an average must lie in [0, 1]; got {decay}")
    return lambda average, newest, _: average + (newest - average) * jnp.asarray(1 - decay, average.dtype)


class When(NamedTuple):
    """After which steps the average takes the weights in: ``start``, and every ``every`` from there on."""

    start: int = 1
    every: int = 1

    def due(self, step: Array) -> Array:
        """Whether it does after ``step`` steps."""
        return (step >= self.start) & ((step - self.start) % self.every == 0)


class Averaged(nnx.Module):
    """A model in training and its average, which starts as a copy and is one until the average begins."""

    def __init__(self, model: nnx.Module) -> None:
        self.model, self.average = model, nnx.clone(model)
        self.steps = nnx.BatchStat(jnp.zeros((), jnp.int32))
        self.count = nnx.BatchStat(jnp.zeros((), jnp.int32))  # of the statistics in the average


def average_of(parts: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
    """``(params, stats)`` of the average, of those of an `Averaged` model."""
    params, stats = parts
    return params["average"], stats.get("average", {})


class FollowingState(NamedTuple):
    """Steps taken and weights in the average, int32, and the state of the optimizer within."""

    step: Array
    averaged: Array
    inner: PyTree


def following(tx: optax.GradientTransformation, rule: Rule, when: When) -> optax.GradientTransformation:
    """``tx`` for the parameters of an `Averaged` model's ``model``, and behind it the move of its ``average``.

    Args:
      tx: the optimizer.
      rule: `swa_rule` or an `ema_rule`.
      when: after which steps.
    """

    def init(params: PyTree) -> FollowingState:
        return FollowingState(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32), tx.init(params["model"]))

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, FollowingState]:
        steps, inner = tx.update(updates["model"], state.inner, params["model"])
        newest = optax.apply_updates(params["model"], steps)
        due = when.due(state.step + 1)
        average = _moved(rule, due, state.averaged, params["average"], newest)
        moves = jax.tree.map(jnp.subtract, average, params["average"])
        averaged = state.averaged + due.astype(jnp.int32)
        return {"model": steps, "average": moves}, FollowingState(state.step + 1, averaged, inner)

    return optax.GradientTransformation(init, update)


def tracking(plain: LossFn, rule: Rule, when: When, *, use_buffers: bool = False) -> LossFn:
    """The plain loss of an `Averaged` model's ``model``; the average's running statistics follow.

    Args:
      plain: the loss.
      rule, when: as in `following`.
      use_buffers: whether statistics are averaged as parameters are; otherwise those of the model are taken over
        whenever the parameters are averaged, as torch does, and `update_bn` puts them right at the end.
    """

    def loss_fn(averaged: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[Array, Metrics]:
        loss, metrics = plain(averaged.model, batch, rngs)
        step, count = averaged.steps[...] + 1, averaged.count[...]
        newest, old = (nnx.to_pure_dict(nnx.state(m, nnx.BatchStat)) for m in (averaged.model, averaged.average))
        due = when.due(step)
        taken_over: Rule = lambda _, newest, __: newest  # noqa: E731
        nnx.update(averaged.average, _moved(rule if use_buffers else taken_over, due, count, old, newest))
        averaged.steps[...], averaged.count[...] = step, count + due.astype(jnp.int32)
        return loss, metrics

    return loss_fn


def _moved(rule: Rule, due: Array, count: Array, average: PyTree, newest: PyTree) -> PyTree:
    """The average after a step: the newest weights until the first is in it, then moved where it is due."""

    def moved(old: Array, new: Array) -> Array:
        wide = (old, new) if jnp.issubdtype(old.dtype, jnp.floating) else (old.astype(float), new.astype(float))
        mean = rule(*wide, count).astype(old.dtype)  # counters are cut off, as torch does
        return jnp.where(count == 0, new, jnp.where(due, mean, old))

    return jax.tree.map(moved, average, newest)


def update_bn(model: nnx.Module, params: PyTree, stats: PyTree, loader: Loader, prepare: Any) -> PyTree:
    """The running statistics that these parameters have on the loader's batches: the mean over the batches.

    Args:
      model: gives the structure.
      params, stats: of the model; statistics of other layers than BatchNorm stay.
      loader: the batches, of which one pass is made.
      prepare: ``batch -> batch`` with the model's input.
    """
    view = nnx.view(model, deterministic=True, use_running_average=False, raise_if_not_found=False)
    graph = nnx.graphdef(view)

    def of_batch(state: Any, batch: Batch) -> PyTree:
        model = nnx.merge(graph, state["params"], state["stats"])
        for _, module in nnx.iter_modules(model):
            if isinstance(module, BatchNorm):
                module.momentum = 1.0  # so the statistics are those of this batch
        model(prepare(batch)["image"], None)
        return nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

    mesh = parallel.make_mesh(parallel.first_devices(1))
    state: Any = {"params": params, "stats": stats}
    parts = jax.device_get(parallel.evaluator(of_batch, loader, mesh)(state))

    def mean(old: Array, *batches: Any) -> Array:
        if jnp.issubdtype(old.dtype, jnp.floating):
            return jnp.concatenate([jnp.asarray(part) for part in batches]).mean(0).astype(old.dtype)
        return jnp.asarray(loader.steps_per_epoch, old.dtype)  # how many batches were tracked

    return jax.tree.map(mean, stats, *parts)
