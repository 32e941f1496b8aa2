"""How a port is called: its inputs, and whatever its signature has of flags and randomness."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from flax import nnx

from parity.pair import Pair

# How a port is told whether it trains: a keyword of its __call__ -> its value, given `train`.
FLAGS: Mapping[str, Callable[[bool], bool]] = {
    "train": lambda train: train,
    "training": lambda train: train,
    "is_training": lambda train: train,
    "deterministic": lambda train: not train,
    "use_running_average": lambda train: not train,
}


def split(inputs: Mapping[Any, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Inputs by position and by keyword."""
    positional = [value for key, value in inputs.items() if isinstance(key, int)]
    return positional, {key: value for key, value in inputs.items() if isinstance(key, str)}


def flags(function: Any, train: bool) -> dict[str, bool]:
    """The flags that a function's signature has."""
    return {name: FLAGS[name](train) for name in inspect.signature(function).parameters if name in FLAGS}


def caller(function: Any) -> Callable[..., Any]:
    """``(module, inputs, train) -> outputs`` for a module whose ``__call__`` is this function."""
    parameters = inspect.signature(function).parameters

    def call(module: Any, inputs: Mapping[Any, Any], train: bool) -> Any:
        positional, keywords = split(inputs)
        keywords |= flags(function, train)
        if "rngs" in parameters:
            keywords["rngs"] = nnx.Rngs(0, dropout=0) if train else None
        for name in ("key", "rng"):
            if name in parameters and name not in keywords:
                keywords[name] = jax.random.key(0)
        return module(*positional, **keywords)

    return call


def given(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a pair's own ``flax_call``."""

    def call(module: Any, inputs: Mapping[Any, Any], train: bool) -> Any:
        positional, keywords = split(inputs)
        return function(module, *positional, **keywords, train=train, rngs=nnx.Rngs(0, dropout=0))

    return call


def plain_call(pair: Pair, module: Any, inputs: Sequence[Any], train: bool, rngs: Any) -> Any:
    """What the port returns when it is called as the pair says, or as its signature does."""
    if pair.flax_call:
        return pair.flax_call(module, *inputs, train=train, rngs=rngs)
    return caller(type(module).__call__)(module, dict(enumerate(inputs)), train)
