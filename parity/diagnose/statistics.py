"""Running statistics: how a norm moves them in training."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from parity import masks
from parity.diagnose.explanation import Candidate, Explanation
from parity.locate import Fault
from parity.prove import Subject
from parity.torch_side import TorchSide
from parity.verdict import relative


def candidates(fault: Fault, subject: Subject, seed: int) -> Iterator[Candidate]:
    """For a statistic that moves differently while all layers compute the same."""
    if fault.made is None:
        return
    owner, mine = fault.place.rpartition(".")[0], fault.made[0]
    momentum = getattr(subject.module.get_submodule(owner), "momentum", None)
    if momentum is not None:
        yield from _norm(fault.place, momentum, mine, subject, seed)
    fix = f"{owner}: statistics do not move in training"
    yield Explanation("training with running statistics", fix), math.inf if mine.any() else 0.0


def _norm(place: str, momentum: float, mine: np.ndarray, subject: Subject, seed: int) -> Iterator[Candidate]:
    owner, _, statistic = place.rpartition(".")
    before = subject.weights[place]
    biases = _biases(subject, owner, seed) if statistic == "running_var" else []

    def moved(momentum: float) -> np.ndarray:
        module = _trained(subject, seed, owner, lambda layer: setattr(layer, "momentum", momentum))
        return module.state_dict()[place].double().numpy() - before

    def biased(movement: np.ndarray, momentum: float) -> Iterator[float]:
        """What is left with the batch's variance times (n - 1)/n."""
        for bias in biases:
            yield relative(mine, (movement + momentum * before) * bias - momentum * before)

    for value in dict.fromkeys((1 - momentum, 0.01, 0.1, 0.001, 0.9, 0.99, 0.0, 1.0)):
        if value != momentum:
            found = moved(value)
            name = "BatchNorm momentum" if value == 1 - momentum else "BatchNorm momentum default"
            explanation = Explanation(name, _conventions(owner, momentum, value))
            yield explanation, relative(mine, found)
            if biases:
                yield explanation, min(biased(found, value))
    fix = f"{owner}: torch multiplies the variance it keeps by n/(n-1); use jaxdl.nn.norm.BatchNorm"
    for left in biased(moved(momentum), momentum):
        yield Explanation("biased running variance", fix), left


def _conventions(owner: str, own: float, other: float) -> str:
    """torch counts the share of the batch, Flax that of what was before."""
    torch_s = f"torch's momentum is {own:g} (flax's {1 - own:g})"
    return f"{owner}: {torch_s}; the port moves as with torch's {other:g} (flax's {1 - other:g})"


def _biases(subject: Subject, owner: str, seed: int) -> list[float]:
    """(n - 1)/n for the number of values that a layer averages, in each of its calls."""
    counts: list[int] = []

    def count(_: Any, args: Any) -> None:
        counts.append(args[0].numel() // args[0].shape[1])

    _trained(subject, seed, owner, lambda layer: layer.register_forward_pre_hook(count))
    return [(n - 1) / n for n in counts]


def _trained(subject: Subject, seed: int, owner: str, change: Callable[[torch.nn.Module], Any]) -> torch.nn.Module:
    """torch's module after a training step's forward pass, one of its layers changed before."""
    side = TorchSide(subject.pair, subject.module, subject.weights)
    module = side.fresh().train()
    change(module.get_submodule(owner))
    with torch.no_grad(), masks.in_torch(seed, 0):
        side.call(module, side.batch(seed, 0)[0])
    return module
