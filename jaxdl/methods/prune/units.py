"""Structured pruning: the units (neurons, channels) that a model can lose, and the smaller model that is left.

The arrays here are those of a state_dict: flat, under torch's names, in torch's layouts (outputs, inputs, ...).
"""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

from jaxdl import tree
from jaxdl.engine import weights
from jaxdl.methods.prune.masks import unit_norms
from jaxdl.typing import Array, PyTree

StateDict = Mapping[str, Array]
CHAINS = ("net", "cnn")  # models in which each layer's outputs are read by the next layer alone


def readers(model: str, names: Iterable[str]) -> dict[str, str]:
    """Layer -> the layer that reads its outputs, in the order of the forward pass.

    Raises:
      ValueError: a model whose layers are not a chain.
    """
    if model not in CHAINS:
        raise ValueError(f"whole units can be pruned of {' and '.join(CHAINS)}; got {model}: prune its weights")
    found = [re.fullmatch(r"(conv|fc)(\d+)\.weight", name) for name in names]
    layers = sorted((match[1], int(match[2])) for match in found if match)  # convolutions come first
    ordered = [f"{kind}{number}" for kind, number in layers]
    return dict(itertools.pairwise(ordered))


def options(sizes: Mapping[str, int]) -> dict[str, Any]:
    """The options of the model that has so many units in each layer.

    Raises:
      ValueError: hidden layers of different widths, for which there is no option.
    """
    hidden = {size for layer, size in sizes.items() if layer.startswith("fc")}
    channels = tuple(size for layer, size in sizes.items() if layer.startswith("conv"))
    if len(hidden) > 1:
        raise ValueError(f"all hidden layers have the same width; got {dict(sizes)}: prune all of them or none")
    return {"hidden": hidden.pop(), "channels": channels or None}


def masks(params: StateDict, keep: Mapping[str, Array]) -> dict[str, Array]:
    """Masks of the weights and biases that make the units.

    Without weights and bias a unit gives 0, also behind its activation and pooling.

    Args:
      params: all parameters.
      keep: layer -> (units,), True where one stays.
    """
    found = {}
    for layer, units in keep.items():
        for name in (f"{layer}.weight", f"{layer}.bias"):
            leaf = params[name]
            found[name] = jnp.broadcast_to(units.reshape(-1, *[1] * (leaf.ndim - 1)), leaf.shape)
    return found


def strongest(params: StateDict, sizes: Mapping[str, int]) -> dict[str, Array]:
    """Layer -> the numbers, in order, of as many units as ``sizes`` says, those with the largest weights (L2)."""
    found = {}
    for layer, size in sizes.items():
        order = jnp.argsort(unit_norms(params[f"{layer}.weight"]))  # stable, as the masks are
        found[layer] = jnp.sort(order[len(order) - size :])
    return found


def shrink(model: str, params: StateDict, keep: Mapping[str, Array]) -> dict[str, Array]:
    """The parameters of the model that has these units only: it computes what the larger does without the rest.

    Args:
      model: its name.
      params: of the larger one.
      keep: layer -> the numbers of its units that stay; layers that are not named keep all.

    Raises:
      ValueError: a layer that has no units to lose.
    """
    next_layer, smaller = readers(model, params), dict(params)
    if unknown := [layer for layer in keep if layer not in next_layer]:
        raise ValueError(f"{model} can lose units of {', '.join(next_layer)}; got {', '.join(unknown)}")
    for layer, units in keep.items():
        count = len(params[f"{layer}.bias"])
        for name in (f"{layer}.weight", f"{layer}.bias"):
            smaller[name] = jnp.take(smaller[name], units, axis=0)
        reader = f"{next_layer[layer]}.weight"
        weight = smaller[reader]
        # Behind a flattened image each channel has as many inputs as there are pixels, side by side.
        inputs = weight.reshape(weight.shape[0], count, -1, *weight.shape[2:])
        smaller[reader] = jnp.take(inputs, units, axis=1).reshape(weight.shape[0], -1, *weight.shape[2:])
    return smaller


def removal(model: str, whole: nnx.Module, left: nnx.Module) -> Callable[[tuple[PyTree, PyTree]], Any]:
    """``(params, stats)`` of the whole model -> those of one with as many units as ``left``, the strongest.

    Args:
      model: its name.
      whole, left: give sizes and layouts.
    """
    own = tree.flatten(nnx.to_pure_dict(nnx.state(left, nnx.Param)))
    sizes = {layer: len(own[f"{layer}.bias"]) for layer in readers(model, own)}

    def remove(parts: tuple[PyTree, PyTree]) -> tuple[PyTree, PyTree]:
        params, stats = parts
        theirs = weights.to_torch(whole, tree.flatten(params))
        smaller = weights.from_torch(left, shrink(model, theirs, strongest(theirs, sizes)))
        return tree.map_named(lambda name, _: smaller[name], params), stats

    return remove
