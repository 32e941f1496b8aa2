"""What `parity.locate` finds: faults, and the tree of layers."""

import dataclasses

import numpy as np

from parity.verdict import Verdict


@dataclasses.dataclass(frozen=True)
class Fault:
    """Something that computes differently, when all before it computes the same.

    Attributes:
      kind: "weights", "layer", "glue", "loss", "backward", "variance", "buffers", "optimizer", "schedule",
        "updates" or "resume".
      place: torch's path of the layer, or of the layer that the glue leads to; empty where there is none.
      port: the same in the port.
      error: relative L2 of what comes out of it.
      detail: in a sentence.
      train: found in training mode.
      made: what came out in the port, with torch's axes; for `parity.diagnose`, as the rest.
      wanted: what came out in torch, where it is kept: gradients, and the loss.
      arrives: the glue leads to a layer; otherwise out of one.
      before: how many calls of `leaves` torch had finished.
      leaves: torch's paths of the innermost layers that have a counterpart.
    """

    kind: str
    place: str
    port: str
    error: float
    detail: str
    train: bool = False
    made: tuple[np.ndarray, ...] | None = dataclasses.field(default=None, repr=False, compare=False)
    wanted: tuple[np.ndarray, ...] | None = dataclasses.field(default=None, repr=False, compare=False)
    arrives: bool = False
    before: int = 0
    leaves: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Row:
    """A layer in both, for the tree: errors of what it gets, gives, and of the gradient by what it gives."""

    place: str
    port: str
    inputs: float
    outputs: float
    gradient: float
    verdict: Verdict


@dataclasses.dataclass(frozen=True)
class Location:
    """All faults, and the tree of layers.

    Attributes:
      faults: as they are met in the order of computation.
      rows: one a matched call, in the order in which torch's end.
      unmatched: layers of torch that the port has no counterpart of; the glue around them is judged.
    """

    faults: tuple[Fault, ...]
    rows: tuple[Row, ...]
    unmatched: tuple[str, ...] = ()
