"""What a planted fault is, and the correct pair it is planted into."""

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from parity import torch_side
from parity.bridge import Bridge
from parity.pair import Pair
from parity.prove import precise, prepare


@dataclasses.dataclass(frozen=True)
class Planted:
    """A pair with a fault.

    Attributes:
      pair: with it.
      kinds: what `parity.locate` may call the kind of place.
      places: torch's paths that it may name; empty where the fault has no place in the model.
    """

    pair: Pair
    kinds: frozenset[str]
    places: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Right:
    """A correct pair made ready to be spoiled.

    Attributes:
      pair: with fixed weights in both modules.
      module: torch's.
      bridge: between the two.
      port: the Flax module with the weights.
      optimizer: the torch optimizer's class name and settings; empty without one.
      rates: the learning rate of each update.
      weights: that both start with, by torch key.
    """

    pair: Pair
    module: torch.nn.Module
    bridge: Bridge
    port: Any
    optimizer: Mapping[str, Any]
    rates: tuple[float, ...]
    weights: Mapping[str, np.ndarray]


Plant = Callable[[Right], Iterator[Planted]]


@dataclasses.dataclass(frozen=True)
class Fault:
    """A kind of bug.

    Attributes:
      name: short, unique; `parity.diagnose` uses the same names.
      text: what the port's author did.
      plant: ``right pair -> planted pairs``, none where the pair has nothing to spoil in this way.
    """

    name: str
    text: str
    plant: Plant


def registry(faults: list[Fault]) -> Callable[[str, str], Callable[[Plant], Plant]]:
    """A decorator ``(name, text)`` that puts a function that plants a fault into a list."""

    def fault(name: str, text: str) -> Callable[[Plant], Plant]:
        def register(plant: Plant) -> Plant:
            faults.append(Fault(name, text, plant))
            return plant

        return register

    return fault


def right(pair: Pair, *, seed: int = 0, steps: int = 5) -> Right:
    """Fixes the weights of a correct pair, shaken so that none of them hides a fault."""
    with precise():
        subject = prepare(pair, seed=seed)
    module = copy.deepcopy(subject.module).double()
    torch_side.load(module, subject.weights)
    port = pair.flax_module()
    optimizer, rates = _training(pair, copy.deepcopy(module), steps)
    fixed = dataclasses.replace(pair, torch=module, flax=port, shake=False)
    return Right(fixed, module, subject.bridge, port, optimizer, rates, subject.weights)


def _training(pair: Pair, module: torch.nn.Module, steps: int) -> tuple[dict[str, Any], tuple[float, ...]]:
    """The settings of torch's optimizer, and its learning rate before each update and a few more."""
    if not pair.torch_optimizer:
        return {}, ()
    optimizer = pair.torch_optimizer(module)
    settings = {"class": type(optimizer).__name__, "groups": len(optimizer.param_groups), **optimizer.defaults}
    scheduler = pair.torch_scheduler(optimizer) if pair.torch_scheduler else None
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    rates = []
    for _ in range(steps + 2):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if scheduler:
            scheduler.step()
    return settings, tuple(rates)
