"""Arrays of several shapes in one row for each dtype, padded to a common width."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from jaxdl.typing import Array


class Flat:
    """How a list of arrays lies in rows.

    Args:
      arrays: them, or their shapes and types.
    """

    def __init__(self, arrays: Sequence[Any]) -> None:
        self.shapes = [(tuple(array.shape), jnp.dtype(array.dtype).name) for array in arrays]

    @property
    def width(self) -> dict[str, int]:
        """The numbers of each dtype."""
        widths: dict[str, int] = {}
        for shape, dtype in self.shapes:
            widths[dtype] = widths.get(dtype, 0) + math.prod(shape)
        return widths

    @staticmethod
    def widest(layouts: Iterable["Flat"]) -> dict[str, int]:
        """The width that all of them fit into."""
        widths: dict[str, int] = {}
        for layout in layouts:
            for dtype, width in layout.width.items():
                widths[dtype] = max(widths.get(dtype, 0), width)
        return widths

    def pack(self, arrays: Sequence[Array], width: Mapping[str, int]) -> dict[str, Array]:
        """The rows, filled up with zeros."""
        rows = {}
        for dtype, size in width.items():
            own = [array.ravel() for array, (_, kind) in zip(arrays, self.shapes, strict=True) if kind == dtype]
            fill = jnp.zeros(size - sum(map(len, own)), dtype)
            rows[dtype] = jnp.concatenate([*own, fill])
        return rows

    def unpack(self, rows: Mapping[str, Array]) -> list[Array]:
        """The inverse of `pack`."""
        arrays, places = [], dict.fromkeys(rows, 0)
        for shape, dtype in self.shapes:
            begin = places[dtype]
            places[dtype] = begin + math.prod(shape)
            arrays.append(rows[dtype][begin : places[dtype]].reshape(shape))
        return arrays
