"""Recurrent layers, from cells."""

from collections.abc import Callable, Mapping
from typing import Any, cast

from flax import linen, nnx
from torch import nn

from parity.pair import Pair
from parity.twins.families.parts import Array, Original, drawn


class Recurrent(nnx.Module):
    """Cells of nnx, one a layer and direction."""

    def __init__(self, cell: Any, width: int, layers: int = 1, both: bool = False) -> None:
        def made(size: int) -> nnx.Module:
            def run() -> nnx.RNN:
                return nnx.RNN(cell(size, width, rngs=nnx.Rngs(0)))

            return nnx.Bidirectional(run(), run()) if both else run()

        self.layers = nnx.List([made(width * (1 + (both and place > 0))) for place in range(layers)])

    def __call__(self, x: Array) -> Array:
        made: Any = x
        for layer in self.layers:
            made = layer(made, rngs=nnx.Rngs(0))
        return made


class LinenRecurrent(linen.Module):
    """Cells of linen."""

    cell: Any
    width: int
    layers: int = 1

    @linen.compact
    def __call__(self, x: Array) -> Array:
        for _ in range(self.layers):
            x = cast(Array, linen.RNN(self.cell(self.width))(x))
        return x


def recurrent(
    kind: str, port: Callable[[], Any], training: Mapping[str, Any] | None = None, **options: Any
) -> Pair:
    """torch's layer of this kind, as wide as its input."""
    width = 5
    return Pair(
        torch=lambda: Original(
            lambda m, x: m.rnn(x)[0], rnn=getattr(nn, kind)(width, width, batch_first=True, **options)
        ),
        flax=port,
        inputs=drawn(3, 4, width),
        **(training or {}),
    )
