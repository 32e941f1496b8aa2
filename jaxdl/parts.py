"""What options name: the model, the optimizer and its schedule."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import optax
from flax import nnx

from jaxdl.config import ModelOptions, OptimizerOptions
from jaxdl.models import MODELS
from jaxdl.optim import schedules
from jaxdl.optim.optimizers import OPTIMIZERS
from jaxdl.optim.transforms import accumulate, clip_by_norm, clip_by_value
from jaxdl.pictures import Pictures
from jaxdl.typing import Array

DTYPES = {"float32": None, "bfloat16": jnp.dtype(jnp.bfloat16)}
# Which options an optimizer or a model takes; another that is given is a mistake.
TAKES = {
    "sgd": ("momentum", "dampening", "nesterov", "weight_decay"),
    "adam": ("betas", "weight_decay"),
    "adamw": ("betas", "weight_decay"),
    "rmsprop": ("alpha", "momentum", "centered", "weight_decay"),
    "adagrad": ("weight_decay",),
    "net": ("hidden", "depth", "activation", "dropout"),
    "cnn": ("channels", "hidden", "activation", "dropout"),
    "resnet18": ("stem",),
    "resnet34": ("stem",),
    "resnet50": ("stem",),
    "vit": ("patch", "hidden", "depth", "heads", "dropout"),
}


def model(options: ModelOptions, seen: Pictures, key: Array) -> nnx.Module:
    """The model with initial weights drawn from ``key``.

    Raises:
      ValueError: an option that the model has no use for, or a value outside its range.
    """
    arguments = _taken(options.model, options)
    for name, value in arguments.items():
        numbers = value if isinstance(value, tuple) else (value,)
        if any(isinstance(number, int) and number < 1 for number in numbers):
            raise ValueError(f"--{name} must be at least 1; got {value}")
    return MODELS[options.model](seen.shape, len(seen.classes), **arguments, rngs=nnx.Rngs(params=key))


def same(part: Any) -> Any:
    """Changes nothing."""
    return part


def optimizer(
    options: OptimizerOptions, steps_per_epoch: int, steps: int, change: Callable[[Any], Any] = same
) -> optax.GradientTransformation:
    """Clipping, then the optimizer under its schedule, once every ``--accumulate`` batches.

    Args:
      options: of the optimizer.
      steps_per_epoch, steps: of the run.
      change: the learning rate, a function of the number of updates -> the one that is used instead.

    Raises:
      ValueError: an option that the optimizer has no use for, or a value outside its range.
    """
    every = options.accumulate
    updates_per_epoch, updates = max(steps_per_epoch // every, 1), max(steps // every, 1)
    arguments = _taken(options.optimizer, options)
    tx = OPTIMIZERS[options.optimizer](change(schedule(options, updates_per_epoch, updates)), **arguments)
    if options.clip_value is not None:
        tx = optax.chain(clip_by_value(options.clip_value), tx)
    if options.clip_norm is not None:
        tx = optax.chain(clip_by_norm(options.clip_norm), tx)
    return accumulate(tx, every) if every > 1 else tx


def _taken(name: str, options: ModelOptions | OptimizerOptions) -> dict[str, Any]:
    """What the model or optimizer of this name takes of the options, as far as they have a value.

    Raises:
      ValueError: an option is given that only others take.
    """
    takes, known = TAKES[name], {option for names in TAKES.values() for option in names}
    for field in dataclasses.fields(options):
        if field.name in known - set(takes) and getattr(options, field.name) != field.default:
            raise ValueError(f"--{field.name.replace('_', '-')} has no meaning for {name}")
    return {option: getattr(options, option) for option in takes if getattr(options, option) is not None}


def schedule(options: OptimizerOptions, updates_per_epoch: int, updates: int) -> Any:
    """The learning rate: a number, or a function of the number of updates."""
    default_lr = inspect.signature(OPTIMIZERS[options.optimizer]).parameters["lr"].default
    lr = options.lr if options.lr is not None else 0.01 if options.optimizer == "sgd" else default_lr
    warm = round(options.warmup_epochs * updates_per_epoch)
    epochs = functools.partial(schedules.per_epoch, steps_per_epoch=updates_per_epoch)
    rate = {
        "constant": lambda: schedules.constant(lr),
        "step": lambda: epochs(schedules.step_lr(lr, options.step_size, options.gamma)),
        "multi_step": lambda: epochs(schedules.multi_step_lr(lr, options.milestones, options.gamma)),
        "exponential": lambda: epochs(schedules.exponential_lr(lr, options.gamma)),
        "cosine": lambda: schedules.cosine_annealing_lr(lr, max(updates - warm, 1)),
        "one_cycle": lambda: schedules.one_cycle_lr(lr, updates),
    }[options.schedule]()
    return schedules.warmup(rate, warm) if warm else rate
