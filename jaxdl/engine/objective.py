"""The loss closure of plain classification. Every technique brings a closure of this shape, never a loop."""

import jax.numpy as jnp
from flax import nnx

from jaxdl.engine.metrics import average
from jaxdl.nn import losses
from jaxdl.scalar import absent
from jaxdl.typing import Array, Batch, LossFn, Metrics, Scalar


def classification(
    *, class_weight: Array | None = None, label_smoothing: Scalar = 0.0, l1: Scalar = 0.0, l2: Scalar = 0.0
) -> LossFn:
    """Cross-entropy of ``model(batch["image"])`` against ``batch["label"]``, plus penalties on the parameters.

    The metric ``loss`` is the cross-entropy alone, so that it can be compared between training and evaluation.
    Labels are integers (B,) or, after mixup, distributions (B, classes).
    """

    def loss_fn(model: nnx.Module, batch: Batch, rngs: nnx.Rngs | None) -> tuple[Array, Metrics]:
        logits = model(batch["image"], rngs)  # pyright: ignore[reportCallIssue]
        if jnp.finfo(logits.dtype).bits < 32:  # exp and sum need more than bfloat16 has
            logits = logits.astype(jnp.float32)
        label = batch["label"].astype(logits.dtype) if batch["label"].ndim == 2 else batch["label"]
        loss = losses.cross_entropy(logits, label, weight=class_weight, label_smoothing=label_smoothing)
        predicted = jnp.argmax(logits, -1)
        true = (label if label.ndim == 1 else jnp.argmax(label, -1)).astype(predicted.dtype)
        count = jnp.asarray(len(true), loss.dtype)
        if class_weight is not None and label.ndim == 1:  # then the mean divides by the weights
            count = class_weight[label].sum().astype(loss.dtype)
        metrics = {"loss": (loss * count, count), "accuracy": average(predicted == true)}
        if not (absent(l1) and absent(l2)):
            params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
            penalty = l1 * losses.l1_penalty(params) + l2 * losses.l2_penalty(params)
            loss += penalty.astype(loss.dtype)
        return loss, metrics

    return loss_fn
