"""The pure steps: ``(state, batch) -> (state, metrics)`` and ``(state, batch) -> metrics``."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxdl.engine.state import TrainState
from jaxdl.optim.optimizers import rates
from jaxdl.typing import Array, Batch, LossFn, Metrics, PyTree

Prepare = Callable[[Array, Batch], Batch]
Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
Gradient = Callable[[TrainState, Batch], tuple[PyTree, PyTree, Metrics]]  # gradients, new stats, metrics
# (params, stats, batch, key of dropout) -> (loss, (new stats, metrics))
Objective = Callable[[PyTree, PyTree, Batch, Array], tuple[Array, tuple[PyTree, Metrics]]]
Differentiate = Callable[[Objective, TrainState, Batch, Array], tuple[PyTree, PyTree, Metrics]]


def train_step(
    graphdef: nnx.GraphDef,
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    prepare: Prepare,
    dtype: jnp.dtype | None = None,
) -> Step:
    """One optimizer step.

    Args:
      graphdef: the structure of the model in training mode.
      loss_fn: ``(model, batch, rngs) -> (loss, metrics)``; ``rngs`` has the stream ``dropout``.
      tx: an optimizer of `jaxdl.optim`; the rate it applied is the metric ``lr``.
      prepare: ``(key, batch) -> batch``: what makes a stored batch a model's input, augmentation included.
      dtype: the type to compute in (``jnp.bfloat16``); parameters and their updates stay float32.
    """
    return update_step(gradients(graphdef, loss_fn, prepare, dtype), tx)


def update_step(gradient: Gradient, tx: optax.GradientTransformation) -> Step:
    """The second half of `train_step`: what the optimizer makes of the gradients of a batch."""

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        grads, stats, metrics = gradient(state, batch)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        rate = rates(opt_state)[0].rate.astype(jnp.float32)
        metrics = {**metrics, "lr": (rate, jnp.ones_like(rate))}
        return TrainState(state.step + 1, params, stats, opt_state, state.key), metrics

    return step


def of_whole(objective: Objective, state: TrainState, batch: Batch, key: Array) -> tuple[PyTree, PyTree, Metrics]:
    """Gradients, new statistics and metrics of an objective for a batch that is in one place."""
    grads, (stats, metrics) = jax.grad(objective, has_aux=True)(state.params, state.stats, batch, key)
    return grads, stats, metrics


def gradients(
    graphdef: nnx.GraphDef,
    loss_fn: LossFn,
    prepare: Prepare,
    dtype: jnp.dtype | None = None,
    differentiate: Differentiate = of_whole,
) -> Gradient:
    """``(state, batch) -> (gradients, new stats, metrics)``: the first half of `train_step`, same arguments.

    ``differentiate`` takes the gradient; a pipeline does so in stages.
    """

    def objective(params: PyTree, stats: PyTree, batch: Batch, key: Array) -> tuple[Array, tuple[PyTree, Metrics]]:
        model = nnx.merge(graphdef, cast(params, dtype), stats)
        loss, metrics = loss_fn(model, batch, nnx.Rngs(dropout=key))
        return loss, (nnx.to_pure_dict(nnx.state(model, nnx.BatchStat)), metrics)

    def gradient(state: TrainState, batch: Batch) -> tuple[PyTree, PyTree, Metrics]:
        augment_key, dropout_key = jax.random.split(jax.random.fold_in(state.key, state.step))
        return differentiate(objective, state, _cast_image(prepare(augment_key, batch), dtype), dropout_key)

    return gradient


def eval_step(
    graphdef: nnx.GraphDef, loss_fn: LossFn, prepare: Callable[[Batch], Batch], dtype: jnp.dtype | None = None
) -> Callable[[TrainState, Batch], Metrics]:
    """The metrics of one batch; ``graphdef`` is the model in evaluation mode, ``prepare`` has no augmentation."""

    def step(state: TrainState, batch: Batch) -> Metrics:
        model = nnx.merge(graphdef, cast(state.params, dtype), state.stats)
        return loss_fn(model, _cast_image(prepare(batch), dtype), None)[1]

    return step


def predict_step(
    graphdef: nnx.GraphDef, prepare: Callable[[Batch], Batch], dtype: jnp.dtype | None = None
) -> Callable[[TrainState, Batch], Array]:
    """``(state, batch) -> probabilities`` (B, classes) float32; arguments as those of `eval_step`."""

    def step(state: TrainState, batch: Batch) -> Array:
        model = nnx.merge(graphdef, cast(state.params, dtype), state.stats)
        logits = model(_cast_image(prepare(batch), dtype)["image"], None)
        return jax.nn.softmax(logits.astype(jnp.float32))

    return step


def _cast_image(batch: Batch, dtype: jnp.dtype | None) -> Batch:
    # Not the labels: those of mixup are numbers that the loss wants exactly.
    return {**batch, "image": cast(batch["image"], dtype)}


def cast(tree: PyTree, dtype: jnp.dtype | None) -> PyTree:
    """The floating-point leaves in ``dtype``, where one is given."""
    if dtype is None:
        return tree
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)
