"""How a parameter's axes lie here and in torch, and the way between the two.

Every parameter of a jaxdl module that torch stores with other axes carries its layout as metadata:
``nnx.Param(value, layout=LINEAR)``. So weights are written under torch's names and in torch's shapes without a
second table of the model.
"""

import dataclasses
import math
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:  # the command line of parity reads layouts before it needs jax
    import jax

AnyArray = TypeVar("AnyArray", np.ndarray, "jax.Array")


@dataclasses.dataclass(frozen=True)
class Layout:
    """jaxdl's array, split into axes, permuted, and joined again, is torch's array.

    Args:
      perm: the permutation that leads to torch's order of axes.
      split: the shape before the permutation, where one axis here holds several (empty: as it is).
      joined: after the permutation, how many neighbouring axes make each of torch's (empty: one each).
    """

    perm: tuple[int, ...]
    split: tuple[int, ...] = ()
    joined: tuple[int, ...] = ()

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """The same numbers with torch's axes, contiguous."""
        return np.ascontiguousarray(self.permuted(array))

    def from_torch(self, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The inverse of `to_torch` for a parameter whose shape here is ``shape``.

        Raises:
          ValueError: torch's array has another shape than such a parameter has there.
        """
        return np.ascontiguousarray(self.restored(array, shape))

    def permuted(self, array: AnyArray) -> AnyArray:
        """`to_torch` for any kind of array, traced ones too, contiguous or not."""
        axes = array.reshape(self.split or array.shape).transpose(self.perm)
        return axes.reshape(self._join(axes.shape))

    def restored(self, array: AnyArray, shape: tuple[int, ...]) -> AnyArray:
        """`from_torch` for any kind of array, as `permuted`; the same errors."""
        split = self.split or shape
        permuted = tuple(split[axis] for axis in self.perm)
        if array.shape != self._join(permuted):
            raise ValueError(f"expected shape {self._join(permuted)}, got {array.shape}")
        inverse = tuple(self.perm.index(axis) for axis in range(len(self.perm)))
        return array.reshape(permuted).transpose(inverse).reshape(shape)

    def _join(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        sizes, rest = [], list(shape)
        for count in self.joined or (1,) * len(shape):
            sizes.append(math.prod(rest[:count]))
            rest = rest[count:]
        return tuple(sizes)


LINEAR = Layout((0, 1))  # (out, in), as torch
CONV2D = Layout((3, 2, 0, 1))  # (height, width, in, out) -> (out, in, height, width)


def flattened(height: int, width: int, channels: int, features: int) -> Layout:
    """A Linear behind a flattened image: (out, height*width*channels) -> (out, channels*height*width)."""
    return Layout((0, 3, 1, 2), split=(features, height, width, channels), joined=(1, 3))
