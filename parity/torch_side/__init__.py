"""torch's side: runs the module through every phase and records what came out."""

from parity.torch_side.groups import describe, kind, tied
from parity.torch_side.phases import record
from parity.torch_side.returned import Returned
from parity.torch_side.side import TorchSide
from parity.torch_side.training import fed
from parity.torch_side.values import mapped, numpy, outputs
from parity.torch_side.weights import load, perturbed, starting, state

__all__ = [
    "Returned",
    "TorchSide",
    "describe",
    "fed",
    "kind",
    "load",
    "mapped",
    "numpy",
    "outputs",
    "perturbed",
    "record",
    "starting",
    "state",
    "tied",
]
