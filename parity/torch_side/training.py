"""torch's training loop: several updates, resumed in the middle; and its optimizer fed recorded gradients."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from parity import masks
from parity.recording import Recording
from parity.torch_side.side import TorchSide
from parity.torch_side.values import numpy


def lockstep(side: TorchSide, seed: int, steps: int, facts: dict[str, Any]) -> dict[str, np.ndarray]:
    """Changes of the parameters after every update, what the optimizer keeps, and what a resumed run makes.

    Beside these ``gradients/step/key``, what each step's backward has given, and ``optimizer/step/key``, what the
    optimizer made of it.
    """
    run = Run(side, side.fresh())
    start = now = run.parameters()
    tensors, losses, rates = {}, [], []
    saved: dict[str, Any] = {}
    for step in range(steps):
        if step == steps // 2:
            saved = run.save()
        rates.append(run.rates())
        losses.append(run.update(seed, step))
        before, now = now, run.parameters()
        moved = {name: value - start[name] for name, value in now.items() if name not in side.hold}
        tensors |= {f"updates/{step + 1}/{name}": value for name, value in moved.items()}
        tensors |= {f"optimizer/{step + 1}/{name}": now[name] - before[name] for name in moved}
        tensors |= {f"gradients/{step + 1}/{name}": value for name, value in run.gradients.items()}
        if step == 0:
            tensors |= {f"first_update/{name}": value for name, value in moved.items()}
            tensors |= {f"optimizer_state/{name}": value for name, value in run.slots().items()}
    tensors["updates/loss"] = np.asarray(losses)
    facts |= {"rates": rates, "clipped": run.clipped}
    tensors |= {f"resume/{name}": value for name, value in _resumed(side, saved, seed, steps, start).items()}
    if not any(name.startswith("optimizer_state/") for name in tensors):
        facts["skipped"]["optimizer_state"] = "the torch optimizer keeps no tensors"
    return tensors


def _resumed(
    side: TorchSide, saved: dict[str, Any], seed: int, steps: int, start: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    run = Run(side, side.fresh())
    run.load(saved)
    for step in range(steps // 2, steps):
        run.update(seed, step)
    now = run.parameters()
    return {name: now[name] - start[name] for name in now if name not in side.hold}


class Run:
    """A training loop as the pair describes it, one update at a time.

    Attributes:
      gradients: what the last backward has given, by parameter.
      clipped: whether clipping has changed a gradient; None where there is none.
    """

    def __init__(self, side: TorchSide, module: torch.nn.Module) -> None:
        pair = side.pair
        self.side, self.module, self.calls = side, module.train(), 0
        self.gradients: dict[str, np.ndarray] = {}
        self.clipped: bool | None = None
        self.optimizer = pair.torch_optimizer(module)  # pyright: ignore[reportOptionalCall]
        self.scheduler = pair.torch_scheduler(self.optimizer) if pair.torch_scheduler else None

    def rates(self) -> list[float]:
        """The learning rate of every group."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def named(self) -> dict[str, torch.nn.Parameter]:
        """The parameters, without those that are tied to another."""
        named = self.module.named_parameters(remove_duplicate=False)
        return {name: value for name, value in named if name not in self.side.ties}

    def parameters(self) -> dict[str, np.ndarray]:
        """Copies of their values."""
        return {name: numpy(value) for name, value in self.named().items()}

    def put(self, values: Mapping[str, np.ndarray]) -> None:
        """Overwrites parameters."""
        named = self.named()
        with torch.no_grad():
            for name, value in values.items():
                named[name].copy_(torch.as_tensor(value))

    def update(self, seed: int, step: int) -> float:
        """A step of the loop on a batch; returns the loss."""
        side = self.side
        inputs, targets = side.batch(seed, step)
        self._begin()
        with masks.in_torch(seed, step):
            made = side.call(self.module, inputs)
        loss = side.objective(made, targets, seed)
        self._backward(loss)
        self._finish()
        return float(loss.detach())

    def fed(self, gradients: Mapping[str, np.ndarray]) -> None:
        """A step of the loop with these gradients for those of a batch."""
        self._begin()
        for name, parameter in self.named().items():
            if name in gradients:
                given = torch.tensor(gradients[name]).to(parameter)  # a copy: clipping changes it
                parameter.grad = given if parameter.grad is None else parameter.grad + given
        self._finish()

    def _begin(self) -> None:
        if self.side.pair.zero_grad and self.calls % self.side.pair.accumulate == 0:
            self.optimizer.zero_grad()

    def _backward(self, loss: torch.Tensor) -> None:
        """Adds gradients up as torch does, and keeps what this call has added."""
        found: dict[str, torch.Tensor] = {}

        def keep(name: str) -> Any:
            return lambda gradient: found.__setitem__(name, found[name] + gradient if name in found else gradient)

        moving = {name: value for name, value in self.named().items() if value.requires_grad}
        handles = [value.register_hook(keep(name)) for name, value in moving.items()]
        loss.backward()
        for handle in handles:
            handle.remove()
        self.gradients = {name: numpy(value) for name, value in found.items()}

    def _finish(self) -> None:
        self.calls += 1
        if self.calls % self.side.pair.accumulate == 0:
            if self.side.pair.clip:
                before = _gradients(self.module)
                self.side.pair.clip(self.module)
                acted = any(not torch.equal(a, b) for a, b in zip(before, _gradients(self.module), strict=True))
                self.clipped = bool(self.clipped) or acted
            self.optimizer.step()
            if self.scheduler:
                self.scheduler.step()

    def slots(self) -> dict[str, np.ndarray]:
        """``parameter.slot`` -> what the optimizer keeps of the parameter's own shape."""
        named = {id(value): name for name, value in self.module.named_parameters()}
        return {
            f"{named[id(parameter)]}.{slot}": numpy(value)
            for parameter, slots in self.optimizer.state.items()
            for slot, value in slots.items()
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape and value.ndim > 0
        }

    def save(self) -> dict[str, Any]:
        """What a torch user saves, and the gradients that a forgotten zero_grad carries over."""
        return copy.deepcopy(
            {
                "module": self.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict() if self.scheduler else None,
                "gradients": [parameter.grad for parameter in self.module.parameters()],
                "calls": self.calls,
            }
        )

    def load(self, saved: dict[str, Any]) -> None:
        """The inverse of `save`."""
        self.module.load_state_dict(saved["module"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.calls = saved["calls"]
        for parameter, gradient in zip(self.module.parameters(), saved["gradients"], strict=True):
            parameter.grad = gradient
        if self.scheduler:
            self.scheduler.load_state_dict(saved["scheduler"])


def _gradients(module: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]


def fed(side: TorchSide, reference: Recording, steps: int) -> dict[int, dict[str, np.ndarray]]:
    """What the optimizer alone makes of recorded gradients, every update from where the parameters were then.

    Args:
      side: torch's; its pair may have another optimizer, schedule or loop than the one that was recorded.
      reference: of `lockstep`.
      steps: how many updates.

    Returns:
      The change of every parameter, by step from 1.
    """
    run = Run(side, side.fresh())
    start, found = run.parameters(), {}
    for step in range(1, steps + 1):
        moved = _recorded(reference, f"updates/{step - 1}")
        run.put({name: start[name] + moved[name] for name in moved})
        before = run.parameters()
        run.fed(_recorded(reference, f"gradients/{step}"))
        now = run.parameters()
        found[step] = {name: now[name] - before[name] for name in now if name not in side.hold}
    return found


def _recorded(reference: Recording, prefix: str) -> dict[str, np.ndarray]:
    return {leaf: reference.tensors[key] for leaf, key in reference.phase(prefix).items()}
