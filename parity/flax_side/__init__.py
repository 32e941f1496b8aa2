"""The port's side: runs the Flax module through every phase and records what came out, under torch's names."""

from parity.flax_side.phases import record
from parity.flax_side.precision import precise
from parity.flax_side.side import FlaxSide, converted
from parity.flax_side.values import arrays

__all__ = ["FlaxSide", "arrays", "converted", "precise", "record"]
