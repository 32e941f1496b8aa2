"""torch's learning rate schedulers as functions of a count, Python or int32: how often ``step()`` was called.

They compute in the default float dtype: float32, or float64 under x64. Pass one as ``lr`` to an optimizer, which
counts its updates; `per_epoch` for torch's habit of one scheduler step an epoch.
Source: https://docs.pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Literal

import jax.numpy as jnp

from jaxdl.scalar import known
from jaxdl.typing import Array, Scalar

Schedule = Callable[[int | Array], Array]


def constant(lr: Scalar) -> Schedule:
    """``lr``, always."""
    _check_rate(lr)
    return lambda _: jnp.full((), lr, float)


def step_lr(lr: Scalar, step_size: int, gamma: float = 0.1) -> Schedule:
    """``lr``, times ``gamma`` after every ``step_size`` counts."""
    _check_rate(lr)
    _positive("step_size", step_size)
    return lambda count: lr * gamma ** _float(count // step_size)


def multi_step_lr(lr: Scalar, milestones: Sequence[int], gamma: float = 0.1) -> Schedule:
    """``lr``, times ``gamma`` from each milestone on; one that is named twice counts twice."""
    _check_rate(lr)
    for milestone in milestones:
        _positive("every milestone", milestone)
    return lambda count: lr * gamma ** _float(jnp.sum(jnp.asarray(milestones, int) <= jnp.asarray(count, int)))


def exponential_lr(lr: Scalar, gamma: float) -> Schedule:
    """``lr * gamma**count``."""
    _check_rate(lr)
    return lambda count: lr * gamma ** _float(count)


def cosine_annealing_lr(lr: Scalar, t_max: int, eta_min: float = 0.0) -> Schedule:
    """Half a cosine from ``lr`` at 0 to ``eta_min`` at ``t_max``; as in torch it rises again after that."""
    _check_rate(lr)
    _positive("t_max", t_max)
    return lambda count: _cosine(lr, eta_min, _float(count) / t_max)


def linear_lr(lr: Scalar, start_factor: float = 1 / 3, end_factor: float = 1.0, total_iters: int = 5) -> Schedule:
    """``lr`` times a factor that goes from ``start_factor`` to ``end_factor`` in ``total_iters`` counts and stays.

    Raises:
      ValueError: ``start_factor`` outside (0, 1], ``end_factor`` outside [0, 1] or ``total_iters`` below 1.
    """
    _check_rate(lr)
    _positive("total_iters", total_iters)
    if not 0 < start_factor <= 1:
        raise ValueError(f"start_factor must be above 0 and at most 1, got {start_factor}")
    if not 0 <= end_factor <= 1:
        raise ValueError(f"end_factor must be in [0, 1], got {end_factor}")
    return lambda count: (
        lr * _linear(start_factor, end_factor, jnp.minimum(_float(count), total_iters) / total_iters)
    )


def one_cycle_lr(
    max_lr: Scalar,
    total_steps: int,
    pct_start: float = 0.3,
    anneal_strategy: Literal["cos", "linear"] = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
) -> Schedule:
    """The rate of torch's OneCycleLR with ``cycle_momentum=False``: up to ``max_lr``, then down to almost nothing.

    Args:
      max_lr: the peak.
      total_steps: the number of counts, 0 to ``total_steps - 1``; after the last the rate stays.
      pct_start: the part of the counts that rises, in [0, 1].
      anneal_strategy: the shape between the corners, ``"cos"`` or ``"linear"``.
      div_factor: the first rate is ``max_lr / div_factor``.
      final_div_factor: the last rate is the first divided by this.
      three_phase: come down to the first rate as fast as it rose, and to the last from there.

    Raises:
      ValueError: an option outside its range, or a rise of exactly one count, which torch divides by zero.
    """
    _check_rate(max_lr)
    _positive("total_steps", total_steps)
    if not 0 <= pct_start <= 1 or pct_start * total_steps == 1:
        raise ValueError(f"pct_start must be in [0, 1] and not 1 / total_steps, got {pct_start}")
    if anneal_strategy not in ("cos", "linear"):
        raise ValueError(f"anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}")
    anneal = _cosine if anneal_strategy == "cos" else _linear
    first, rise, end = max_lr / div_factor, pct_start * total_steps - 1, total_steps - 1
    corners = [(0.0, first), (rise, max_lr), *([(2 * rise, first)] if three_phase else [])]
    corners.append((end, first / final_div_factor))

    phases = list(itertools.pairwise(corners))

    def schedule(count: int | Array) -> Array:
        count = jnp.minimum(_float(count), end)
        rates = [anneal(a, b, (count - start) / (stop - start)) for (start, a), (stop, b) in phases]
        return jnp.select([count <= stop for _, (stop, _) in phases], rates)

    return schedule


def warmup(schedule: Schedule, steps: int, start_factor: float = 1 / 3) -> Schedule:
    """Linearly from ``start_factor * schedule(0)`` up to ``schedule(0)`` in ``steps`` counts, then ``schedule``.

    As torch's ``SequentialLR([LinearLR(start_factor, total_iters=steps), schedule], milestones=[steps])``: the
    schedule starts at its own 0 behind the warm-up.

    Raises:
      ValueError: ``steps`` below 1 or ``start_factor`` outside (0, 1].
    """
    factor = linear_lr(1.0, start_factor, total_iters=steps)

    def warmed(count: int | Array) -> Array:
        return factor(count) * schedule(jnp.maximum(jnp.asarray(count) - steps, 0))

    return warmed


def swa_lr(
    schedule: Schedule,
    start: int,
    lr: Scalar,
    anneal: int = 10,
    anneal_strategy: Literal["cos", "linear"] = "cos",
) -> Schedule:
    """``schedule`` up to ``start``; from its rate there to ``lr`` in ``anneal`` counts, and ``lr`` from then on.

    As torch's ``SWALR`` that takes over from another scheduler at ``start``.

    Raises:
      ValueError: a negative rate or number of counts, or another strategy.
    """
    _check_rate(lr)
    if start < 0 or anneal < 0:
        raise ValueError(f"start and anneal must be 0 or more, got {start} and {anneal}")
    if anneal_strategy not in ("cos", "linear"):
        raise ValueError(f"anneal_strategy must be 'cos' or 'linear', got {anneal_strategy!r}")
    shape = _cosine if anneal_strategy == "cos" else _linear

    def annealed(count: int | Array) -> Array:
        since = _float(count) - start
        part = jnp.clip(since / anneal, 0, 1) if anneal else jnp.ones_like(since)
        return jnp.where(since < 0, schedule(count), shape(schedule(start), lr, part))

    return annealed


def per_epoch(schedule: Schedule, steps_per_epoch: int) -> Schedule:
    """A schedule in epochs as one in steps: the rate changes at the end of every epoch."""
    _positive("steps_per_epoch", steps_per_epoch)
    return lambda count: schedule(count // steps_per_epoch)


def _cosine(start: Scalar, end: Scalar, part: Array) -> Array:
    return end + (start - end) / 2 * (jnp.cos(jnp.pi * part) + 1)


def _linear(start: Scalar, end: Scalar, part: Array) -> Array:
    return (end - start) * part + start


def _float(count: int | Array) -> Array:
    return jnp.asarray(count, float)


def _check_rate(lr: Scalar) -> None:
    if known(lr) and not lr >= 0:
        raise ValueError(f"the rate must be 0 or more, got {lr}")


def _positive(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} must be 1 or more, got {value}")
