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
    """An optimizer whose weight decay is taken off the weights, scaled by the rate."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
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
                    parameter.mul_(1 - group["lr"] * decay)
        self.optimizer.step()


class Uncorrected(torch.optim.Optimizer):
    """Adam or AdamW without the correction of its averages for their start at zero.

    Args:
      base: with the correction, for its groups.
    """

    def __init__(self, base: torch.optim.Optimizer) -> None:
        super().__init__([dict(group) for group in base.param_groups], dict(base.defaults))
        self.decoupled = isinstance(base, torch.optim.AdamW)

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Updates the parameters."""
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state, gradient = self.state[parameter], parameter.grad
                    if self.decoupled:
                        parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    else:
                        gradient = gradient + group["weight_decay"] * parameter
                    mean = state.setdefault("exp_avg", torch.zeros_like(parameter))
                    square = state.setdefault("exp_avg_sq", torch.zeros_like(parameter))
                    mean.mul_(b1).add_(gradient, alpha=1 - b1)
                    square.mul_(b2).addcmul_(gradient, gradient, value=1 - b2)
                    parameter.sub_(group["lr"] * mean / (square.sqrt() + group["eps"]))


def uncorrected(make: Make) -> Make:
    """Adam as `Uncorrected`."""
    return lambda module: Uncorrected(make(module))


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
