"""What a study searches: options of training with their ranges or choices, and what of it one trial takes.

``lr=log:1e-3:1`` is a range on a logarithmic scale, ``dropout=0:0.5`` a plain one, ``hidden=int:32:512:32`` has a
step, ``optimizer=adam,sgd`` are choices; see `jaxdl.sweep.settings` for those that have commas themselves.
"""

import itertools
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from jaxdl.config import nearest
from jaxdl.sweep import settings
from jaxdl.tune.options import ALIKE, TuneConfig, given

Space = Mapping[str, BaseDistribution]

SCALES = ("log", "int", "float")
FIRST = ("model", "optimizer")  # they decide which other options have a meaning

# What a perceptron on small images can be given within some epochs; options on the command line leave it.
DEFAULTS = {
    "net": (
        "normalize=true",
        "batch_size=128",
        "hidden=128,256,512",
        "depth=1,2",
        "dropout=0:0.5",
        "optimizer=sgd",
        "lr=log:0.01:0.5",
        "momentum=0.8:0.98",
        "nesterov=true",
        "weight_decay=log:1e-6:1e-3",
        "schedule=one_cycle",
        "label_smoothing=0:0.2",
    ),
    "cnn": (
        "normalize=true",
        "batch_size=128",
        "channels=16,32/32,64",
        "hidden=64,128,256",
        "dropout=0:0.5",
        "optimizer=adam",
        "lr=log:3e-4:0.01",
        "schedule=one_cycle",
        "label_smoothing=0:0.15",
        "augment=none/crop:1/crop:2",
    ),
}
OTHERS = ("normalize=true", "optimizer=adam", "lr=log:1e-4:0.01", "schedule=one_cycle", "label_smoothing=0:0.15")


def space(texts: Sequence[str]) -> Space:
    """The space that a command line describes.

    Raises:
      ValueError: an unknown option, a wrong range or value, an option that is given twice.
    """
    found: dict[str, BaseDistribution] = {}
    for text in texts:
        name, domain = settings.split(text)
        if name in found:
            raise ValueError(f"{name} is searched twice")
        found[name] = _domain(name, domain)
    return found


def of(config: TuneConfig) -> Space:
    """The space of a study: the one that is asked for, or that of its model without what is given a value already.

    Raises:
      ValueError: as `space`, or an option that has to be the same for all trials.
    """
    options = config.tune.search
    if not options:
        default = space(DEFAULTS.get(config.model.model, OTHERS))
        return {name: domain for name, domain in default.items() if name not in given(config)}
    found = space(options)
    for name in (name for name in found if name in ALIKE):
        raise ValueError(f"{name} is the same for all trials, which could not be compared otherwise: --{name}")
    return found


def shown(domain: BaseDistribution) -> str:
    """A range or choices as a command line has them."""
    if isinstance(domain, CategoricalDistribution):
        texts = [settings.shown(choice) for choice in domain.choices]
        return ("/" if any("," in text for text in texts) else ",").join(texts)
    assert isinstance(domain, FloatDistribution | IntDistribution)
    step = "" if domain.step in (None, 1) else f":{settings.shown(domain.step)}"
    return f"{'log:' if domain.log else ''}{settings.shown(domain.low)}:{settings.shown(domain.high)}{step}"


def suggest(trial: Trial, name: str, domain: BaseDistribution) -> Any:
    """The value of an option in a trial."""
    if isinstance(domain, FloatDistribution):
        return trial.suggest_float(name, domain.low, domain.high, step=domain.step, log=domain.log)
    if isinstance(domain, IntDistribution):
        return trial.suggest_int(name, domain.low, domain.high, step=domain.step, log=domain.log)
    assert isinstance(domain, CategoricalDistribution)
    return value(name, trial.suggest_categorical(name, domain.choices))


def value(name: str, stored: Any) -> Any:
    """The value of an option from what a study stores of it: texts of those that have several parts."""
    several = typing.get_origin(settings.bare(settings.kind_of(name))) is tuple
    return settings.value(name, stored) if several and stored is not None else stored


def corners(domain: BaseDistribution) -> list[Any]:
    """The ends of a range, or all choices, as a study stores them."""
    return list(domain.choices) if isinstance(domain, CategoricalDistribution) else [domain.low, domain.high]  # pyright: ignore[reportAttributeAccessIssue]


def middle(domain: BaseDistribution) -> Any:
    """A value that is neither end of a range; of choices the first."""
    if isinstance(domain, CategoricalDistribution):
        return domain.choices[0]
    assert isinstance(domain, FloatDistribution | IntDistribution)
    half = math.sqrt(domain.low * domain.high) if domain.log else (domain.low + domain.high) / 2
    if not domain.step:
        return half
    return domain.low + round((half - domain.low) / domain.step) * domain.step


def grid(space: Space, points: int) -> list[dict[str, Any]]:
    """Every combination of choices and of ``points`` values of each range, its ends too, as they are stored."""
    axes = [_points(domain, points) for domain in space.values()]
    return [dict(zip(space, combination, strict=True)) for combination in itertools.product(*axes)]


def _points(domain: BaseDistribution, points: int) -> list[Any]:
    if isinstance(domain, CategoricalDistribution):
        return list(domain.choices)
    assert isinstance(domain, FloatDistribution | IntDistribution)
    spaced = (np.geomspace if domain.log else np.linspace)(domain.low, domain.high, points).tolist()
    if isinstance(domain, IntDistribution):
        steps = [domain.low + round((x - domain.low) / domain.step) * domain.step for x in spaced]
        return sorted({min(step, domain.high) for step in steps})
    if domain.step is not None:
        spaced = [domain.low + round((x - domain.low) / domain.step) * domain.step for x in spaced]
    return sorted({min(max(x, domain.low), domain.high) for x in spaced})


def _domain(name: str, text: str) -> BaseDistribution:
    kind = settings.bare(settings.kind_of(name))
    if kind in (int, float) and ":" in text:
        return _range(name, kind, text)
    listed = settings.values(name, text)
    return CategoricalDistribution([settings.shown(x) if isinstance(x, tuple) else x for x in listed])


def _range(name: str, kind: type, text: str) -> BaseDistribution:
    scale, *numbers = text.split(":") if not text[0].isdigit() and text[0] not in "-.+" else ("", *text.split(":"))
    if scale and scale not in SCALES:
        raise ValueError(f"{name}: unknown scale {scale!r}{nearest(scale, SCALES)} (there are {' '.join(SCALES)})")
    if scale in ("int", "float") and scale != kind.__name__:
        fits = "whole numbers: int" if kind is int else "numbers with a fraction: float"
        raise ValueError(f"{name} takes {fits}:LOW:HIGH or log:LOW:HIGH; got {text!r}")
    if len(numbers) not in ((2,) if scale == "log" else (2, 3)):
        raise ValueError(f"{name}: expected LOW:HIGH{'' if scale == 'log' else ' or LOW:HIGH:STEP'}; got {text!r}")
    low, high, *step = (settings.value(name, number) for number in numbers)
    if not low < high:
        raise ValueError(f"{name}: expected a range with LOW below HIGH; got {text!r}")
    if scale == "log" and not low > 0:
        raise ValueError(f"{name}: a logarithmic range begins above 0; got {text!r}")
    if step and not 0 < step[0] <= high - low:
        raise ValueError(f"{name}: expected a step above 0 that fits the range; got {text!r}")
    if step:
        high = low + (high - low) // step[0] * step[0]
    options = {"log": True} if scale == "log" else {"step": step[0]} if step else {}
    return (IntDistribution if kind is int else FloatDistribution)(low, high, **options)
