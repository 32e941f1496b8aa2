"""A small vision transformer on images of the shape of CIFAR."""

from benchmarks.claims import STRONGEST, Goal
from benchmarks.workloads.workload import Workload

WORKLOAD = Workload(
    title="ViT, 32x32x3, batch 128, SGD with momentum",
    name="ViT",
    model="vit",
    data="cifar",
    examples=(50_000, 10_000),
    few=(1024, 500),
    batch_size=128,
    lr=0.01,
    momentum=0.9,
    tolerances=(2e-2, 2e-2),
    rounds=5,
    goals=(
        Goal("epoch", "jaxdl", "torch-dataloader"),
        Goal("epoch", "jaxdl", STRONGEST, gpu=1.0),
        Goal("epoch", "jaxdl", "scan", cpu=0.9, gpu=0.9),
        Goal("step", "scan", "torch-eager"),
        Goal("step", "scan", STRONGEST, gpu=1.0),
        Goal("forward", "scan", STRONGEST),
        Goal("backward", "scan", STRONGEST),
        Goal("evaluation", "scan", STRONGEST),
    ),
)
