"""torch's loss functions and penalties: the same values, the same gradients, the same reductions.

Predictions and targets are floating-point arrays of one dtype. `cross_entropy` and `nll_loss` take the class axis
last. Every function takes torch's ``reduction``, see `reduce`.
Source: https://docs.pytorch.org/docs/stable/nn.html#loss-functions
"""

import jax
import jax.numpy as jnp
import optax
from jax.scipy.special import xlogy

from jaxdl.scalar import absent, known
from jaxdl.typing import Array, PyTree, Scalar


def reduce(losses: Array, reduction: str, total: Array | int | None = None) -> Array:
    """torch's ``reduction``: the losses as they are (``"none"``), their sum, or their mean.

    Args:
      losses: per-example or per-element values, already weighted.
      reduction: ``"none"``, ``"mean"`` or ``"sum"``.
      total: what the mean divides by: the number of elements when left out, the sum of the weights in
        `cross_entropy`. A mean over nothing is NaN, as in torch.

    Raises:
      ValueError: another ``reduction``.
    """
    if reduction == "none":
        return losses
    if reduction == "sum":
        return jnp.sum(losses)
    if reduction == "mean":
        return jnp.sum(losses) / (losses.size if total is None else total)
    raise ValueError(f"reduction must be 'none', 'mean' or 'sum', got {reduction!r}")


def cross_entropy(
    logits: Array,
    labels: Array,
    *,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: Scalar = 0.0,
    reduction: str = "mean",
) -> Array:
    """Cross-entropy between the softmax of ``logits`` and ``labels``.

    Args:
      logits: (..., C), unnormalised.
      labels: (...) of an integer dtype, or (..., C) probabilities of the dtype of ``logits``.
      weight: (C,), one factor a class. With integer labels the mean divides by the sum of the weights of the
        labels, with probabilities by the number of examples.
      ignore_index: examples with this integer label count neither in the sum nor in the mean. Where all are
        ignored the mean is NaN and its gradient zero.
      label_smoothing: in [0, 1], how much of every target is spread evenly over the classes.
      reduction: see `reduce`.

    Returns:
      A scalar, or (...) for ``reduction="none"``. An integer label outside [0, C) that is not ``ignore_index``
      cannot raise inside jit: it makes the loss NaN.

    Raises:
      ValueError, TypeError: when shapes, dtypes or options do not fit.
    """
    _check_float(logits=logits)
    weights = _class_weights(weight, logits)
    if known(label_smoothing) and not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be in [0, 1], got {label_smoothing}")
    if jnp.issubdtype(labels.dtype, jnp.floating):
        if ignore_index >= 0:
            raise ValueError(f"ignore_index needs integer labels, got {ignore_index} with probabilities")
        _check_pair(logits, labels)
        targets = labels * (1 - label_smoothing) + label_smoothing / logits.shape[-1]
        losses = _weighted_sum(weights, targets * jax.nn.log_softmax(logits))
        return reduce(losses, reduction)
    losses, total = _label_losses(jax.nn.log_softmax(logits), labels, weights, ignore_index, label_smoothing)
    return reduce(losses, reduction, total)


