"""The forward pass of a port, with other functions in it."""

import contextlib
import dataclasses
import functools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax

from parity.flax_side import FlaxSide
from parity.flax_side.calling import plain_call
from parity.pair import Pair
from parity.prove import precise


def runs(pair: Pair) -> bool:
    """Whether the port still takes its inputs."""
    try:
        _run(pair)
    except (ValueError, TypeError):
        return False
    return True


def seen(pair: Pair, owner: Any, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """The arguments of every call of ``owner.name`` in a forward pass."""
    calls = []

    def look(function: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append((args, kwargs))
        return function(*args, **kwargs)

    def start() -> Callable[..., Any]:
        calls.clear()  # the port may be run to make it ready
        return look

    _run(calling(pair, owner, name, start))
    return calls


def calling(pair: Pair, owner: Any, name: str, start: Callable[[], Callable[..., Any]]) -> Pair:
    """The pair whose port calls ``start()(function, *args)`` for ``owner.name``; each forward pass starts anew.

    The function is the one of that moment: that of JAX may have been put aside for one that keeps float64.
    """

    def call(module: Any, *inputs: Any, train: bool, rngs: Any) -> Any:
        function = getattr(owner, name)
        with everywhere(function, functools.partial(start(), function)):
            return plain_call(pair, module, inputs, train, rngs)

    return dataclasses.replace(pair, flax_call=call)


def _run(pair: Pair) -> None:
    with precise():
        side = FlaxSide(pair, pair.flax_module(), pair.batch(0, 0)[0])
        inputs, _ = side.batch(0, 0)
        model = side.model
        jax.eval_shape(lambda x: side.forward(model.params, model.stats, x, train=False)[0], inputs)


@contextlib.contextmanager
def everywhere(original: Any, other: Any) -> Iterator[None]:
    """While it lasts every module that has a function under any name has another in its place."""
    places = [
        (module, name)
        for module in list(sys.modules.values())
        if isinstance(module, types.ModuleType) and not module.__name__.startswith(("jax._src", "parity.mutate"))
        for name, value in list(vars(module).items())
        if value is original
    ]
    try:
        for module, name in places:
            setattr(module, name, other)
        yield
    finally:
        for module, name in places:
            setattr(module, name, original)
