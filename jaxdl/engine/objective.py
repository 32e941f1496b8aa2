"""The loss closure of plain classification. Every technique brings a closure of this shape, never a loop."""

import jax.numpy as jnp
from flax import nnx

from jaxdl.engine.metrics import average
from jaxdl.nn import losses
from jaxdl.typing import Array, Batch, LossFn, Metrics


def classification(
    *, class_weight: Array | None = None, label_smoothing: float = 0.0, l1: float = 0.0, l2: float = 0.0
) -> LossFn:
    """Cross-entropy of ``model(batch["image"])`` against ``batch["label"]``, plus penalties on the parameters.

    The metric ``loss`` is the cross-entropy alone, so that it can be compared between training and evaluation.
    Labels are integers (B,) or, after mixup, distributions (B, classes).
    """

    def loss_fn(model: nnx.Module, batch: Batch, rngs: nnx.Rngs | None) -> tuple[Array, Metrics]:
        logits = model(batch["image"], rngs).astype(jnp.float32)  # pyright: ignore[reportCallIssue]
        label = batch["label"]
        loss = losses.cross_entropy(logits, label, weight=class_weight, label_smoothing=label_smoothing)
        true = label if label.ndim == 1 else jnp.argmax(label, -1)
        correct = jnp.argmax(logits, -1) == true
        count = jnp.asarray(len(true), jnp.float32)
        metrics = {"loss": (loss * count, count), "accuracy": average(correct)}
        if l1 or l2:
            params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
            loss += l1 * losses.l1_penalty(params) + l2 * losses.l2_penalty(params)
        return loss, metrics

    return loss_fn
