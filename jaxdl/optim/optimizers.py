"""torch's optimizers as optax transformations: its argument names, its defaults, its arithmetic.

``updates, opt_state = tx.update(grads, opt_state, params)`` gives what torch's ``step()`` adds to params.
Shared arguments: ``lr`` is a number or a schedule (updates made -> rate), applied last, see `scale_by_rate`;
``weight_decay`` adds ``weight_decay * param`` to the gradient (in `adamw` to the direction); ``eps`` is added to
the denominator, outside the square root. A number outside its range raises ValueError. Rate, momentum and weight
decay may be arrays (): one program then serves many values.
Source: https://docs.pytorch.org/docs/stable/optim.html#algorithms
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxdl.scalar import absent
from jaxdl.typing import Array, PyTree, Scalar

Rate = float | Array | Callable[[Array], Array]


class RateState(NamedTuple):
    """The number of updates made, int32, and the rate of the latest (before the first: of the one to come)."""

    step: Array
    rate: Array


def scale_by_rate(lr: Rate) -> optax.GradientTransformation:
    """``-rate * update``, the last part of every optimizer here.

    Args:
      lr: the rate, or a schedule that is called with the number of updates made so far. Computed in the default
        float dtype (float64 under x64) and applied in the dtype of each leaf.
    """

    def init(params: PyTree) -> RateState:
        del params
        step = jnp.zeros((), jnp.int32)
        return RateState(step, _rate(lr, step))

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, RateState]:
        del params
        rate = _rate(lr, state.step)
        scaled = jax.tree.map(lambda u: -rate.astype(u.dtype) * u, updates)
        return scaled, RateState(state.step + 1, rate)

    return optax.GradientTransformation(init, update)


def rates(opt_state: PyTree) -> list[RateState]:
    """The step and the rate of every `scale_by_rate` in the state, in order: one for each parameter group."""
    nodes = jax.tree.leaves(opt_state, is_leaf=lambda node: isinstance(node, RateState))
    return [node for node in nodes if isinstance(node, RateState)]


def sgd(
    lr: Rate = 1e-3,
    momentum: Scalar = 0.0,
    dampening: float = 0.0,
    weight_decay: Scalar = 0.0,
    nesterov: bool = False,
) -> optax.GradientTransformation:
    """Stochastic gradient descent, with torch's momentum: ``buffer = momentum * buffer + grad``.

    Args:
      lr, weight_decay: see the module.
      momentum: factor of the buffer, 0 for none.
      dampening: takes this share off every gradient that enters the buffer, but the first.
      nesterov: looks one momentum step ahead; needs a momentum and no dampening.
    """
    _not_negative(lr=lr, momentum=momentum, weight_decay=weight_decay)
    if nesterov and (absent(momentum) or dampening != 0):
        raise ValueError(f"nesterov needs momentum above 0 and no dampening, got {momentum=}, {dampening=}")
    return optax.chain(*_l2(weight_decay), *_buffer(momentum, dampening, nesterov), scale_by_rate(lr))


def adam(
    lr: Rate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: Scalar = 0.0,
    amsgrad: bool = False,
) -> optax.GradientTransformation:
    """Adam; its ``weight_decay`` is an L2 penalty inside the gradient, see `adamw` for the decoupled one.

    Args:
      lr, eps, weight_decay: see the module.
      betas: decay of the averages of the gradient and of its square, each in [0, 1).
      amsgrad: divides by the largest average of the square so far.
    """
    _not_negative(lr=lr, weight_decay=weight_decay)
    return optax.chain(*_l2(weight_decay), _scale_by_adam(betas, eps, amsgrad), scale_by_rate(lr))


def adamw(
    lr: Rate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: Scalar = 1e-2,
    amsgrad: bool = False,
) -> optax.GradientTransformation:
    """`adam` with decoupled weight decay: each update also takes ``rate * weight_decay * param`` off."""
    _not_negative(lr=lr, weight_decay=weight_decay)
    return optax.chain(_scale_by_adam(betas, eps, amsgrad), *_l2(weight_decay), scale_by_rate(lr))


def rmsprop(
    lr: Rate = 1e-2,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: Scalar = 0.0,
    momentum: Scalar = 0.0,
    centered: bool = False,
) -> optax.GradientTransformation:
    """RMSprop; the rate stands behind the momentum, so a schedule does not rescale what the buffer holds.

    Args:
      lr, eps, weight_decay: see the module.
      alpha: decay of the average of the squared gradient, in [0, 1].
      momentum: factor of the buffer of scaled gradients, 0 for none.
      centered: divides by the standard deviation in place of the root mean square.
    """
    _not_negative(lr=lr, eps=eps, weight_decay=weight_decay, momentum=momentum)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be in [0, 1], got {alpha}")
    scale = optax.scale_by_stddev if centered else optax.scale_by_rms
    direction = scale(alpha, eps, eps_in_sqrt=False)
    return optax.chain(*_l2(weight_decay), direction, *_buffer(momentum), scale_by_rate(lr))


def adagrad(
    lr: Rate = 1e-2,
    lr_decay: float = 0.0,
    weight_decay: Scalar = 0.0,
    initial_accumulator_value: float = 0.0,
    eps: float = 1e-10,
) -> optax.GradientTransformation:
    """Adagrad: divides by the root of the sum of all squared gradients.

    Args:
      lr, weight_decay, eps: see the module.
      lr_decay: divides the rate by ``1 + lr_decay * updates made``.
      initial_accumulator_value: where the sum of squares starts.
    """
    _not_negative(lr=lr, lr_decay=lr_decay, weight_decay=weight_decay)
    _not_negative(initial_accumulator_value=initial_accumulator_value, eps=eps)

    def decayed(step: Array) -> Array:
        return _rate(lr, step) / (1 + jnp.asarray(step, float) * lr_decay)

    direction = _scale_by_sum(initial_accumulator_value, eps)
    return optax.chain(*_l2(weight_decay), direction, scale_by_rate(decayed))


OPTIMIZERS: Mapping[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
}


class AdamState(NamedTuple):
    """torch's names; ``max_exp_avg_sq`` is empty without AMSGrad."""

    step: Array
    exp_avg: PyTree
    exp_avg_sq: PyTree
    max_exp_avg_sq: PyTree


