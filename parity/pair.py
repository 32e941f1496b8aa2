"""What is compared: a torch module and its Flax port, how they are called and how they are trained."""

import dataclasses
import difflib
import importlib
import importlib.util
import itertools
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parity.bridge import Rule

Draw = Callable[[np.random.Generator], Any]


class PairError(ValueError):
    """What makes a pair impossible to compare, in one line a problem."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """A torch module and its Flax port. Everything but the two modules and the inputs is optional.

    Attributes:
      torch: the ``torch.nn.Module``, or a function without arguments that makes it.
      flax: the ``flax.nnx.Module`` or ``flax.linen.Module``, or a function that makes it; with a seed as its
        optional argument, as in ``lambda seed=0: Net(rngs=nnx.Rngs(seed))``, its initial weights are judged too.
      inputs: ``rng -> x``: one batch as torch's ``forward`` takes it, as NumPy arrays: an array, a tuple of
        them, or a dict of keyword arguments. Floating-point arrays are drawn in any precision.
      flax_inputs: what the port takes instead, as a function of the same arguments; it must work on NumPy and
        JAX arrays alike. `channels_last` for images. Without it: the same arrays.
      targets: ``rng -> y``: what the loss takes beside the outputs: an array or a tuple.
      loss: ``(torch_loss, flax_loss)``, each ``(outputs, *targets) -> scalar``. Without it gradients are those
        of a fixed random projection of the outputs.
      outputs: ``(of_torch, of_flax)``: picks what is compared from what the modules return.
      torch_optimizer: ``module -> torch.optim.Optimizer``, over ``module.parameters()`` or groups of them.
      torch_scheduler: ``optimizer -> scheduler``, stepped after every update.
      clip: ``module -> ...``, called between ``backward`` and ``step``: ``clip_grad_norm_`` and the like.
      zero_grad: False for a loop that forgets it.
      accumulate: how many times ``backward`` runs for one ``step``.
      tx: the optax transformation that should do the same, clipping, schedule and accumulation included.
      weights: "copy": the bridge carries torch's weights to the port. "loaded": the port's own conversion has
        done so already, and its result is checked. Or that conversion: ``state_dict -> variables`` with NumPy
        arrays, nested as the module's (``{"params": ..., "batch_stats": ...}`` for linen).
      rules: for the bridge, before what it infers.
      ignore: ``pattern -> reason``: torch keys or Flax paths that have no counterpart.
      shake: constant weights (the scales and statistics of a fresh BatchNorm, zero biases) hide faults; replace
        them by random ones on both sides. Only where weights are copied.
      flax_call: ``(module, *inputs, train, rngs) -> outputs``, for a port whose signature is not understood.
      name: in reports.
    """

    torch: Any
    flax: Any
    inputs: Draw
    flax_inputs: Callable[..., Any] | None = None
    targets: Draw | None = None
    loss: tuple[Callable[..., Any], Callable[..., Any]] | None = None
    outputs: tuple[Callable[[Any], Any], Callable[[Any], Any]] | None = None
    torch_optimizer: Callable[[Any], Any] | None = None
    torch_scheduler: Callable[[Any], Any] | None = None
    clip: Callable[[Any], Any] | None = None
    zero_grad: bool = True
    accumulate: int = 1
    tx: Any = None
    weights: Any = "copy"
    rules: Sequence[Rule] = ()
    ignore: Mapping[str, str] = dataclasses.field(default_factory=dict)
    shake: bool = True
    flax_call: Callable[..., Any] | None = None
    name: str = ""

    def torch_module(self) -> Any:
        """The torch module: the one given, or a new one."""
        made = not isinstance(self.torch, type) and hasattr(self.torch, "state_dict")
        return self.torch if made else self.torch()

    def flax_module(self, seed: int | None = None) -> Any:
        """The Flax module: the one given, or a new one, with the given seed where its maker takes one."""
        from flax import linen, nnx

        if isinstance(self.flax, nnx.Module | linen.Module):
            return self.flax
        return self.flax() if seed is None else self.flax(seed)

    def batch(self, seed: int, step: int) -> tuple[dict[str | int, np.ndarray], tuple[np.ndarray, ...]]:
        """Inputs and targets of a step; both frameworks see the same.

        Returns:
          Inputs keyed by position or by keyword, and the targets.
        """
        inputs = self.inputs(np.random.default_rng([seed, step, 0]))
        targets = self.targets(np.random.default_rng([seed, step, 1])) if self.targets else ()
        return named(inputs), tuple(named(targets).values())


def named(values: Any) -> dict[str | int, np.ndarray]:
    """An array, a tuple of arrays or a dict of them, keyed by position or by keyword.

    Raises:
      PairError: something else is among them.
    """
    if isinstance(values, Mapping):
        items = dict(values)
    elif isinstance(values, tuple | list):
        items = dict(enumerate(values))
    else:
        items = {0: values}
    for key, value in items.items():
        if not isinstance(value, np.ndarray | np.generic):
            raise PairError(f"input {key}: expected a NumPy array, got {type(value).__name__}")
    return {key: np.asarray(value) for key, value in items.items()}


def projection(seed: int, place: int, shape: Sequence[int]) -> np.ndarray:
    """The fixed random numbers that both sides take to turn an output into a scalar where a pair has no loss."""
    return np.random.default_rng([seed, 5, place]).standard_normal(tuple(shape))


def channels_last(*inputs: Any) -> Any:
    """Images (B, C, H, W) as (B, H, W, C), also with one or three axes of space; other arrays as they are."""
    moved = [x.transpose((0, *range(2, x.ndim), 1)) if x.ndim > 2 else x for x in inputs]
    return tuple(moved) if len(moved) > 1 else moved[0]


def load(target: str) -> Pair:
    """The pair that ``module:function`` or ``file.py:function`` makes, or a shipped one by its name.

    Raises:
      PairError: there is no such thing, it cannot be imported, or it is no pair.
    """
    if ":" not in target:
        from parity.twins import PAIRS  # needs torch, which the port's half of a dump does without

        if target not in PAIRS:
            known = f"expected module:function, file.py:function or one of {', '.join(PAIRS)}"
            raise PairError(f"no pair {target!r}{_nearest(target, PAIRS)}: {known}")
        return dataclasses.replace(PAIRS[target](), name=target)
    place, _, name = target.rpartition(":")
    module = _import(place)
    found = getattr(module, name, None)
    if found is None:
        raise PairError(f"{place} has no {name!r}{_nearest(name, vars(module))}")
    made = found if isinstance(found, Pair) else _call(found, target)
    if not isinstance(made, Pair):
        raise PairError(f"{target}: expected a parity.Pair, got {type(made).__name__}")
    return made if made.name else dataclasses.replace(made, name=target)


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def module_name(place: str) -> str:
    """Under which name `load` imports a module or a file: a file's is its own, whatever others are called."""
    if not place.endswith(".py"):
        return place
    path = Path(place).resolve()
    packages = itertools.takewhile(lambda folder: (folder / "__init__.py").is_file(), path.parents)
    inside = [folder.name for folder in packages][::-1]  # of a package: its relative imports work
    return ".".join([*inside, path.stem]) if inside else f"_parity_{zlib.crc32(bytes(path)):08x}_{path.stem}"


def _import(place: str) -> Any:
    path = Path(place).resolve()
    if place.endswith(".py") and not path.is_file():
        raise PairError(f"no file {place}")
    try:
        return _from_file(path, module_name(place)) if place.endswith(".py") else _from_path(place, Path.cwd())
    except PairError:
        raise
    except (Exception, SystemExit) as error:
        first = next(iter(str(error).strip().splitlines()), "")
        raise PairError(f"{place} does not import: {type(error).__name__}: {first}") from error


def _from_path(name: str, folder: Path) -> Any:
    """A module by its name, which may lie in a folder."""
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


def _from_file(path: Path, name: str) -> Any:
    """A file, which imports its neighbours as a script does, or relatively where it is part of a package."""
    if "." in name:
        return _from_path(name, path.parents[name.count(".")])
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # and stays, as the pair's functions may import later
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _call(function: Any, target: str) -> Any:
    try:
        return function()
    except PairError:
        raise
    except Exception as error:
        raise PairError(f"{target} failed: {type(error).__name__}: {error}") from error
