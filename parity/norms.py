"""Every norm on an input of large mean: a variance computed as E[x^2] - E[x]^2 loses its digits there.

At the mean of ordinary inputs such a norm agrees in float64 and fails in float32, so nothing else shows it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from parity import masks
from parity.align import all_closest
from parity.bridge import Bridge
from parity.flax_side import FlaxSide
from parity.forcing import forced
from parity.matching import match
from parity.torch_side import TorchSide, kind, outputs
from parity.trace import flax_calls, torch_calls
from parity.ways import NORMS

MEAN = 1e5  # times the spread


def large_mean(
    side: TorchSide, flax: FlaxSide, bridge: Bridge, noted: Mapping[str, Any], seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What torch's norms and the port's make, in training, of their own inputs moved by `MEAN` times their spread.

    Args:
      side, flax: both sides, with the same weights.
      bridge: between them.
      noted: the facts of torch's recording.
      seed: of the batch.

    Returns:
      Two times path of the norm -> output, with torch's axes; empty where there is no norm that both have.
    """
    modules = dict(side.start.named_modules())
    if not any(kind(module) in NORMS for module in modules.values()):
        return {}, {}
    theirs = torch_calls(side, seed=seed, train=True, gradients=False)
    given, wanted, shapes = {}, {}, {}
    for found in match(bridge, theirs, flax_calls(flax, noted, seed=seed, train=True, gradients=False)):
        call = found.torch
        if kind(modules[call.path]) not in NORMS or call.index or len(call.inputs) != 1 or not found.leaf:
            continue
        moved = (call.inputs[0] + MEAN * call.inputs[0].std(),)
        inputs, made = all_closest(moved, found.flax.inputs), all_closest(call.outputs, found.flax.outputs)
        if inputs is not None and made is not None:
            given[found.flax.name] = inputs, made
            wanted[found.flax.name] = call.path, _output(side, call.path, moved[0])
            shapes[found.flax.name] = call.outputs
    records, _ = forced(flax, noted, given, seed=seed, train=True)
    reference, port = {}, {}
    for name, (path, expected) in wanted.items():
        made = all_closest(records[name][1], shapes[name]) if name in records else None
        if made is not None:
            reference[path], port[path] = expected, made[0]
    return reference, port


def _output(side: TorchSide, path: str, x: np.ndarray) -> np.ndarray:
    module = dict(side.fresh().train().named_modules())[path]
    with torch.no_grad(), masks.in_torch(0, 0):
        made = outputs(module(side.tensor(x)))
    return next(iter(made.values())).double().cpu().numpy()