def _scale_by_adam(betas: tuple[float, float], eps: float, amsgrad: bool) -> optax.GradientTransformation:
    # optax.scale_by_adam has no AMSGrad, and in float32 its 1 - beta**step is 1e-5 off at the first step.
    _not_negative(eps=eps)
    if not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas must be in [0, 1), got {betas}")

    def init(params: PyTree) -> AdamState:
        zeros = optax.tree.zeros_like(params)
        return AdamState(jnp.zeros((), jnp.int32), zeros, zeros, zeros if amsgrad else ())

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, AdamState]:
        del params
        step = state.step + 1
        mean = _average(state.exp_avg, updates, betas[0])
        square = _average(state.exp_avg_sq, jax.tree.map(jnp.square, updates), betas[1])
        largest = jax.tree.map(jnp.maximum, state.max_exp_avg_sq, square) if amsgrad else ()
        scale, root = _bias_correction(betas[0], step), jnp.sqrt(_bias_correction(betas[1], step))

        def direction(m: Array, v: Array) -> Array:
            return m / scale.astype(m.dtype) / (jnp.sqrt(v) / root.astype(v.dtype) + eps)

        directions = jax.tree.map(direction, mean, largest if amsgrad else square)
        return directions, AdamState(step, mean, square, largest)

    return optax.GradientTransformation(init, update)


class DampenedState(NamedTuple):
    """Whether a gradient has entered the momentum buffer, and the buffer."""

    started: Array
    trace: PyTree


def _dampened_trace(momentum: Scalar, dampening: float) -> optax.GradientTransformation:
    def init(params: PyTree) -> DampenedState:
        return DampenedState(jnp.zeros((), bool), optax.tree.zeros_like(params))

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, DampenedState]:
        del params
        gain = jnp.where(state.started, 1 - dampening, 1.0)
        trace = jax.tree.map(lambda b, g: momentum * b + gain.astype(g.dtype) * g, state.trace, updates)
        return trace, DampenedState(jnp.ones((), bool), trace)

    return optax.GradientTransformation(init, update)


def _scale_by_sum(initial: float, eps: float) -> optax.GradientTransformation:
    # optax.scale_by_rss has eps inside the root. The state is the tree of the sums of squares.
    def init(params: PyTree) -> PyTree:
        return optax.tree.full_like(params, initial)

    def update(updates: PyTree, state: PyTree, params: PyTree = None) -> tuple[PyTree, PyTree]:
        del params
        total = jax.tree.map(lambda s, g: s + g * g, state, updates)
        return jax.tree.map(lambda g, s: g / (jnp.sqrt(s) + eps), updates, total), total

    return optax.GradientTransformation(init, update)


def _l2(weight_decay: Scalar) -> list[optax.GradientTransformation]:
    return [] if absent(weight_decay) else [optax.add_decayed_weights(weight_decay)]


def _buffer(
    momentum: Scalar, dampening: float = 0.0, nesterov: bool = False
) -> list[optax.GradientTransformation]:
    if absent(momentum):
        return []
    return [_dampened_trace(momentum, dampening) if dampening else optax.trace(momentum, nesterov)]


def _average(old: PyTree, new: PyTree, decay: float) -> PyTree:
    return jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, old, new)


def _bias_correction(beta: float, step: Array) -> Array:
    """``1 - beta**step``, to the last digit in float32 as well."""
    return -jnp.expm1(jnp.asarray(step, float) * (math.log(beta) if beta else -math.inf))


def _rate(lr: Rate, step: Array) -> Array:
    return jnp.asarray(lr(step) if callable(lr) else lr, float)


def _not_negative(**values: Rate) -> None:
    for name, value in values.items():
        if isinstance(value, int | float) and not value >= 0:
            raise ValueError(f"{name} must be 0 or more, got {value}")
