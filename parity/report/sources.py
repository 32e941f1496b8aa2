"""Where in the port's code a fault lies: the line that makes a layer, calls it, or gives the optimizer."""

import dataclasses
import inspect
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parity.pair import Pair, module_name

# Code that a port uses; a fault is looked for in what uses it.
LIBRARIES = ("flax", "jax", "optax", "numpy", "torch", "functools", "builtins")
LAYERS = ("jaxdl.nn", "jaxdl.optim")
ARGUMENTS = {"loss": "loss", "optimizer": "tx", "schedule": "tx", "resume": "tx", "weights": "weights"}


@dataclasses.dataclass(frozen=True)
class Place:
    """A line of a file, from 1."""

    file: Path
    line: int

    def __str__(self) -> str:
        here = Path.cwd()
        file = self.file.relative_to(here) if self.file.is_relative_to(here) else self.file
        return f"{file}:{self.line}"


def place_of(target: str, pair: Pair | None = None, kind: str = "", port: str = "") -> Place | None:
    """The line that a fault is to be shown at; without a pair the function that makes the pair.

    Args:
      target: as given to `parity.pair.load`.
      pair: made from it.
      kind, port: of the fault.
    """
    if pair and kind in ("layer", "glue", "backward", "buffers"):
        found = _in_model(pair, kind, port)
        if found:
            return found
    function = {"loss": pair.loss and pair.loss[1], "weights": pair.weights}.get(kind) if pair else None
    if callable(function) and _own(function):
        return _line(function)
    return _line(_maker(target), rf"\b{ARGUMENTS[kind]}\s*=") if kind in ARGUMENTS else _line(_maker(target))


def class_of(port: Any, path: str) -> str:
    """The class of the port's module at a dotted path; empty where attributes do not lead there."""
    module, rest = _owners(port, path.split(".") if path else [])[-1]
    return "" if rest else type(module).__name__


def _maker(target: str) -> Any:
    """The function or the pair that a target names."""
    if ":" not in target:
        from parity.twins import PAIRS

        return PAIRS.get(target)
    place, _, name = target.rpartition(":")
    module = sys.modules.get(module_name(place))
    found = getattr(module, name, None)
    return found if inspect.isfunction(found) else module


def _in_model(pair: Pair, kind: str, port: str) -> Place | None:
    """In the innermost class of the user's own that holds the layer."""
    try:
        owners = _owners(pair.flax_module(), port.split(".") if port else [])
    except Exception:  # a place is a courtesy: the fault itself is known
        return None
    own = [(module, rest) for module, rest in owners if _own(type(module))]
    if not own:
        return None
    module, rest = own[-1]
    if kind != "glue" and len(own) > 1 and not rest:
        return _line(type(module), r"def __call__\b")
    if kind == "glue" and not rest and len(own) > 1:
        module, rest = own[-2]
    calls = r"def __call__\b"
    if not rest:
        return _line(type(module), calls)
    return _line(type(module), *_spellings(rest[0]), after=calls if kind == "glue" else "")


def _owners(root: Any, path: Sequence[str]) -> list[tuple[Any, Sequence[str]]]:
    """The modules along a path, each with what is left of the path behind it."""
    module: Any = root
    found: list[tuple[Any, Sequence[str]]] = [(module, path)]
    for place, part in enumerate(path):
        try:
            module = module[int(part)] if part.isdigit() else getattr(module, part)
        except (AttributeError, TypeError, KeyError, IndexError):
            break
        found.append((module, path[place + 1 :]))
    return found


def _spellings(name: str) -> tuple[str, ...]:
    """How a layer's name may stand in the code: an attribute, linen's ``name=``, linen's numbered class."""
    kind, _, number = name.rpartition("_")
    numbered = (rf"\b{re.escape(kind)}\(",) if kind and number.isdigit() else ()
    return rf"self\.{re.escape(name)}\b", rf"[\"']{re.escape(name)}[\"']", *numbered


def _own(thing: Any) -> bool:
    module = getattr(thing, "__module__", "") or ""
    return module.split(".")[0] not in LIBRARIES and not module.startswith(LAYERS)


def _line(thing: Any, *patterns: str, after: str = "") -> Place | None:
    """The first line of a definition that holds a pattern, behind one that holds ``after``; else its first."""
    try:
        file = inspect.getsourcefile(thing)
        lines, first = inspect.getsourcelines(thing)
    except (TypeError, OSError):
        return None
    if not file:
        return None
    start = next((place + 1 for place, line in enumerate(lines) if after and re.search(after, line)), 0)
    for pattern in patterns:
        for place in range(start, len(lines)):
            if re.search(pattern, lines[place]):
                return Place(Path(file), max(first, 1) + place)
    named = next((place for place, line in enumerate(lines) if re.match(r"\s*(def|class)\b", line)), 0)
    return Place(Path(file), max(first, 1) + (start - 1 if start else named if not inspect.ismodule(thing) else 0))
