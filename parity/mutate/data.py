"""Inputs that were made ready in another way."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from parity.mutate.faults import Fault, Planted, Right, registry

FAULTS: list[Fault] = []
fault = registry(FAULTS)


@fault("input scale", "inputs are divided by 255 once more, or not at all")
def _scale(given: Right) -> Iterator[Planted]:
    return _changed(given, lambda x: x / 255)


@fault("input height and width", "height and width of the images are exchanged")
def _axes(given: Right) -> Iterator[Planted]:
    first = _first(given)
    if first.ndim == 4 and first.shape[2] == first.shape[3]:
        yield from _changed(given, lambda x: x.transpose(0, 1, 3, 2))


@fault("input channels", "the channels are in the order of another library")
def _channels(given: Right) -> Iterator[Planted]:
    first = _first(given)
    if first.ndim == 4 and first.shape[1] > 1:
        yield from _changed(given, lambda x: x[:, ::-1])


def _first(given: Right) -> np.ndarray:
    inputs, _ = given.pair.batch(0, 0)
    return next(iter(inputs.values()))


def _changed(given: Right, change: Callable[[Any], Any]) -> Iterator[Planted]:
    """The pair whose port gets another first input, where that is a floating-point array."""
    if _first(given).dtype.kind == "f":
        before = given.pair.flax_inputs or _as_given

        def inputs(x: Any, *rest: Any, **more: Any) -> Any:
            return before(change(x), *rest, **more)

        yield Planted(dataclasses.replace(given.pair, flax_inputs=inputs), frozenset({"glue", "layer"}))


def _as_given(first: Any, *rest: Any) -> Any:
    return (first, *rest) if rest else first
