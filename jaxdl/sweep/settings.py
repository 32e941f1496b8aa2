"""Options of training with several values, as a command line gives them: ``lr=0.05,0.1 nesterov=true,false``."""

import dataclasses
import itertools
import typing
from collections.abc import Sequence
from types import NoneType
from typing import Any, Literal

from jaxdl.config import DataOptions, ModelOptions, OptimizerOptions, RunOptions, TrainConfig, nearest, to_dict

DATA = {"dataset", "data_dir", "placement"}  # which all have in common
RUN = {"epochs", "steps", "seed", "precision"}  # all others of a run say nothing of the training itself
WORDS = {"true": True, "false": False}


def kinds() -> dict[str, Any]:
    """The options that may have several values, with their types."""
    groups = DataOptions, ModelOptions, OptimizerOptions, RunOptions
    found = {name: kind for group in groups for name, kind in typing.get_type_hints(group).items()}
    left_out = (DATA | typing.get_type_hints(RunOptions).keys()) - RUN
    return {name: kind for name, kind in found.items() if name not in left_out}


def kind_of(name: str) -> Any:
    """The type of an option.

    Raises:
      ValueError: there is none of this name, with the nearest, or it may have one value only.
    """
    name, known = name.replace("-", "_"), kinds()
    if name not in known and name in to_dict(TrainConfig()):
        raise ValueError(f"{name} is the same for all runs: it may have one value, as --{name.replace('_', '-')}")
    if name not in known:
        raise ValueError(f"unknown option {name!r}{nearest(name, known)}")
    return known[name]


def split(text: str) -> tuple[str, str]:
    """``"lr=0.1,0.2"`` -> ``("lr", "0.1,0.2")``.

    Raises:
      ValueError: no such option, or nothing behind it.
    """
    name, sign, values = text.lstrip("-").partition("=")
    if not (sign and name and values):
        raise ValueError(f"expected OPTION=VALUES, such as lr=0.05,0.1; got {text!r}")
    kind_of(name)
    return name.replace("-", "_"), values


def values(name: str, text: str) -> list[Any]:
    """The values of an option: ``"0.1,0.2"``; those that have commas themselves are set apart by slashes.

    Raises:
      ValueError: one that the option cannot have, or the same twice.
    """
    kind = kind_of(name)
    listed = typing.get_origin(bare(kind)) is tuple or kind is str
    found = [value(name, part) for part in text.split("/" if listed else ",")]
    twice = next((part for place, part in enumerate(found) if part in found[:place]), None)
    if twice is not None:
        raise ValueError(f"{name} has the value {shown(twice)} twice")
    return found


def value(name: str, text: str) -> Any:
    """The value of an option; ``none`` where it may be left out or empty.

    Raises:
      ValueError: the option cannot have it.
    """
    kind = kind_of(name)
    if text == "none" and (kind is str or NoneType in typing.get_args(kind)):
        return "" if kind is str else None
    try:
        return _read(bare(kind), text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def product(over: Sequence[str]) -> list[dict[str, Any]]:
    """Every combination of the values: ``["lr=0.1,0.2", "hidden=64,128"]`` gives four.

    Raises:
      ValueError: as `split` and `values`, or an option that is given twice.
    """
    found: dict[str, list[Any]] = {}
    for text in over:
        name, listed = split(text)
        if name in found:
            raise ValueError(f"{name} is given twice: all its values belong together, as in {name}=A,B")
        found[name] = values(name, listed)
    return [dict(zip(found, combination, strict=True)) for combination in itertools.product(*found.values())]


def shown(value: Any) -> str:
    """A value as `value` reads it."""
    if isinstance(value, list | tuple):
        return ",".join(map(shown, value))
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6g}" if isinstance(value, float) else str(value) or "none"


def label(setting: dict[str, Any]) -> str:
    """A setting in one line."""
    return " ".join(f"{name}={shown(value)}" for name, value in setting.items())


def arguments(options: dict[str, Any]) -> list[str]:
    """Options as words of a command line, of those that have a value."""
    words = []
    for name, found in options.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(found, bool):
            words.append(flag if found else flag.replace("--", "--no-", 1))
        elif isinstance(found, list | tuple):
            words += [flag, *map(str, found)] if found else []
        elif found is not None:
            words += [flag, str(found)]
    return words


def flags(options: Any) -> list[str]:
    """The flags of a group's options that have another value than by default."""
    fields = dataclasses.fields(options)
    return [
        f"--{field.name.replace('_', '-')}" for field in fields if getattr(options, field.name) != field.default
    ]


def bare(kind: Any) -> Any:
    """The type without None."""
    if NoneType in typing.get_args(kind):
        return next(part for part in typing.get_args(kind) if part is not NoneType)
    return kind


def _read(kind: Any, text: str) -> Any:
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if text not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}; got {text!r}{nearest(text, choices)}")
        return text
    if typing.get_origin(kind) is tuple:
        return _tuple(typing.get_args(kind), text)
    if kind is bool:
        if text not in WORDS:
            raise ValueError(f"expected true or false; got {text!r}")
        return WORDS[text]
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"expected {'a whole number' if kind is int else 'a number'}; got {text!r}") from None


def _tuple(parts: tuple[Any, ...], text: str) -> tuple[Any, ...]:
    words = text.split(",")
    if parts[-1] is Ellipsis:
        return tuple(_read(parts[0], word) for word in words)
    if len(words) != len(parts):
        raise ValueError(f"expected {len(parts)} numbers with a comma in between; got {text!r}")
    return tuple(_read(part, word) for part, word in zip(parts, words, strict=True))
