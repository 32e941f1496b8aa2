"""A classifier with further heads, and the loss of several tasks on one step."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdl import tree
from jaxdl.engine.metrics import average
from jaxdl.methods.features import Answered, with_outputs
from jaxdl.methods.multitask import balance
from jaxdl.methods.multitask.tasks import LABEL, Task
from jaxdl.nn import losses
from jaxdl.nn.linear import Linear
from jaxdl.typing import Array, Batch, LossFn, Metrics, PyTree

Weighting = Literal["fixed", "uncertainty", "gradnorm"]


@dataclasses.dataclass(frozen=True)
class Balance:
    """How tasks are weighed.

    Attributes:
      weighting: by ``weights``, by uncertainty, or by GradNorm.
      weights: one a task (fixed); empty: all 1.
      pcgrad: take conflicts out of the gradients of the shared parameters.
      alpha: GradNorm's.
    """

    weighting: Weighting = "fixed"
    weights: tuple[float, ...] = ()
    pcgrad: bool = False
    alpha: float = 1.5

    def check(self, tasks: Sequence[Task]) -> None:
        """Raises ValueError for what does not go together."""
        if self.weights and (self.weighting != "fixed" or len(self.weights) != len(tasks)):
            raise ValueError(
                f"--weights expects one number for each of {', '.join(task.name for task in tasks)}, and "
                f"--weighting fixed; got {len(self.weights)} and {self.weighting}"
            )
        if any(not (weight >= 0 and math.isfinite(weight)) for weight in self.weights):
            raise ValueError(f"--weights must be 0 or more; got {' '.join(map(str, self.weights))}")
        if not self.alpha >= 0:
            raise ValueError(f"--gradnorm-alpha must be 0 or more; got {self.alpha}")


class MultiTask(nnx.Module):
    """A classifier and a linear head for each further task, on what one of its layers gives.

    Args:
      model: the classifier; its parameters are those under ``model``.
      layer: whose output the heads read, see `jaxdl.methods.features.with_outputs`; maps and tokens are averaged.
      head: the first part of the names of the classifier's own head, the parameters it shares with no other task.
      features: of that layer.
      tasks: in the order of their losses.
      rngs: draws the heads' weights from its ``params`` stream.
    """

    def __init__(
        self, model: nnx.Module, layer: str, head: str, features: int, tasks: Sequence[Task], *, rngs: nnx.Rngs
    ) -> None:
        self.model, self.layer, self.head = model, layer, head
        self.heads = nnx.Dict({task.name: Linear(features, 1, rngs=rngs) for task in tasks if task.name != LABEL})
        self.log_variances = nnx.Param(jnp.zeros(len(tasks)))
        self.balance = nnx.Param(jnp.zeros(len(tasks)))
        self.initial = nnx.BatchStat(jnp.zeros(len(tasks)))  # the losses of the first step, 0 before it

    def __call__(self, image: Array, rngs: nnx.Rngs | None = None) -> dict[str, Array]:
        """``label``: logits (B, classes); every other task: (B,)."""
        logits, [features] = with_outputs(self.model, [self.layer], image, rngs)
        features = features.reshape(len(features), -1, features.shape[-1]).mean(1)
        return {LABEL: logits, **{name: head(features)[:, 0] for name, head in self.heads.items()}}

    def shares(self, name: str) -> bool:
        """Whether a parameter of this name is of the trunk, which all tasks share."""
        return name.startswith("model.") and not name.startswith(f"model.{self.head}.")


def classifier_of(parts: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
    """The classifier's ``(params, stats)`` of those of a `MultiTask` model."""
    params, stats = parts
    return params["model"], stats.get("model", {})


def task_loss(task: Task, output: Array, target: Array) -> Array:
    """The mean loss of a task other than the class, (); outputs and targets (B,)."""
    output, target = output.astype(target.dtype), target
    if task.kind == "binary":
        return losses.binary_cross_entropy_with_logits(output, target)
    return losses.mse_loss(output, target)


def multitask(plain: LossFn, tasks: Sequence[Task], how: Balance) -> LossFn:
    """The loss of a `MultiTask` model for all tasks.

    Where tasks' gradients are looked at (GradNorm, PCGrad), the loss that is returned has the gradient that comes
    out of it: ``<gradient, parameters>`` with the gradient held constant, so the step need not know.

    Args:
      plain: the loss of the class alone; its penalties on parameters are added.
      tasks: those that count.
      how: they are weighed.

    Raises:
      ValueError: see `Balance.check`.
    """
    how.check(tasks)

    def loss_fn(model: Any, batch: Batch, rngs: nnx.Rngs | None) -> tuple[Array, Metrics]:
        graph, *parts = nnx.split(model, nnx.Param, nnx.BatchStat)
        params, old = map(nnx.to_pure_dict, parts)  # states of an outer trace could not be changed in an inner one
        key = rngs.dropout() if rngs is not None else None

        def run(params: PyTree) -> tuple[Array, tuple[Any, Array, Metrics]]:
            own = nnx.merge(graph, params, old)
            said = own(batch["image"], None if key is None else nnx.Rngs(dropout=key))
            each, metrics = _losses(plain, tasks, own, said, batch)
            return each, (nnx.to_pure_dict(nnx.state(own, nnx.BatchStat)), said[LABEL], metrics)

        if how.weighting == "gradnorm" or how.pcgrad:
            each, back, (stats, logits, metrics) = jax.vjp(run, params, has_aux=True)
            rows = jax.vmap(lambda one: back(one)[0])(jnp.eye(len(tasks), dtype=each.dtype))
            total, stats = _steered(model, params, each, rows, stats, how, key)
        else:
            each, (stats, logits, metrics) = run(params)
            total = _weighed(how, params, each, tasks)
        nnx.update(model, stats)
        loss, label_metrics = plain(Answered(model.model, jax.lax.stop_gradient(logits)), batch, None)
        label_loss, count = label_metrics["loss"]
        return total + (loss - label_loss / count).astype(total.dtype), metrics  # with the penalties

    return loss_fn