def nll_loss(
    log_probs: Array,
    labels: Array,
    *,
    weight: Array | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Array:
    """``-weight[label] * log_probs[label]``: `cross_entropy` behind a log-softmax, with the same arguments.

    Args:
      log_probs: (..., C), logarithms of probabilities.
      labels: (...) of an integer dtype.
      weight, ignore_index, reduction: as in `cross_entropy`.
    """
    _check_float(log_probs=log_probs)
    weights = _class_weights(weight, log_probs)
    losses, total = _label_losses(log_probs, labels, weights, ignore_index, label_smoothing=0.0)
    return reduce(losses, reduction, total)


def mse_loss(predictions: Array, targets: Array, *, reduction: str = "mean") -> Array:
    """``(prediction - target)**2``, without a factor 1/2."""
    _check_pair(predictions, targets)
    return reduce(optax.squared_error(predictions, targets), reduction)


def l1_loss(predictions: Array, targets: Array, *, reduction: str = "mean") -> Array:
    """``|prediction - target|``, with gradient 0 where they are equal."""
    _check_pair(predictions, targets)
    return reduce(_abs(predictions - targets), reduction)


def smooth_l1_loss(predictions: Array, targets: Array, *, beta: float = 1.0, reduction: str = "mean") -> Array:
    """`huber_loss` divided by its threshold ``beta``; ``beta=0`` is `l1_loss`."""
    if beta == 0:
        return l1_loss(predictions, targets, reduction=reduction)
    if not beta > 0:
        raise ValueError(f"beta must be 0 or more, got {beta}")
    _check_pair(predictions, targets)
    return reduce(optax.huber_loss(predictions, targets, delta=beta) / beta, reduction)


def huber_loss(predictions: Array, targets: Array, *, delta: float = 1.0, reduction: str = "mean") -> Array:
    """``d**2 / 2`` for ``d = |prediction - target|`` up to ``delta``, ``delta * (d - delta/2)`` beyond."""
    if not delta > 0:
        raise ValueError(f"delta must be greater than 0, got {delta}")
    _check_pair(predictions, targets)
    return reduce(optax.huber_loss(predictions, targets, delta=delta), reduction)


def binary_cross_entropy(
    probabilities: Array, targets: Array, *, weight: Array | None = None, reduction: str = "mean"
) -> Array:
    """Binary cross-entropy of probabilities, every logarithm clamped at -100.

    Args:
      probabilities, targets: of one shape, in [0, 1]. A probability outside gives NaN.
      weight: a factor an element, of a shape that broadcasts to theirs. The mean still divides by their number.
      reduction: see `reduce`.
    """
    _check_pair(probabilities, targets)
    return reduce(_spread("weight", weight, targets) * _clamped_bce(probabilities, targets), reduction)


def binary_cross_entropy_with_logits(
    logits: Array,
    targets: Array,
    *,
    weight: Array | None = None,
    pos_weight: Array | None = None,
    reduction: str = "mean",
) -> Array:
    """Binary cross-entropy of ``sigmoid(logits)``.

    Args:
      logits, targets: of one shape; targets in [0, 1].
      weight: a factor an element, of a shape that broadcasts to theirs. The mean still divides by their number.
      pos_weight: a factor for the positive part of the loss, of a shape that broadcasts to theirs, as (C,) does.
      reduction: see `reduce`.
    """
    _check_pair(logits, targets)
    positive = _spread("pos_weight", pos_weight, targets) * targets * jax.nn.log_sigmoid(logits)
    negative = (1 - targets) * jax.nn.log_sigmoid(-logits)
    return reduce(-_spread("weight", weight, targets) * (positive + negative), reduction)


def kl_div(log_probs: Array, targets: Array, *, log_target: bool = False, reduction: str = "mean") -> Array:
    """Kullback-Leibler divergence, element by element: ``target * (log(target) - log_prob)``.

    Args:
      log_probs: (B, ...), logarithms of probabilities.
      targets: (B, ...), probabilities, or their logarithms with ``log_target``.
      log_target: whether ``targets`` are logarithms.
      reduction: as in `reduce`, or ``"batchmean"``: the sum over B, which is the divergence of the definition.
        ``"mean"`` divides by the number of all elements, as torch does.
    """
    _check_pair(log_probs, targets)
    if log_target:
        losses = jnp.exp(targets) * (targets - log_probs)
    else:
        losses = xlogy(targets, targets) - targets * log_probs
    if reduction == "batchmean":
        return reduce(losses, "mean", total=losses.shape[0])
    return reduce(losses, reduction)


def l1_penalty(params: PyTree) -> Array:
    """The sum of ``|p|`` over all leaves, with gradient 0 at 0: ``loss + strength * l1_penalty(params)``."""
    return jax.tree.reduce(jnp.add, jax.tree.map(lambda leaf: jnp.sum(_abs(leaf)), params))


def l2_penalty(params: PyTree) -> Array:
    """Half the sum of ``p**2`` over all leaves: ``loss + w * l2_penalty(params)`` is SGD's ``weight_decay=w``."""
    return jax.tree.reduce(jnp.add, jax.tree.map(lambda leaf: jnp.sum(leaf * leaf) / 2, params))


def _label_losses(
    log_probs: Array, labels: Array, weights: Array, ignore_index: int, label_smoothing: Scalar
) -> tuple[Array, Array]:
    """The weighted loss of every example, and the sum of the weights of their labels."""
    _check_labels(log_probs, labels)
    classes = log_probs.shape[-1]
    # The default integer dtype holds ignore_index, which uint8 labels as stored do not.
    labels = jnp.asarray(labels, int)
    counted = labels != ignore_index
    index = jnp.where((labels >= 0) & (labels < classes), labels, 0)
    weight = jnp.where(counted & (index != labels), jnp.nan, weights[index])
    losses = -weight * jnp.take_along_axis(log_probs, index[..., None], axis=-1)[..., 0]
    if not absent(label_smoothing):
        spread = _weighted_sum(weights, log_probs) / classes
        losses = (1 - label_smoothing) * losses + label_smoothing * spread
    return jnp.where(counted, losses, 0), jnp.sum(jnp.where(counted, weight, 0))


def _weighted_sum(weights: Array, log_probs: Array) -> Array:
    return -jnp.sum(jnp.broadcast_to(weights, log_probs.shape) * log_probs, axis=-1)


def _class_weights(weight: Array | None, logits: Array) -> Array:
    classes = logits.shape[-1:]
    if weight is not None and weight.shape != classes:
        raise ValueError(f"weight must have one factor a class, shape {classes}, got {weight.shape}")
    return jnp.ones(classes, logits.dtype) if weight is None else jnp.asarray(weight, logits.dtype)


def _spread(name: str, factor: Array | None, like: Array) -> Array | int:
    """``factor`` with the shape and dtype of ``like``; 1 where there is none."""
    if factor is None:
        return 1
    axes = zip(reversed(factor.shape), reversed(like.shape), strict=False)
    if factor.ndim > like.ndim or any(size not in (1, full) for size, full in axes):
        raise ValueError(f"{name} must broadcast to the shape {like.shape}, got {factor.shape}")
    return jnp.broadcast_to(jnp.asarray(factor, like.dtype), like.shape)


def _abs(x: Array) -> Array:
    # torch's gradient of |x| is 0 at 0, that of jnp.abs is 1.
    return x * jnp.sign(x)


@jax.custom_jvp
def _clamped_bce(probabilities: Array, targets: Array) -> Array:
    log_p, log_not_p = _clamped_logs(probabilities)
    return -(targets * log_p + (1 - targets) * log_not_p)


@_clamped_bce.defjvp
def _clamped_bce_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    # torch differentiates the unclamped loss and keeps its denominator above 1e-12, rounded to float32.
    probabilities, targets = primals
    log_p, log_not_p = _clamped_logs(probabilities)
    slope = (probabilities - targets) / jnp.maximum(probabilities * (1 - probabilities), 9.999999960041972e-13)
    return _clamped_bce(probabilities, targets), slope * tangents[0] + (log_not_p - log_p) * tangents[1]


def _clamped_logs(probabilities: Array) -> tuple[Array, Array]:
    return jnp.maximum(jnp.log(probabilities), -100), jnp.maximum(jnp.log1p(-probabilities), -100)


def _check_float(**arrays: Array) -> None:
    for name, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(f"{name} must have a floating-point dtype, got {array.dtype}")


def _check_pair(predictions: Array, targets: Array) -> None:
    _check_float(predictions=predictions, targets=targets)
    if predictions.shape != targets.shape:
        raise ValueError(
            f"predictions and targets must have the same shape, got {predictions.shape} and {targets.shape}"
        )
    if predictions.dtype != targets.dtype:
        raise TypeError(
            f"predictions and targets must have the same dtype, got {predictions.dtype} and {targets.dtype}"
        )


def _check_labels(scores: Array, labels: Array) -> None:
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels must have an integer dtype, got {labels.dtype}")
    if scores.ndim == 0 or labels.shape != scores.shape[:-1]:
        raise ValueError(
            f"labels must have the shape of the predictions without their last axis, the classes: "
            f"predictions {scores.shape}, labels {labels.shape}"
        )
