"""The torch module of a pair, in one precision."""

import contextlib
import copy
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from parity.pair import Pair, projection
from parity.torch_side.exact import Exact
from parity.torch_side.groups import tied
from parity.torch_side.values import outputs
from parity.torch_side.weights import load, perturbed


class TorchSide:
    """The torch module of a pair, in one precision.

    Args:
      pair: its torch part.
      module: of the pair.
      weights: loaded into it, see `state`.
      dtype: to compute in.
      hold: keys of parameters, or parts ``key[start:stop]`` of them, that no update changes.
      device: where.
      noise: relative size of random changes of the inputs.
      own: the module is given away: it is used as it is, and gradients go as soon as they are recorded. For large
        models, without updates.
    """

    def __init__(
        self,
        pair: Pair,
        module: torch.nn.Module,
        weights: Mapping[str, np.ndarray],
        *,
        dtype: torch.dtype = torch.float64,
        hold: frozenset[str] = frozenset(),
        device: str = "cpu",
        noise: float = 0.0,
        own: bool = False,
    ) -> None:
        self.pair, self.dtype, self.device, self.hold, self.noise = pair, dtype, device, hold, noise
        self.own = own
        self.start = (module if own else copy.deepcopy(module)).to(device=device, dtype=dtype)
        load(self.start, weights)
        self.ties = tied(self.start)

    def fresh(self) -> torch.nn.Module:
        """A module as it was at the start."""
        shared = {id(parameter): parameter for parameter in self.start.parameters()} if self.own else {}
        module = copy.deepcopy(self.start, shared)
        parameters = dict(module.named_parameters(remove_duplicate=False))
        for held in self.hold:
            part = re.fullmatch(r"(.+)\[(\d+):(\d+)\]", held)
            if part:
                _hold(parameters[part[1]], int(part[2]), int(part[3]))
            else:
                parameters[held].requires_grad_(False)
        return module

    def batch(self, seed: int, step: int) -> tuple[dict[Any, torch.Tensor], tuple[torch.Tensor, ...]]:
        """Inputs and targets of a step as tensors; `noise` is put on the inputs alone."""
        inputs, targets = self.pair.batch(seed, step)
        if self.noise:
            floats = {str(key): value for key, value in inputs.items() if value.dtype.kind == "f"}
            moved = perturbed(
                {key: value.astype(np.float64) for key, value in floats.items()}, seed + step, self.noise
            )
            inputs = {key: moved.get(str(key), value) for key, value in inputs.items()}
        return {key: self.tensor(value) for key, value in inputs.items()}, tuple(map(self.tensor, targets))

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        """An array as torch takes it: floats in the precision of the side, integers as int64."""
        if array.dtype.kind == "f":
            return torch.as_tensor(np.ascontiguousarray(array)).to(device=self.device, dtype=self.dtype)
        if array.dtype.kind in "iu":
            return torch.as_tensor(array.astype(np.int64)).to(self.device)
        return torch.as_tensor(array).to(self.device)

    def run(self, module: torch.nn.Module, inputs: Mapping[Any, torch.Tensor]) -> Any:
        """What ``forward`` returns."""
        positional = [value for key, value in inputs.items() if isinstance(key, int)]
        keywords = {key: value for key, value in inputs.items() if isinstance(key, str)}
        with Exact() if self.dtype == torch.float64 else contextlib.nullcontext():
            return module(*positional, **keywords)

    def picked(self, made: Any) -> Any:
        """What the pair picks of it."""
        return self.pair.outputs[0](made) if self.pair.outputs else made

    def call(self, module: torch.nn.Module, inputs: Mapping[Any, torch.Tensor]) -> Any:
        """``forward``, and of what it returns what the pair picks."""
        return self.picked(self.run(module, inputs))

    def objective(self, made: Any, targets: tuple[torch.Tensor, ...], seed: int) -> torch.Tensor:
        """The loss, or without one a fixed random projection of the outputs."""
        if self.pair.loss:
            return self.pair.loss[0](made, *targets)
        floats = {name: value for name, value in outputs(made).items() if value.is_floating_point()}
        return sum(
            (value * self.tensor(projection(seed, place, value.shape))).sum()
            for place, value in enumerate(floats.values())
        )  # pyright: ignore[reportReturnType]


def _hold(parameter: torch.nn.Parameter, start: int, stop: int) -> None:
    moves = torch.ones_like(parameter)
    moves[start:stop] = 0
    parameter.register_hook(lambda gradient: gradient * moves)