def _losses(
    plain: LossFn, tasks: Sequence[Task], model: MultiTask, said: dict[str, Array], batch: Batch
) -> tuple[Array, Metrics]:
    """The losses (K,) and what is reported of them."""
    _, metrics = plain(Answered(model.model, said[LABEL]), batch, None)
    total, count = metrics["loss"]
    found: list[Array] = []
    for task in tasks:
        if task.name == LABEL:
            found.append(total / count)
        else:
            found.append(task_loss(task, said[task.name], batch[task.entry]).astype(total.dtype))
            metrics = {**metrics, f"{task.name}_loss": (found[-1] * count, count)}
        if task.kind == "binary":
            right = (said[task.name] > 0) == (batch[task.entry] > 0.5)
            metrics = {**metrics, f"{task.name}_accuracy": average(right)}
    return jnp.stack(found), metrics


def _weights(how: Balance, params: PyTree, each: Array) -> Array:
    """One a task; those of GradNorm are constants to the parameters that they weigh."""
    if how.weighting == "gradnorm":
        return jax.lax.stop_gradient(balance.gradnorm_weights(params["balance"])).astype(each.dtype)
    return jnp.asarray(how.weights or (1.0,) * len(each), each.dtype)


def _weighed(how: Balance, params: PyTree, each: Array, tasks: Sequence[Task]) -> Array:
    if how.weighting == "uncertainty":
        halved = [task.kind == "number" for task in tasks]
        return balance.uncertainty(each, params["log_variances"].astype(each.dtype), halved)
    return jnp.sum(_weights(how, params, each) * each)


def _steered(
    model: MultiTask, params: PyTree, each: Array, rows: PyTree, stats: PyTree, how: Balance, key: Array | None
) -> tuple[Array, PyTree]:
    """The weighed loss with the gradient that GradNorm and PCGrad want, and the statistics.

    Args:
      model: says which parameters are shared.
      params: of the model, which the gradient is for.
      each: the losses (K,).
      rows: their gradients, each leaf with a leading axis of tasks.
      stats: of the model after its run; GradNorm's first losses go in there.
      how: see `Balance`.
      key: draws the orders of PCGrad.
    """
    weights = _weights(how, params, each)
    rows = jax.tree.map(lambda row: row * weights.reshape(-1, *[1] * (row.ndim - 1)).astype(row.dtype), rows)
    gradient = jax.tree.map(lambda row: row.sum(0), rows)
    shared = {name: row for name, row in tree.flatten(rows).items() if model.shares(name)}
    flat = jnp.concatenate([row.reshape(len(each), -1) for row in shared.values()], 1)
    if how.pcgrad:
        orders = balance.random_orders(jax.random.key(0) if key is None else key, len(each))
        gradient = _replaced(gradient, shared, balance.pcgrad(flat, orders))
    if how.weighting == "gradnorm":
        norms = jnp.linalg.norm(flat, axis=1) / jnp.maximum(weights, jnp.finfo(weights.dtype).tiny)
        initial = jnp.where(stats["initial"] == 0, each.astype(stats["initial"].dtype), stats["initial"])
        stats = {**stats, "initial": initial}
        now, first = (jax.lax.stop_gradient(x).astype(params["balance"].dtype) for x in (each, initial))
        pull = jax.grad(balance.gradnorm_loss)(params["balance"], norms.astype(now.dtype), now, first, how.alpha)
        gradient = {**gradient, "balance": pull}
    return _with_gradient(jnp.sum(weights * each), params, gradient), stats


def _replaced(gradient: PyTree, shared: dict[str, Array], values: Array) -> PyTree:
    """The gradient with these values, all in one row, in place of those of the shared parameters."""
    found, start = {}, 0
    for name, row in shared.items():
        size = row[0].size
        found[name], start = values[start : start + size].reshape(row.shape[1:]), start + size
    return tree.map_named(lambda name, leaf: found.get(name, leaf), gradient)


def _with_gradient(value: Array, params: PyTree, gradient: PyTree) -> Array:
    """A scalar of this value whose gradient for the parameters is ``gradient``."""
    held = jax.lax.stop_gradient(gradient)
    products = jax.tree.leaves(jax.tree.map(lambda p, g: jnp.vdot(p, g.astype(p.dtype)), params, held))
    linear = sum(product.astype(value.dtype) for product in products)
    return jax.lax.stop_gradient(value - linear) + linear
