"""Losses."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax

from parity.mutate.faults import Fault, Planted, Right, registry
from parity.pair import Pair

FAULTS: list[Fault] = []
fault = registry(FAULTS)


@fault("loss summed", "the loss is the sum over the batch, not the mean")
def _summed(given: Right) -> Iterator[Planted]:
    return _changed(given, lambda loss, made, *targets: loss(made, *targets) * len(targets[0]))


@fault("label smoothing", "labels are smoothed on one side")
def _smoothing(given: Right) -> Iterator[Planted]:
    def change(loss: Any, made: Any, *targets: Any) -> Any:
        return 0.9 * loss(made, *targets) - 0.1 * jax.nn.log_softmax(made).mean()

    return _of_classes(given, change)


@fault("softmax twice", "the loss is given probabilities where it wants logits")
def _softmax(given: Right) -> Iterator[Planted]:
    return _of_classes(given, lambda loss, made, *targets: loss(jax.nn.softmax(made), *targets))


@fault("labels shifted", "labels are off by one")
def _shifted(given: Right) -> Iterator[Planted]:
    def change(loss: Any, made: Any, *targets: Any) -> Any:
        return loss(made, (targets[0] + 1) % made.shape[-1], *targets[1:])

    return _of_classes(given, change)


def _changed(given: Right, change: Callable[..., Any]) -> Iterator[Planted]:
    """The pair whose port has the loss ``change(loss, outputs, *targets)``."""
    if given.pair.loss:
        theirs, ours = given.pair.loss
        loss = (theirs, lambda made, *targets: change(ours, made, *targets))
        yield Planted(dataclasses.replace(given.pair, loss=loss), frozenset({"loss"}))


def _of_classes(given: Right, change: Callable[..., Any]) -> Iterator[Planted]:
    return _changed(given, change) if _classifies(given.pair) else iter(())


def _classifies(pair: Pair) -> bool:
    _, targets = pair.batch(0, 0)
    return any(target.dtype.kind in "iu" for target in targets[:1])
