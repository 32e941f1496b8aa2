"""The contenders: a module each, run as a process of its own that answers as `benchmarks.process.Arm`."""

ARMS = {
    "jaxdl": "benchmarks.arms.jaxdl_command",
    "scan": "benchmarks.arms.jax_scan",
    "torch-eager": "benchmarks.arms.torch_eager",
    "torch-dataloader": "benchmarks.arms.torch_dataloader",
}
