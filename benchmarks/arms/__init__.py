"""The contenders: a module each, run as a process that answers as `benchmarks.arms.contender.Contender`.

To add one, write the module and name it here. One that cannot run on a machine exits with the reason.
"""

from collections.abc import Mapping

ARMS: Mapping[str, str] = {
    "jaxdl": "benchmarks.arms.jaxdl_command",
    "scan": "benchmarks.arms.jax_scan",
    "step": "benchmarks.arms.jax_step",
    "torch-eager": "benchmarks.arms.torch_eager",
    "torch-dataloader": "benchmarks.arms.torch_dataloader",
    "torch-compile": "benchmarks.arms.torch_compile",
    "torch-compile-max": "benchmarks.arms.torch_compile_max",
    "torch-graph": "benchmarks.arms.torch_graph",
    "torch-graphs": "benchmarks.arms.torch_graphs",
    "torch-compile-graph": "benchmarks.arms.torch_compile_graph",
}
