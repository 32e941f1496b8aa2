"""Two convolutions and two linear layers."""

from benchmarks.claims import STRONGEST, Goal
from benchmarks.workloads.workload import Workload

WORKLOAD = Workload(
    title="CNN, batch 128, SGD with momentum",
    name="CNN",
    model="cnn",
    data="mnist",
    batch_size=128,
    lr=0.05,
    momentum=0.9,
    tolerances=(1e-2, 1e-1),
    rounds=5,
    goals=(
        Goal("epoch", "jaxdl", "torch-eager"),
        Goal("epoch", "jaxdl", "torch-dataloader"),
        Goal("epoch", "jaxdl", STRONGEST, cpu=1.0, gpu=1.15),
        Goal("epoch", "jaxdl", "scan", cpu=0.9, gpu=0.9),
        Goal("step", "scan", "torch-eager"),
        Goal("step", "scan", STRONGEST, cpu=1.0, gpu=1.15),
        Goal("step", "scan", "step"),
        Goal("forward", "scan", STRONGEST),
        Goal("backward", "scan", STRONGEST),
        Goal("evaluation", "scan", STRONGEST),
    ),
)
