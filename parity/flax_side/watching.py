"""Stands in for every call of a layer of the port while it runs."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

from flax import linen, nnx

# (path, call, args, kwargs) -> what the call shall return.
Watch = Callable[[str, Callable[..., Any], Any, Any], Any]


@contextlib.contextmanager
def watched_nnx(module: nnx.Module, watch: Watch) -> Iterator[None]:
    """While it lasts ``watch(path, call, args, kwargs)`` stands in for every call of a part of the module."""
    paths: dict[int, str] = {}
    for path, part in nnx.iter_modules(module):
        paths.setdefault(id(part), ".".join(map(str, path)))
    classes = {type(part) for _, part in nnx.iter_modules(module) if callable(part)}
    own = {cls: cls.__dict__.get("__call__") for cls in classes}
    originals = {cls: cls.__call__ for cls in classes}
    stack: list[int] = []
    try:
        for cls, original in originals.items():
            cls.__call__ = _wrapped(original, paths, stack, watch)
        yield
    finally:
        for cls, before in own.items():
            if before is None:
                del cls.__call__
            else:
                cls.__call__ = before


def _wrapped(
    original: Callable[..., Any], paths: dict[int, str], stack: list[int], watch: Watch
) -> Callable[..., Any]:
    @functools.wraps(original)  # its signature is asked for
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        # A module built on the way, or a class that calls its parent's __call__.
        if id(self) not in paths or (stack and stack[-1] == id(self)):
            return original(self, *args, **kwargs)
        stack.append(id(self))
        try:
            return watch(paths[id(self)], lambda *a, **k: original(self, *a, **k), args, kwargs)
        finally:
            stack.pop()

    return call


@contextlib.contextmanager
def watched_linen(watch: Watch) -> Iterator[None]:
    """The same for every ``__call__`` of a linen module."""

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        return watch(".".join(context.module.path), call, args, kwargs)

    with linen.intercept_methods(intercept):
        yield
