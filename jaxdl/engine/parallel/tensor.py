"""Layers split over devices: each holds a part of every weight, and of what comes out of it.

Layers are split in turns by their outputs and by their inputs. The second kind takes the outputs of the first
where they lie, and one sum over the devices joins both. What has to be sent is XLA's affair: an array says where
it lies.

Source: Shoeybi et al. 2019, "Megatron-LM"; torch's ``parallelize_module`` with ``ColwiseParallel`` and
``RowwiseParallel``.
"""

from collections.abc import Mapping

from jax.sharding import Mesh, PartitionSpec

from jaxdl import tree
from jaxdl.engine.parallel.devices import MODEL, SMALL, put
from jaxdl.typing import Array, PyTree

# By the number of axes of a weight: the one of its outputs, the one of its inputs.
AXES = {2: (0, 1), 4: (3, 2)}


def split_layers(mesh: Mesh, values: PyTree) -> PyTree:
    """The arrays on the devices, those of layers split along the axis ``"model"``, all others replicated.

    Args:
      mesh: see `make_mesh`.
      values: parameters, alone or beside trees of the same names, as an optimizer's state has them.
    """
    names = tree.flatten(values)
    specs = layer_specs(names, mesh.shape[MODEL])
    return put(mesh, values, tree.map_named(lambda name, _: specs[name], values))


def layer_specs(arrays: Mapping[str, Array], parts: int) -> dict[str, PartitionSpec]:
    """How each array is split, by name.

    Args:
      arrays: by dotted name. Weights (out, in) and (h, w, in, out) are split, and the biases of layers that are
        split by outputs, but none that the devices do not divide or that has fewer numbers than it takes to send
        them.
      parts: into how many.
    """
    layers: dict[str, dict[str, Array]] = {}
    for name, array in arrays.items():
        layer, _, kind = name.rpartition(".")
        layers.setdefault(layer, {})[kind] = array
    specs, by_outputs = {name: PartitionSpec() for name in arrays}, True
    for layer, own in layers.items():
        for kind, weight in own.items():
            if weight.ndim not in AXES:
                continue
            axis = AXES[weight.ndim][0 if by_outputs else 1]
            if weight.size < SMALL or weight.shape[axis] % parts:
                by_outputs = True  # whole, and so is what comes out of it
                continue
            specs[_joined(layer, kind)] = PartitionSpec(*[None] * axis, MODEL)
            bias = kind.replace("weight", "bias")
            if by_outputs and bias in own and bias != kind:
                specs[_joined(layer, bias)] = PartitionSpec(MODEL)
            by_outputs = not by_outputs
    return specs


def _joined(layer: str, kind: str) -> str:
    return f"{layer}.{kind}" if layer else kind
