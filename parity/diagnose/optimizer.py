"""The optimizer, its schedule and the loop: training in torch with others; judged by what all parameters do."""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from parity.diagnose import rebuilt
from parity.diagnose.explanation import EXPLAINED, Candidate, Explanation
from parity.diagnose.values import multiple, stacked
from parity.pair import Pair
from parity.prove import Subject
from parity.recording import Recording
from parity.torch_side import TorchSide
from parity.verdict import relative

# An explanation, and fields of the pair that make torch train as it says.
Change = tuple[Explanation, dict[str, Any]]
Make = Callable[[Any], Any]


def candidates(
    subject: Subject, reference: Recording, port: Recording, seed: int, steps: int
) -> Iterator[Candidate]:
    """For updates that differ while the gradients are right; first what would explain all of them."""
    for explanation, changes in optimizers(subject.pair, reference.facts.get("rates") or []):
        pair = dataclasses.replace(subject.pair, **changes)
        side = TorchSide(pair, subject.module, subject.weights, hold=subject.bridge.held)
        try:
            found = side.changes(seed=seed, steps=steps)
        except Exception:  # this optimizer has no such setting
            continue
        yield explanation, _distance(subject, found, port)
    yield from _first_update(subject, reference, port)


def _distance(subject: Subject, found: Mapping[str, np.ndarray], port: Recording) -> float:
    """The largest error of all parameters' changes together, over the updates."""
    worst = 0.0
    for step in {name.split("/", 1)[0] for name in found}:
        own = {name.split("/", 1)[1]: value for name, value in found.items() if name.startswith(f"{step}/")}
        mine, theirs = _both(subject, port, f"updates/{step}", own)
        worst = max(worst, relative(stacked(mine), stacked(theirs)))
    return worst


def _both(
    subject: Subject, port: Recording, prefix: str, own: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What the port and torch have in common under a prefix."""
    mine = port.phase(prefix)
    theirs = {name: value for name, value in subject.bridge.merged(own).items() if name in mine}
    return {name: port.tensors[mine[name]] for name in theirs}, theirs


def _first_update(subject: Subject, reference: Recording, port: Recording) -> Iterator[Candidate]:
    """What can be seen in the first update alone."""
    own = {leaf: reference.tensors[key] for leaf, key in reference.phase("first_update").items()}
    mine, theirs = _both(subject, port, "first_update", own)
    moved = [name for name in mine if theirs[name].any()]
    still = [name for name in moved if not mine[name].any()]
    yield Explanation("no update", "apply the updates"), 0.0 if moved and len(still) == len(moved) else math.inf
    factor = multiple(stacked(mine), stacked(theirs))
    title = "sign of the update" if abs(factor + 1) < EXPLAINED else "learning rate"
    left = relative(stacked(mine), factor * stacked(theirs))
    differs = abs(factor - 1) > EXPLAINED
    yield Explanation(title, f"the port's updates are {factor:.6g} times torch's"), left if differs else math.inf
    others = [{name: values[name] for name in moved if name not in still} for values in (mine, theirs)]
    rest = 0 < len(still) < len(moved) and relative(*map(stacked, others)) < EXPLAINED
    fix = f"update {', '.join(still)} as well"
    yield Explanation("frozen layer", fix), 0.0 if rest else math.inf


def optimizers(pair: Pair, rates: Sequence[Sequence[float]]) -> Iterator[Change]:
    """What a port may have made of torch's optimizer, schedule and loop.

    Args:
      pair: with the torch optimizer.
      rates: of each update, as torch's recording tells them.
    """
    make = pair.torch_optimizer
    assert make
    probe = make(copy.deepcopy(pair.torch_module()))
    own = probe.param_groups[0]
    yield Explanation("accumulated gradients", "start every step from fresh gradients"), {"zero_grad": False}
    fix = "add gradients up, as the torch loop without zero_grad does"
    yield Explanation("gradients not accumulated", fix), {"zero_grad": True}
    for factor in (10.0, 0.1, 2.0, 0.5, 100.0, 0.01):
        fix = f"the port's learning rate is {factor:g} times torch's"
        yield Explanation("learning rate", fix), _set(make, lr=lambda group, factor=factor: group["lr"] * factor)
    uphill = _set(make, maximize=lambda group: not group.get("maximize", False))
    yield Explanation("sign of the update", "subtract the update"), uphill
    yield from _momenta(make, own)
    yield from _decays(make, own, type(probe).__name__)
    yield from _averages(make, own)
    yield from _gradients(pair)
    if len({tuple(rate) for rate in rates}) > 1:
        yield from _schedules(pair)


def _set(make: Make, **values: Any) -> dict[str, Any]:
    """The optimizer with other settings; functions are given the group's old ones."""

    def made(module: Any) -> Any:
        optimizer = make(module)
        for group in optimizer.param_groups:
            missing = values.keys() - group.keys()
            if missing:
                raise KeyError(missing)
            group.update({name: value(group) if callable(value) else value for name, value in values.items()})
        return optimizer

    return {"torch_optimizer": made}


def _flipped(make: Make, key: str) -> dict[str, Any]:
    return _set(make, **{key: lambda group: not group[key]})


def _other_values(
    make: Make, own: Mapping[str, Any], key: str, title: str, values: Sequence[Any]
) -> Iterator[Change]:
    """The optimizer with other values of one setting."""
    for value in values:
        if value != own[key]:
            fix = f"{key}={_short(own[key])}, the port's is {_short(value)}"
            yield Explanation(title, fix), _set(make, **{key: value})


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float | int) else str(value)


