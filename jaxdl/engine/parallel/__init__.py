"""How a step is placed on devices and processes."""

from jaxdl.engine.parallel.devices import AXIS, MODEL, first_devices, local, make_mesh, replicate, shard, to_host
from jaxdl.engine.parallel.gradient import over_devices, per_device, synchronised
from jaxdl.engine.parallel.plan import Plan, make_plan
from jaxdl.engine.parallel.programs import eval_chunk, evaluator, pmap_chunk, train_chunk
from jaxdl.engine.parallel.shares import columns

__all__ = [
    "AXIS",
    "MODEL",
    "Plan",
    "columns",
    "eval_chunk",
    "evaluator",
    "first_devices",
    "local",
    "make_mesh",
    "make_plan",
    "over_devices",
    "per_device",
    "pmap_chunk",
    "replicate",
    "shard",
    "synchronised",
    "to_host",
    "train_chunk",
]
