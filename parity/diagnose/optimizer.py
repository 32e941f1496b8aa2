"""The optimizer, its schedule and the loop: torch's with other settings, fed the same gradients as the port's."""

import copy
import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from parity.diagnose import libraries, rebuilt
from parity.diagnose.explanation import EXPLAINED, Candidate, Explanation
from parity.diagnose.replay import Replay, beside, looks, mixed
from parity.pair import Pair
from parity.prove import Subject
from parity.recording import Recording

# An explanation, and fields of the pair that make torch train as it says.
Change = tuple[Explanation, dict[str, Any]]
Make = Callable[[Any], Any]


def candidates(subject: Subject, reference: Recording, port: Recording) -> Iterator[Candidate]:
    """For updates that differ though the gradients are the same; first what would explain all of them."""
    replay = Replay(subject, reference, port)
    for explanation, pair in changed(subject.pair, reference):
        yield explanation, replay.left(pair)
    yield from mixed(replay)
    yield from looks(replay)


def pairs(subject: Subject, reference: Recording, port: Recording) -> tuple[Explanation, Explanation] | None:
    """Two explanations that together leave nothing, where none does alone."""
    replay = Replay(subject, reference, port)
    tried = list(changed(subject.pair, reference))
    for place, (first, pair) in enumerate(tried):
        for second, other in list(changed(pair, reference))[place + 1 :]:
            early = first.name != second.name and replay.left(other, subject.pair.accumulate) <= EXPLAINED
            if early and replay.left(other) <= EXPLAINED:
                return first, second
    for first, pair in tried:
        rates = [one for one, left in beside(replay, pair) if left <= EXPLAINED]
        if rates and first.name not in ("learning rate", "schedule"):
            return first, rates[0]
    return None


def changed(pair: Pair, reference: Recording) -> Iterator[tuple[Explanation, Pair]]:
    """Pairs whose torch trains as the port may."""
    for explanation, changes in optimizers(pair, reference.facts.get("rates") or []):
        yield explanation, dataclasses.replace(pair, **changes)


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
    yield from libraries.formulas(make, type(probe).__name__)
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
        fix = "torch multiplies the weight decay by the rate"
        yield (
            Explanation("decay without rate", fix),
            {"torch_optimizer": lambda module: rebuilt.Decoupled(make(module), scaled=False)},
        )


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
        yield from _other_clips(pair, rebuilt.clip_size(pair.clip))
    for norm in (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0):
        fix = f"the port clips gradients by the norm {norm:g}"
        yield Explanation("clipping", fix), {"clip": rebuilt.clipped_by_norm(norm)}
        fix = f"the port clips gradients by the value {norm:g}"
        yield Explanation("clipping by value", fix), {"clip": rebuilt.clipped_by_value(norm)}
    for count in {1, 2, 3, 4, pair.accumulate - 1, pair.accumulate + 1} - {0, pair.accumulate}:
        fix = f"add up the gradients of {pair.accumulate} calls, the port updates after {count}"
        yield Explanation("accumulation", fix), {"accumulate": count}
    for factor in (0.5, 2.0, 1.0 / max(pair.accumulate, 1), float(pair.accumulate)):
        if factor != 1:
            fix = f"the port's gradients are {factor:g} times torch's"
            yield Explanation("gradient scale", fix), {"clip": rebuilt.scaled(factor, pair.clip)}


def _other_clips(pair: Pair, size: float) -> Iterator[Change]:
    """The same bound on something else than torch bounds."""
    for fix, clip in (
        ("clip by the norm of all tensors together, not of each", rebuilt.clipped_each(size)),
        ("clip by the norm, not by the value", rebuilt.clipped_by_value(size)),
        ("clip every value, not the norm", rebuilt.clipped_by_norm(size)),
    ):
        yield Explanation("clipping", fix), {"clip": clip}
    make = pair.torch_optimizer
    assert make
    fix = "clip the gradients in front of the optimizer, not its updates"
    for rated, tiny in itertools.product((True, False), (1e-6, 0.0)):

        def made(module: Any, rated: bool = rated, tiny: float = tiny) -> Any:
            return rebuilt.ClippedUpdate(make(module), size, rated, tiny)

        yield Explanation("clipping", fix), {"clip": None, "torch_optimizer": made}


def _schedules(pair: Pair) -> Iterator[Change]:
    make = pair.torch_scheduler
    if make:
        fix = "the schedule is a step ahead: start it at step 0"
        yield Explanation("schedule off by one", fix), {"torch_scheduler": rebuilt.shifted(make, 1)}
        fix = "the schedule is a step late"
        yield Explanation("schedule off by one", fix), {"torch_scheduler": rebuilt.shifted(make, -1)}
    yield Explanation("schedule not applied", "apply the schedule"), {"torch_scheduler": None}
