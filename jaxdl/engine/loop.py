"""The training loop. There is one."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from jaxdl.data.loader import Chunk
from jaxdl.engine.state import TrainState
from jaxdl.typing import Metrics, PyTree


class Late:
    """Device values that are read one push later, so the host never waits for what it has just started."""

    def __init__(self) -> None:
        self._pending: tuple[PyTree, Callable[[Any], None]] | None = None

    def push(self, values: PyTree, read: Callable[[Any], None]) -> None:
        """Gives the values pushed before to their reader, on the host, and keeps these."""
        pending, self._pending = self._pending, (values, read)
        if pending:
            pending[1](jax.device_get(pending[0]))

    def flush(self) -> None:
        """Reads what is kept; returns when the device has done it."""
        pending, self._pending = self._pending, None
        if pending:
            pending[1](jax.device_get(pending[0]))


class Hook:
    """Something to do beside the steps. A subclass overrides what it needs."""

    def on_metrics(self, chunk: Chunk, metrics: Metrics) -> None:
        """The metrics of each step of a chunk, on the host, one chunk late."""

    def due(self, step: int) -> bool:  # noqa: ARG002 - the answer of a hook that needs no state
        """Whether `on_state` is wanted after ``step`` steps, which end a chunk."""
        return False

    def on_state(self, step: int, state: TrainState, late: Late) -> None:
        """The state, which the next chunk overwrites: start what uses it, push what comes out to ``late``."""


def fit(
    state: TrainState,
    run: Callable[[TrainState, PyTree], tuple[TrainState, Metrics]],
    chunks: Iterable[Chunk],
    hooks: Sequence[Hook],
) -> TrainState:
    """Runs every chunk and returns the last state.

    Args:
      state: where to start; it is donated.
      run: ``(state, items of a chunk) -> (state, metrics of each step)``.
      chunks: the steps to take.
      hooks: called in this order.
    """
    late = Late()
    for chunk in chunks:
        state, metrics = run(state, chunk.items)

        def read(metrics: Metrics, chunk: Chunk = chunk) -> None:
            for hook in hooks:
                hook.on_metrics(chunk, metrics)

        late.push(metrics, read)
        for hook in hooks:
            if hook.due(chunk.stop):
                hook.on_state(chunk.stop, state, late)
    late.flush()
    return state
