"""Glue: the functions that torch calls between two layers, each done in another way."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from parity import masks
from parity.align import error
from parity.diagnose import sums
from parity.diagnose.explanation import Candidate, Explanation
from parity.diagnose.functions import ACTIVATIONS, Swap, swaps
from parity.diagnose.values import arriving, numbers, precision
from parity.locate import Fault
from parity.prove import Subject
from parity.torch_side import TorchSide


def candidates(fault: Fault, subject: Subject, seed: int) -> Iterator[Candidate]:
    """For what reaches a layer, or comes out of one behind its inner layers, and is wrong."""
    if fault.made is None:
        return
    name = fault.place or "the output"
    for explanation, swap in swaps(name):
        seen = Segment(fault, swap).run(subject, seed)
        if seen is not None and swap.count:
            yield explanation, error(fault.made, seen)
    plain = Segment(fault).run(subject, seed)
    if plain is not None:
        yield from precision(name, fault.made, plain)
        if len(plain) == len(fault.made) == 1:
            yield from arriving(name, fault.made[0], plain[0])
            yield from sums.candidates(fault, subject, plain[0], seed)
    yield from _modules(fault, subject, name, seed)


def _modules(fault: Fault, subject: Subject, name: str, seed: int) -> Iterator[Candidate]:
    """Activations that are modules in torch and functions in the port."""
    side = TorchSide(subject.pair, subject.module, subject.weights)
    parts = {path: part for path, part in side.start.named_modules() if path}
    plain = {path for path, part in parts.items() if not [*part.children(), *part.parameters()]}
    for path in sorted(plain - set(fault.leaves)):
        if not isinstance(parts[path], torch.nn.modules.dropout._DropoutNd | torch.nn.Identity):
            for title, function in ACTIVATIONS.items():
                seen = Segment(fault, instead={path: function}).run(subject, seed)
                if seen is not None:
                    kind = "gelu form" if "gelu" in title else "other activation"
                    fix = f"the port computes {title} for {path} (in front of {name})"
                    yield Explanation(kind, fix), error(fault.made or (), seen)


class Segment:
    """What torch computes between the layer before a place and the place itself.

    Args:
      fault: says where.
      swap: functions that are others there; entered in `run`.
      instead: path of a module -> a function of its input.
    """

    def __init__(
        self,
        fault: Fault,
        swap: Swap | None = None,
        instead: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] | None = None,
    ) -> None:
        self.fault, self.swap, self.instead = fault, swap, instead or {}
        self.seen: list[np.ndarray] | None = None
        self.opened = self.passed = 0

    def run(self, subject: Subject, seed: int) -> list[np.ndarray] | None:
        """The values at the place; None where it is not reached."""
        side = TorchSide(subject.pair, subject.module, subject.weights)
        module = side.fresh().train(self.fault.train)
        self._watch(module)
        self._update()
        dropout = masks.in_torch(seed, 0) if self.fault.train else contextlib.nullcontext()
        # Shapes that do not fit behind the place raise: what was seen there counts.
        with contextlib.suppress(Exception), torch.no_grad(), dropout, self.swap or contextlib.nullcontext():
            side.call(module, side.batch(seed, 0)[0])
        return self.seen

    def _watch(self, module: torch.nn.Module) -> None:
        for path, function in self.instead.items():
            module.get_submodule(path).register_forward_hook(lambda _, args, __, f=function: f(args[0]))
        target = module.get_submodule(self.fault.place)
        if self.fault.arrives:
            target.register_forward_pre_hook(lambda _, args, kwargs: self._keep((args, kwargs)), with_kwargs=True)
        else:
            target.register_forward_hook(lambda _module, _args, made: self._keep(made))
        for path in self.fault.leaves:
            module.get_submodule(path).register_forward_pre_hook(self._enter)
            module.get_submodule(path).register_forward_hook(self._leave)

    def _enter(self, *_: Any) -> None:
        self.opened += 1
        self._update()

    def _leave(self, *_: Any) -> None:
        self.opened -= 1
        self.passed += 1
        self._update()

    def _keep(self, values: Any) -> None:
        if self.seen is None and self.passed == self.fault.before:
            self.seen = [x.copy() for x in numbers(values)]
            self._update()

    def _update(self) -> None:
        if self.swap:
            inside = self.opened == 0 and self.passed == self.fault.before
            self.swap.active = inside and self.seen is None
