"""Optimizers as other libraries write them: the same name, another formula."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from parity.diagnose.explanation import Explanation

Make = Callable[[Any], Any]
# (gradient, state of the parameter, settings of its group) -> the direction to go against, times the rate.
Direction = Callable[[torch.Tensor, dict[str, Any], Mapping[str, Any]], torch.Tensor]


class Rebuilt(torch.optim.Optimizer):
    """An optimizer of torch with another formula; weight decay as the original has it.

    Args:
      base: for its groups and settings.
      direction: the formula.
    """

    def __init__(self, base: torch.optim.Optimizer, direction: Direction) -> None:
        super().__init__([dict(group) for group in base.param_groups], dict(base.defaults))
        self.decoupled = isinstance(base, torch.optim.AdamW)
        self.direction = direction

    @torch.no_grad()
    def step(self) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Updates the parameters."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    gradient, decay = parameter.grad, group.get("weight_decay", 0.0)
                    if self.decoupled:
                        parameter.mul_(1 - group["lr"] * decay)
                    else:
                        gradient = gradient + decay * parameter
                    state = self.state[parameter]
                    state["step"] = state.get("step", 0) + 1
                    parameter.sub_(group["lr"] * self.direction(gradient, state, group))


def _average(
    state: dict[str, Any], name: str, value: torch.Tensor, beta: float, start: float = 0.0
) -> torch.Tensor:
    before = state.get(name, torch.full_like(value, start))
    state[name] = beta * before + (1 - beta) * value
    return state[name]


def _adam(denominator: Callable[[torch.Tensor, float, float], torch.Tensor], corrected: bool = True) -> Direction:
    """Adam with ``denominator(square, correction, eps)``."""

    def direction(gradient: torch.Tensor, state: dict[str, Any], group: Mapping[str, Any]) -> torch.Tensor:
        b1, b2 = group["betas"]
        first, second = (1 - beta ** state["step"] if corrected else 1.0 for beta in (b1, b2))
        mean = _average(state, "mean", gradient, b1) / first
        return mean / denominator(_average(state, "square", gradient.square(), b2), second, group["eps"])

    return direction


def _rmsprop(root: bool, start: float = 0.0) -> Direction:
    def direction(gradient: torch.Tensor, state: dict[str, Any], group: Mapping[str, Any]) -> torch.Tensor:
        square = _average(state, "square", gradient.square(), group["alpha"], start)
        scaled = gradient / ((square + group["eps"]).sqrt() if root else square.sqrt() + group["eps"])
        state["momentum"] = group["momentum"] * state.get("momentum", 0.0) + scaled
        return state["momentum"]

    return direction


def _adagrad(start: float, eps: float) -> Direction:
    def direction(gradient: torch.Tensor, state: dict[str, Any], _: Mapping[str, Any]) -> torch.Tensor:
        state["sum"] = state.get("sum", start) + gradient.square()
        return gradient / (state["sum"] + eps).sqrt()

    return direction


def _averaged(corrected: bool) -> Direction:
    def direction(gradient: torch.Tensor, state: dict[str, Any], group: Mapping[str, Any]) -> torch.Tensor:
        mean = _average(state, "mean", gradient, group["momentum"])
        return mean / (1 - group["momentum"] ** state["step"]) if corrected else mean

    return direction


def _rate_in_trace(gradient: torch.Tensor, state: dict[str, Any], group: Mapping[str, Any]) -> torch.Tensor:
    state["trace"] = group["momentum"] * state.get("trace", 0.0) + group["lr"] * gradient
    return state["trace"] / group["lr"] if group["lr"] else torch.zeros_like(gradient)


def _signs(gradient: torch.Tensor, *_: Any) -> torch.Tensor:
    return gradient.sign()


DIRECTIONS: Mapping[str, tuple[tuple[str, str, Direction], ...]] = {
    "Adam": (
        (
            "no bias correction",
            "divide Adam's averages by 1 - beta^t",
            _adam(lambda square, _, eps: square.sqrt() + eps, corrected=False),
        ),
        (
            "eps hat",
            "torch adds eps to the corrected root, the port to the one before (epsilon hat of Adam's paper)",
            _adam(lambda square, second, eps: (square.sqrt() + eps) / second**0.5),
        ),
        (
            "eps in the root",
            "torch adds eps to the root: optax's eps, not eps_root",
            _adam(lambda square, second, eps: (square / second + eps).sqrt()),
        ),
    ),
    "RMSprop": (
        ("eps in the root", "torch adds eps to the root: eps_in_sqrt=False", _rmsprop(root=True)),
        ("RMSprop start", "torch's average starts at 0: initial_scale=0", _rmsprop(root=False, start=1.0)),
        ("RMSprop start", "initial_scale=0, and eps_in_sqrt=False", _rmsprop(root=True, start=1.0)),
    ),
    "Adagrad": (
        ("Adagrad start", "torch's sum starts at 0: initial_accumulator_value=0", _adagrad(0.1, 0.0)),
        ("Adagrad start", "initial_accumulator_value=0, eps=1e-20 (in the root)", _adagrad(0.1, 1e-7)),
        ("eps in the root", "torch adds eps to the root: optax's adagrad with eps=1e-20", _adagrad(0.0, 1e-7)),
    ),
    "SGD": (
        ("momentum as average", "torch adds up gradients: optax.trace, not optax.ema", _averaged(corrected=False)),
        ("momentum as average", "torch adds up gradients: optax.trace, not optax.ema", _averaged(corrected=True)),
        ("rate inside momentum", "multiply by the rate what comes out of the momentum", _rate_in_trace),
    ),
}  # fmt: skip


def formulas(make: Make, kind: str) -> Iterator[tuple[Explanation, dict[str, Any]]]:
    """The optimizer with another library's formula, and other optimizers of its rate."""
    for name, fix, direction in DIRECTIONS.get(kind.removesuffix("W"), ()):
        yield Explanation(name, fix), {"torch_optimizer": lambda module, d=direction: Rebuilt(make(module), d)}
    for other in ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad"):
        if other != kind:
            yield (
                Explanation("other optimizer", f"torch's is {kind}, the port's {other}"),
                {"torch_optimizer": lambda module, other=other: _another(make(module), other)},
            )
    fix = f"torch's is {kind}, the port goes by the sign of the gradient"
    yield Explanation("other optimizer", fix), {"torch_optimizer": lambda module: Rebuilt(make(module), _signs)}


def _another(base: torch.optim.Optimizer, kind: str) -> torch.optim.Optimizer:
    """Another class of torch's, with its defaults but for the rate and the weight decay."""
    kept = ("params", "lr", "initial_lr", "weight_decay")
    groups = [{key: group[key] for key in kept if key in group} for group in base.param_groups]
    return getattr(torch.optim, kind)(groups, lr=base.defaults["lr"])
