"""The document's network: so little work in a step that what counts is how a step is started."""

from benchmarks.claims import STRONGEST, Goal
from benchmarks.workloads.workload import Workload

WORKLOAD = Workload(
    title="Net 784-128-10, batch 64, SGD",
    name="Net",
    model="net",
    data="mnist",
    batch_size=64,
    lr=0.01,
    momentum=0.0,
    tolerances=(1e-3, 1e-2),
    rounds=4,
    goals=(
        Goal("epoch", "jaxdl", "torch-eager", cpu=2.5, gpu=30),
        Goal("epoch", "jaxdl", "torch-dataloader", cpu=4.0, gpu=60),
        Goal("epoch", "jaxdl", STRONGEST, cpu=1.5, gpu=3),
        Goal("epoch", "jaxdl", "scan", cpu=0.9, gpu=0.9),
        Goal("step", "scan", "torch-eager", cpu=2.5, gpu=30),
        Goal("step", "scan", STRONGEST, cpu=1.5, gpu=3),
        Goal("step", "scan", "step"),
        Goal("forward", "scan", STRONGEST),
        Goal("backward", "scan", STRONGEST),
        Goal("evaluation", "scan", STRONGEST),
    ),
)
