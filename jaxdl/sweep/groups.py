"""Which configurations one program trains together: those that differ in seeds and in what it takes as numbers."""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from jaxdl.config import TrainConfig, to_dict
from jaxdl.data import augmentation
from jaxdl.typing import Scalar

# Options that can be numbers to a program; beside them, those within an augmentation.
NUMBERS = ("lr", "weight_decay", "momentum", "dropout", "label_smoothing", "l1", "l2")
# Options that say nothing of the training itself.
ASIDE = ("out", "resume", "recipe", "quiet", "tensorboard", "keep", "save_every", "log_every")


@dataclasses.dataclass(frozen=True)
class Group:
    """Members of a sweep that one program trains.

    Attributes:
      config: the options of the first of them.
      places: theirs in the sweep.
      seeds: one a member.
      values: option -> (members,) float32, of the options that are numbers to the program; those within an
        augmentation are ``augment``, (members, numbers).
    """

    config: TrainConfig
    places: tuple[int, ...]
    seeds: tuple[int, ...]
    values: Mapping[str, np.ndarray]


def groups(configs: Sequence[TrainConfig], varying: Collection[str]) -> list[Group]:
    """The configurations by program, in the order in which they come.

    Args:
      configs: one a member.
      varying: options that differ, here or in another sweep with the same programs; all others are constants of a
        program.

    Raises:
      ValueError: an augmentation that there is not.
    """
    found: dict[str, list[int]] = {}
    for place, config in enumerate(configs):
        found.setdefault(program(config, varying), []).append(place)
    return [_group(configs, tuple(places), varying) for places in found.values()]


def program(config: TrainConfig, varying: Collection[str]) -> str:
    """What a configuration's program depends on: equal texts are equal programs."""
    options = to_dict(config)
    for name in (*ASIDE, "seed"):
        del options[name]
    for name in _numbers(config, varying):
        options[name] = "a number"
    if "augment" in varying:
        options["augment"] = augmentation.strengths(config.data.augment)[0]
    return json.dumps(options)


def with_values(config: TrainConfig, values: Mapping[str, Scalar]) -> TrainConfig:
    """The configuration with numbers of `Group.values` in their places, but for ``dropout`` and ``augment``.

    These are no numbers in the model and in a text; see `jaxdl.sweep.members`.
    """
    optim = {name: value for name, value in values.items() if name not in ("dropout", "augment")}
    return dataclasses.replace(config, optim=dataclasses.replace(config.optim, **optim))


def _group(configs: Sequence[TrainConfig], places: tuple[int, ...], varying: Collection[str]) -> Group:
    own = [configs[place] for place in places]
    options = [to_dict(config) for config in own]
    values = {
        name: np.asarray([option[name] for option in options], np.float32) for name in _numbers(own[0], varying)
    }
    if "augment" in varying:
        numbers = [augmentation.strengths(config.data.augment)[1] for config in own]
        values |= {"augment": np.asarray(numbers, np.float32)} if numbers[0] else {}
    return Group(own[0], places, tuple(config.run.seed for config in own), values)


def _numbers(config: TrainConfig, varying: Collection[str]) -> list[str]:
    """The options that are numbers to the program; the program has what those without a value mean."""
    options: dict[str, Any] = to_dict(config)
    return [name for name in NUMBERS if name in varying and options[name] is not None]