def _momenta(make: Make, own: Mapping[str, Any]) -> Iterator[Change]:
    if own.get("momentum"):
        plain = {"nesterov": False} if "nesterov" in own else {}
        fix = f"momentum={own['momentum']:g}"
        yield Explanation("no momentum", fix), _set(make, momentum=0.0, **plain)
    if "momentum" in own:
        yield from _other_values(make, own, "momentum", "momentum", (0.9, 0.99, 0.95, 0.5))
    if "nesterov" in own:
        yield Explanation("Nesterov", f"nesterov={own['nesterov']}"), _flipped(make, "nesterov")
        fix = f"dampening={own['dampening']:g}"
        yield Explanation("dampening", fix), _set(make, dampening=lambda group: group["momentum"])
        yield Explanation("dampening", fix), _set(make, dampening=0.0)


def _decays(make: Make, own: Mapping[str, Any], kind: str) -> Iterator[Change]:
    if "weight_decay" in own:
        values = (0.0, 1e-4, 1e-2, 5e-4, 1e-3, 0.1, 5e-5)
        yield from _other_values(make, own, "weight_decay", "weight decay default", values)
    if own.get("weight_decay"):
        for fix, other in (
            ("torch decays biases and norms too", rebuilt.matrices_decayed(make)),
            ("torch decays all in its groups", rebuilt.all_decayed(make)),
        ):
            yield Explanation("decay mask", fix), {"torch_optimizer": other}
        fix = "coupled (L2) against decoupled weight decay"
        yield Explanation("decay kind", fix), {"torch_optimizer": rebuilt.other_decay(make, kind)}


def _averages(make: Make, own: Mapping[str, Any]) -> Iterator[Change]:
    if "eps" in own:
        values = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12, 1e-16, 0.0)
        yield from _other_values(make, own, "eps", "optimizer eps", values)
    if "betas" in own:
        first, second = own["betas"]
        for betas in (
            *((first, value) for value in (0.99, 0.95, 0.98, 0.999)),
            (0.9, 0.999),
            (0.5, second),
            (0.0, second),
            (second, first),
        ):
            if betas != own["betas"]:
                yield (
                    Explanation("betas", f"betas={own['betas']}, the port's are {betas}"),
                    _set(make, betas=betas),
                )
        fix = "divide Adam's averages by 1 - beta^t"
        yield Explanation("no bias correction", fix), {"torch_optimizer": rebuilt.uncorrected(make)}
    if "alpha" in own:
        for value in (0.9, 0.99, 0.95, 0.999):
            if value != own["alpha"]:
                fix = f"decay={own['alpha']:g}, the port's is {value:g}"
                yield Explanation("RMSprop decay", fix), _set(make, alpha=value)
        yield Explanation("centered", f"centered={own['centered']}"), _flipped(make, "centered")
    if "amsgrad" in own:
        yield Explanation("AMSGrad", f"amsgrad={own['amsgrad']}"), _flipped(make, "amsgrad")


def _gradients(pair: Pair) -> Iterator[Change]:
    if pair.clip:
        yield Explanation("no clipping", "clip the gradients"), {"clip": None}
    for norm in (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0):
        fix = f"the port clips gradients by the norm {norm:g}"
        yield Explanation("clipping", fix), {"clip": rebuilt.clipped_by_norm(norm)}
        fix = f"the port clips gradients by the value {norm:g}"
        yield Explanation("clipping by value", fix), {"clip": rebuilt.clipped_by_value(norm)}
    for factor in (0.5, 2.0, 1.0 / max(pair.accumulate, 1), float(pair.accumulate)):
        if factor != 1:
            fix = f"the port's gradients are {factor:g} times torch's"
            yield Explanation("gradient scale", fix), {"clip": rebuilt.scaled(factor, pair.clip)}


def _schedules(pair: Pair) -> Iterator[Change]:
    make = pair.torch_scheduler
    if make:
        fix = "the schedule is a step ahead: start it at step 0"
        yield Explanation("schedule off by one", fix), {"torch_scheduler": rebuilt.shifted(make, 1)}
        fix = "the schedule is a step late"
        yield Explanation("schedule off by one", fix), {"torch_scheduler": rebuilt.shifted(make, -1)}
    yield Explanation("schedule not applied", "apply the schedule"), {"torch_scheduler": None}
