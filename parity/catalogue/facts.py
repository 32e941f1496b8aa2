"""What an entry measures: how far the two frameworks are apart, and whether that is what the catalogue says."""

import dataclasses
import inspect
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th

ROUNDING = 1e-12  # of numbers near 1 in float64


@dataclasses.dataclass(frozen=True)
class Fact:
    """One statement of an entry, measured.

    Attributes:
      what: the statement, or what was compared.
      holds: whether the installed versions bear it out.
      without: how far JAX is from torch, see `gap`; None where nothing was compared.
      cured: the same with the workaround; None where there is none.
      values: torch's and JAX's, where they are single numbers.
      expected: the bounds that ``without`` and ``cured`` were held to.
    """

    what: str
    holds: bool
    without: float | None = None
    cured: float | None = None
    values: tuple[str, str] | None = None
    expected: str = ""


def differs(what: str, torch: Any, jax: Any, cured: Any = None, *, least: float, most: float = ROUNDING) -> Fact:
    """JAX is at least ``least`` away from torch, and with the workaround at most ``most``."""
    without = gap(torch, jax)
    left = None if cured is None else gap(torch, cured)
    expected = f"at least {least:g}" + ("" if left is None else f", then at most {most:g}")
    holds = without >= least and (left is None or left <= most)
    return Fact(what, holds, without, left, _values(torch, jax), expected)


def agrees(what: str, torch: Any, jax: Any, *, most: float = ROUNDING) -> Fact:
    """JAX is at most ``most`` away from torch, or a measured value from the one that is expected."""
    without = gap(torch, jax)
    return Fact(what, without <= most, without, None, _values(torch, jax), f"at most {most:g}")


def gives(what: str, got: Any, expected: Any, *, most: float = ROUNDING) -> Fact:
    """One framework makes what the rule says."""
    return Fact(f"{what} gives {_short(got)}", gap(expected, got) <= most, expected=f"{_short(expected)}")


def states(what: str, condition: Any) -> Fact:
    """A statement without a number."""
    return Fact(what, bool(condition))


def lacks(function: Callable[..., Any], *words: str) -> Fact:
    """No argument of ``function`` is named like one of these patterns: that would be the missing option."""
    found = [name for name in inspect.signature(function).parameters if re.search("|".join(words), name)]
    name = f"{function.__module__.split('.')[0]}.{function.__qualname__}"
    return states(f"{name} has no option {' or '.join(words)}", not found)


def raises(call: Callable[[], Any], *errors: type[Exception]) -> bool:
    """Whether the call ends in one of these errors."""
    try:
        call()
    except errors:
        return True
    return False


def gap(torch: Any, jax: Any) -> float:
    """The largest absolute difference; infinite where the shapes differ, or where one only is a number."""
    a, b = array(torch), array(jax)
    if a.shape != b.shape:
        return math.inf
    other = ~((a == b) | (np.isnan(a) & np.isnan(b)))
    if not np.isfinite(a[other]).all() or not np.isfinite(b[other]).all():
        return math.inf
    return float(np.abs(a[other] - b[other]).max(initial=0.0))


def array(value: Any) -> np.ndarray:
    """Numbers of either framework in float64."""
    if isinstance(value, th.Tensor):
        value = value.detach().cpu().double()
    return np.asarray(value, np.float64)


def _short(value: Any) -> str:
    return np.array2string(array(value), precision=4)


def _values(torch: Any, jax: Any) -> tuple[str, str] | None:
    a, b = array(torch), array(jax)
    return (f"{a.item():.4g}", f"{b.item():.4g}") if a.size == b.size == 1 else None
