"""What to prune of a model, and how masks for it are found.

The parameters are flat, by name, in torch's layouts (`jaxdl.engine.weights.to_torch`).
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from jaxdl import tree
from jaxdl.engine import weights
from jaxdl.methods.prune import masks, units
from jaxdl.methods.prune.ramp import Find
from jaxdl.typing import Array, PyTree

Structure = Literal["weights", "units", "2:4"]
Criterion = Literal["magnitude", "random"]
Scope = Literal["global", "layer"]
Params = Mapping[str, Array]


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to prune of a model.

    Attributes:
      structure: single weights, whole units, or two of any four inputs.
      pattern: a regular expression for the names of the weights; empty: all that can be pruned so.
      scope: weights are compared across all layers ("global"), or within theirs; units are within theirs.
      criterion: the smallest go, or any: drawn once, so that what is pruned stays pruned.
      seed: of what is drawn.
    """

    structure: Structure = "weights"
    pattern: str = ""
    scope: Scope = "global"
    criterion: Criterion = "magnitude"
    seed: int = 0

    def names(self, model: str, params: Params) -> list[str]:
        """The weights to prune; of units those that make them, which the last layer has none of.

        Raises:
          ValueError: there are none, or they cannot be pruned so.
        """
        able = [name for name, leaf in params.items() if name.endswith("weight") and leaf.ndim > 1]
        if self.structure == "units":
            able = [f"{layer}.weight" for layer in units.readers(model, able)]
        if self.structure == "2:4" and not self.pattern:
            able = [name for name in able if params[name].shape[1] % 4 == 0]
        names = [name for name in able if re.fullmatch(self.pattern or ".*", name)]
        if not names:
            raise ValueError(f"no weight to prune matches {self.pattern!r}; there are {', '.join(able) or 'none'}")
        return names

    def find(self, model: str, params: Params, amounts: Sequence[float]) -> Find:
        """``(params, place in amounts) -> masks``.

        Raises:
          ValueError: as `names`; of 2:4, a weight whose number of inputs 4 does not divide.
        """
        names = self.names(model, params)
        if self.structure == "2:4":
            found = {name: masks.n_of_m(params[name]) for name in names}
            return lambda *_: found
        key = jax.random.key(self.seed) if self.criterion == "random" else None
        if self.structure == "units":
            return _of_units(params, [name.removesuffix(".weight") for name in names], amounts, key)
        groups = [names] if self.scope == "global" else [[name] for name in names]
        return _of_weights(params, groups, amounts, key)

    def sizes(self, model: str, params: Params, amount: float) -> dict[str, int]:
        """How many units each layer keeps, of pruned units.

        Raises:
          ValueError: one keeps none.
        """
        names, left = self.names(model, params), {}
        for layer in units.readers(model, params):
            size = len(params[f"{layer}.weight"])
            left[layer] = size - int(masks.count(amount, size)) if f"{layer}.weight" in names else size
        if empty := [layer for layer, size in left.items() if size < 1]:
            raise ValueError(f"an amount of {amount:g} leaves no unit of {', '.join(empty)}")
        return left


def natively(model: nnx.Module, find: Find) -> Find:
    """``find`` for parameters and masks as the model has them: nested parameters in, masks by name out."""

    def in_its_layout(params: PyTree, place: Array) -> dict[str, Array]:
        return weights.from_torch(model, find(weights.to_torch(model, tree.flatten(params)), place))

    return in_its_layout


def _of_weights(
    params: Params, groups: Sequence[Sequence[str]], amounts: Sequence[float], key: Array | None
) -> Find:
    """Masks of the smallest magnitudes of each group, or of drawn ones where there is a key."""
    names = [name for group in groups for name in group]
    drawn = _drawn({name: params[name].shape for name in names}, key)
    counts = [_counts(amounts, sum(params[name].size for name in group)) for group in groups]

    def find(params: Params, place: Array) -> dict[str, Array]:
        found = {}
        for group, numbers in zip(groups, counts, strict=True):
            scores = {name: drawn.get(name, params[name]) for name in group}
            found |= masks.global_unstructured(scores, numbers[place])
        return found

    return find


def _of_units(params: Params, layers: Sequence[str], amounts: Sequence[float], key: Array | None) -> Find:
    """Masks of the units of each layer whose weights have the smallest L2-norms."""
    sizes = {layer: len(params[f"{layer}.weight"]) for layer in layers}
    drawn = _drawn({layer: (size,) for layer, size in sizes.items()}, key)
    counts = {layer: _counts(amounts, size) for layer, size in sizes.items()}

    def find(params: Params, place: Array) -> dict[str, Array]:
        keep = {}
        for layer in layers:
            scores = drawn[layer] if layer in drawn else masks.unit_norms(params[f"{layer}.weight"])
            keep[layer] = masks.l1_unstructured(scores, counts[layer][place])
        return units.masks(params, keep)

    return find


def _counts(amounts: Sequence[float], size: int) -> Array:
    return jnp.asarray([masks.count(amount, size) for amount in amounts], jnp.int32)


def _drawn(shapes: Mapping[str, tuple[int, ...]], key: Array | None) -> dict[str, Array]:
    """Numbers in [0, 1) in place of magnitudes, where there is a key."""
    if key is None:
        return {}
    keys = jax.random.split(key, len(shapes))
    return {name: jax.random.uniform(k, shape) for k, (name, shape) in zip(keys, shapes.items(), strict=True)}
