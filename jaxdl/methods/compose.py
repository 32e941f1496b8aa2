"""Compositions: how many units go, which rank is left, how many weights are 0, and how many bytes that makes.

Every composition stores its weights as int8 codes, one scale for each output (`jaxdl.methods.quantize`).
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from jaxdl.engine import packed
from jaxdl.engine.packed import Codes, Packable, Product
from jaxdl.methods import low_rank
from jaxdl.methods.quantize import affine

LEAST = 0.01  # share of the weights that a composition keeps at least
SMALLEST_SIDE = 16  # of a weight that is worth two factors


@dataclasses.dataclass(frozen=True)
class Composition:
    """What is done to a model before its weights become int8.

    Attributes:
      units: share of the units of each layer that go (net, cnn).
      rank: share of each larger weight's numbers that its two factors have; 1: it is not factored.
      sparsity: share of the weights left that become 0.
      soft: weight of the run's own soft targets in the loss of the training.
    """

    units: float = 0.0
    rank: float = 1.0
    sparsity: float = 0.0
    soft: float = 0.0

    def __str__(self) -> str:
        """What `parse` reads."""
        values = dataclasses.asdict(self).items()
        plain = dataclasses.asdict(Composition())
        return ",".join(f"{name}:{value:.6g}" for name, value in values if value != plain[name]) or "int8"


def parse(text: str) -> Composition:
    """A composition as text: ``units:0.25,rank:0.5,sparsity:0.9,soft:0.5``, or ``int8`` for nothing else.

    Raises:
      ValueError: another word, or a share outside its range.
    """
    if text == "int8":
        return Composition()
    known = [field.name for field in dataclasses.fields(Composition)]
    found = {}
    for part in text.split(","):
        name, _, value = part.partition(":")
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = math.nan
        low, high = (0, 1) if name != "rank" else (math.ulp(0), 1)
        if (
            name not in known
            or not low <= found[name] <= high
            or (found[name] == 1 and name in ("units", "sparsity"))
        ):
            raise ValueError(
                f"--composition is a list such as units:0.25,rank:0.5,sparsity:0.9,soft:0.5; got {text!r}"
            )
    return Composition(**found)


def ranks(shapes: Mapping[str, tuple[int, ...]], share: float) -> dict[str, int]:
    """Layer -> rank, of the layers whose weights are worth two factors; none for a share of 1.

    Args:
      shapes: of the parameters, in torch's layouts.
      share: of a weight's numbers that the factors have.
    """
    found = {}
    for name, shape in shapes.items():
        if share < 1 and is_weight(name, shape) and min(shape[0], math.prod(shape[1:])) >= SMALLEST_SIDE:
            found[name.removesuffix(".weight")] = low_rank.rank_for(shape, share)
    return found


def factored(shapes: Mapping[str, tuple[int, ...]], ranks: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The shapes with factors in the place of the weights of some layers."""
    found = dict(shapes)
    for layer, rank in ranks.items():
        outputs, *inputs = found.pop(f"{layer}.weight")
        found |= {f"{layer}{low_rank.LEFT}": (outputs, rank), f"{layer}{low_rank.RIGHT}": (rank, *inputs)}
    return found


def sparsity_for(shapes: Mapping[str, tuple[int, ...]], room: int) -> float | None:
    """The least sparsity with which weights of int8 take at most ``room`` bytes, wherever the zeros are.

    Args:
      shapes: of the parameters that are stored, factors in the place of a factored weight.
      room: for codes and the places of zeros.

    Returns:
      A share in [0, 1 - LEAST]; None where that is not enough.
    """
    sizes = [math.prod(shape) for name, shape in shapes.items() if is_weight(name, shape)]
    total, bits = sum(sizes), sum(-(-size // 8) for size in sizes)
    if room >= total:
        return 0.0
    kept = max(room - bits, (room - total // packed.LONGEST) // 2)  # a bit for each weight, or a byte for each gap
    return None if kept < LEAST * total else 1 - kept / total


def least_room(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """What `sparsity_for` needs at least."""
    total = sum(math.prod(shape) for name, shape in shapes.items() if is_weight(name, shape))
    return 2 * math.ceil(LEAST * total) + total // packed.LONGEST


def is_weight(name: str, shape: Sequence[int]) -> bool:
    """Whether a parameter is stored as codes."""
    return name.endswith("weight") and len(shape) > 1


def pack(arrays: Mapping[str, np.ndarray]) -> dict[str, Packable]:
    """Weights as int8 codes with a scale for each output, factors as products, all else as it is.

    Args:
      arrays: parameters and statistics by name, in torch's layouts.
    """
    coded = {name: codes(array) if is_weight(name, array.shape) else array for name, array in arrays.items()}
    found: dict[str, Packable] = {}
    for name, value in coded.items():
        layer = name.removesuffix(low_rank.LEFT)
        if name.endswith(low_rank.LEFT):
            found[f"{layer}.weight"] = Product(value, coded[f"{layer}{low_rank.RIGHT}"])
        elif not name.endswith(low_rank.RIGHT):
            found[name] = value
    return found


def codes(weight: np.ndarray) -> Codes:
    """A weight (out, ...) as int8 codes, symmetric, one scale for each output."""
    largest = np.abs(weight).max(axis=tuple(range(1, weight.ndim)), keepdims=True)
    scale = affine.symmetric(largest)
    return Codes(affine.quantize(weight, scale), scale)
