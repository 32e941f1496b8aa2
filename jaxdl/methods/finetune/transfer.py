"""Trained weights for another task: which of them a model takes, told leaf by leaf."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxdl import tree
from jaxdl.engine import weights
from jaxdl.typing import Array


@dataclasses.dataclass(frozen=True)
class Transfer:
    """What became of every parameter and statistic.

    Attributes:
      taken: names of the model that have the source's values.
      new: names of the model that keep their initial values -> why.
      skipped: names of the source that the model did not take.
    """

    taken: tuple[str, ...]
    new: Mapping[str, str]
    skipped: tuple[str, ...]


def read(source: Path) -> dict[str, np.ndarray]:
    """The arrays of a run's folder or of a safetensors file, under torch's names and in its layouts.

    Raises:
      FileNotFoundError: there is nothing, or the run has not ended.
      ValueError: another kind of file, or a damaged one.
    """
    if source.is_dir():
        return weights.read(source / "weights.safetensors")
    if source.exists() and source.suffix != ".safetensors":
        raise ValueError(
            f"expected a run's folder or a .safetensors file, got {source}; torch writes one with "
            "safetensors.torch.save_file(net.state_dict(), path)"
        )
    return weights.read(source)


def rename(arrays: Mapping[str, np.ndarray], rules: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays under other names.

    Args:
      arrays: by name.
      rules: ``PATTERN=REPLACEMENT``, as for `re.sub`, one after the other on every name; ``^module\\.=`` takes the
        prefix of DistributedDataParallel away.

    Raises:
      ValueError: a rule without ``=`` or with a wrong expression, or two arrays that get the same name.
    """
    renamed = {name: name for name in arrays}
    for rule in rules:
        pattern, equals, replacement = rule.rpartition("=")
        try:
            if not equals:
                raise ValueError("there is no =")
            renamed = {old: re.sub(pattern, replacement, new) for old, new in renamed.items()}
        except (ValueError, re.error, IndexError) as error:
            raise ValueError(f"--rename expects PATTERN=REPLACEMENT, got {rule!r} ({error})") from None
    if twice := [name for name in renamed.values() if list(renamed.values()).count(name) > 1]:
        raise ValueError(f"--rename gives two parameters the name {twice[0]}")
    return {new: arrays[old] for old, new in renamed.items()}


def transfer(
    model: nnx.Module, arrays: Mapping[str, np.ndarray], *, take: str = ".*", new: Mapping[str, str]
) -> Transfer:
    """Gives the model what it can take, in place.

    Args:
      model: its parameters and statistics are overwritten.
      arrays: torch's names and layouts, any floating-point type.
      take: a regular expression for the names to take.
      new: names that are to keep their initial values -> why.

    Raises:
      ValueError: nothing can be taken; an array of another shape than the model's, or with values that are not
        finite (all of them in one line).
    """
    before = nnx.to_pure_dict(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    own = tree.flatten(before)
    unasked = {name: "not asked for" for name in own if not re.fullmatch(take, name)}
    absent = {name: "not in the source" for name in own if name not in arrays}
    fresh = {name: (absent | unasked | dict(new))[name] for name in own if name in {*absent, *unasked, *new}}
    values, problems = {}, []
    for name in own.keys() - fresh.keys():
        try:
            values |= weights.from_torch(model, {name: _plain(arrays[name], own[name])})
        except ValueError as error:
            problems.append(f"{name}: {str(error).removeprefix(f'{name}: ')}")
    if problems:
        raise ValueError(
            f"the source does not fit the model: {'; '.join(sorted(problems))}; give the source's --model and its "
            "sizes, or let these start anew: --new PATTERN"
        )
    if not values:
        raise ValueError(
            f"nothing to take matches {take!r}: the source has {_few(arrays)}, the model {_few(own)}; --rename "
            "changes the source's names"
        )
    nnx.update(model, tree.map_named(lambda name, old: jnp.asarray(values.get(name, old)), before))
    taken = tuple(name for name in own if name in values)
    return Transfer(taken, fresh, tuple(name for name in arrays if name not in values))


def shapes(model: nnx.Module) -> dict[str, tuple[int, ...]]:
    """The shape that each parameter and statistic has in torch."""
    values = tree.flatten(nnx.to_pure_dict(nnx.state(model, (nnx.Param, nnx.BatchStat))))
    return {name: value.shape for name, value in weights.to_torch(model, values).items()}


def _plain(array: np.ndarray, like: Array) -> np.ndarray:
    """The array in the model's type, if it is of the same kind and finite."""
    inexact = jnp.issubdtype(like.dtype, jnp.inexact)
    if inexact != jnp.issubdtype(array.dtype, jnp.inexact):
        raise ValueError(f"expected {like.dtype}, got {array.dtype}")
    if inexact and not np.isfinite(array.astype(np.float64)).all():
        raise ValueError("holds values that are not finite")
    return array.astype(like.dtype)


def _few(names: Mapping[str, object]) -> str:
    shown = list(names)[:6]
    return ", ".join(shown) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
