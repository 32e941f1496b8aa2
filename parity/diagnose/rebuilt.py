"""torch's optimizer, schedule and clipping, rebuilt as ports have them."""

from collections.abc import Callable
from typing import Any

import torch

Make = Callable[[Any], Any]


def matrices_decayed(make: Make) -> Make:
    """The optimizer without weight decay of biases and norms."""

    def made(module: Any) -> Any:
        return _split(make(module), 0.0)

    return made


def all_decayed(make: Make) -> Make:
    """The optimizer with the largest weight decay of its groups for every parameter."""

    def made(module: Any) -> Any:
        optimizer = make(module)
        top = max(group["weight_decay"] for group in optimizer.param_groups)
        for group in optimizer.param_groups:
            group["weight_decay"] = top
        return optimizer

    return made


def undecayed(make: Make) -> Make:
    """The optimizer without weight decay."""

    def made(module: Any) -> Any:
        optimizer = make(module)
        for group in optimizer.param_groups:
            group["weight_decay"] = 0.0
        return optimizer

    return made


def _split(optimizer: Any, decay: float) -> Any:
    """Moves biases and norms to groups of their own with this weight decay."""
    for group in list(optimizer.param_groups):
        others = [parameter for parameter in group["params"] if parameter.ndim < 2]
        group["params"] = [parameter for parameter in group["params"] if parameter.ndim > 1]
        optimizer.param_groups.append({**group, "params": others, "weight_decay": decay})
    return optimizer


def other_decay(make: Make, kind: str) -> Make:
    """The same optimizer with the other of the two kinds of weight decay."""

    def made(module: Any) -> Any:
        optimizer = make(module)
        if kind not in ("Adam", "AdamW"):
            return Decoupled(optimizer)
        own = {key: optimizer.defaults[key] for key in ("lr", "betas", "eps", "weight_decay", "amsgrad")}
        return (torch.optim.AdamW if kind == "Adam" else torch.optim.Adam)(module.parameters(), **own)

    return made


class Decoupled:
    """An optimizer whose weight decay is taken off the weights, scaled by the rate or not."""

    def __init__(self, optimizer: Any, scaled: bool = True) -> None:
        self.optimizer, self.scaled = optimizer, scaled
        self.decays = [group["weight_decay"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["weight_decay"] = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)

    def step(self) -> None:
        """Decays, then updates."""
        with torch.no_grad():
            for group, decay in zip(self.optimizer.param_groups, self.decays, strict=True):
                for parameter in group["params"]:
                    parameter.mul_(1 - (group["lr"] if self.scaled else 1.0) * decay)
        self.optimizer.step()


class Shifted:
    """A scheduler that is some steps ahead, or behind."""

    def __init__(self, scheduler: Any, shift: int) -> None:
        self.scheduler, self.wait = scheduler, max(0, -shift)
        for _ in range(shift):
            scheduler.step()

    def step(self) -> None:
        """A step of the schedule, once it need not wait."""
        if self.wait:
            self.wait -= 1
        else:
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """As a scheduler of torch."""
        return {"wait": self.wait, "scheduler": self.scheduler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """As a scheduler of torch."""
        self.wait = state["wait"]
        self.scheduler.load_state_dict(state["scheduler"])


def shifted(make: Make, shift: int) -> Make:
    """The scheduler as `Shifted`."""
    return lambda optimizer: Shifted(make(optimizer), shift)


def clipped_by_norm(norm: float) -> Callable[[torch.nn.Module], None]:
    """Clips as optax does: without torch's 1e-6 beside the norm."""

    def clip(module: torch.nn.Module) -> None:
        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        total = torch.stack([gradient.square().sum() for gradient in gradients]).sum().sqrt()
        if total > norm:
            for gradient in gradients:
                gradient.mul_(norm / total)

    return clip


def clipped_each(norm: float) -> Callable[[torch.nn.Module], None]:
    """Clips every tensor by itself."""

    def clip(module: torch.nn.Module) -> None:
        for parameter in module.parameters():
            if parameter.grad is not None:
                torch.nn.utils.clip_grad_norm_([parameter], norm)

    return clip


class ClippedUpdate:
    """An optimizer whose update is clipped by its norm, not the gradient.

    Args:
      optimizer: of torch.
      norm: the largest, of the update or of what it is before the rate.
      rated: of the update.
      beside: added to the norm that is divided by, torch's 1e-6.
    """

    def __init__(self, optimizer: Any, norm: float, rated: bool, beside: float) -> None:
        self.optimizer, self.norm, self.rated, self.beside = optimizer, norm, rated, beside

    def __getattr__(self, name: str) -> Any:
        return getattr(self.optimizer, name)

    def step(self) -> None:
        """Updates, then takes back what is too much."""
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        before = [parameter.detach().clone() for parameter in parameters]
        self.optimizer.step()
        with torch.no_grad():
            moved = [parameter - old for parameter, old in zip(parameters, before, strict=True)]
            rate = 1.0 if self.rated else self.optimizer.param_groups[0]["lr"]
            total = torch.stack([change.square().sum() for change in moved]).sum().sqrt() / rate
            factor = min(1.0, float(self.norm / (total + self.beside)))
            for parameter, old, change in zip(parameters, before, moved, strict=True):
                parameter.copy_(old + change * factor)


def clip_size(clip: Callable[[Any], Any]) -> float:
    """What a function clips a large gradient to: its norm, or the size of its largest value."""
    module = torch.nn.Linear(3, 2, bias=False).double()
    module.weight.grad = 1e6 * torch.arange(1.0, 7.0, dtype=torch.float64).reshape(2, 3)
    clip(module)
    alike = module.weight.grad.std() < 1e-3 * module.weight.grad.mean()
    return float(module.weight.grad.max() if alike else module.weight.grad.norm())


def clipped_by_value(value: float) -> Callable[[torch.nn.Module], None]:
    """Clips every element."""
    return lambda module: torch.nn.utils.clip_grad_value_(module.parameters(), value)


def scaled(factor: float, clip: Callable[[Any], Any] | None) -> Callable[[torch.nn.Module], None]:
    """Multiplies gradients, and clips them as the pair does."""

    def scale(module: torch.nn.Module) -> None:
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(factor)
        if clip:
            clip(module)

    return scale
